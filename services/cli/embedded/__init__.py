"""The whole system on one machine: no Docker, no root, the same workers over the same protocols."""
