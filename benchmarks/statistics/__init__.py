"""How often the calibrated check is wrong, and what it finds: the figures of docs/statistics.md."""
