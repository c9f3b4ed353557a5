"""Reads a pipeline's source, sets bad rows aside, and keeps what is new as a batch."""
