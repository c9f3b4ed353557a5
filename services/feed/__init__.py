"""A stand-in for data.gov.in: the same HTTP protocol, served from simulated or recorded hours."""
