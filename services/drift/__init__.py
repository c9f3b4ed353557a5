"""Asks of each batch whether the data has drifted from the reference, and keeps the reference."""
