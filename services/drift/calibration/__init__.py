"""The calibrated check: bins and counts, the tests of the cells, and their null distribution."""
