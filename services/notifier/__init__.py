"""Tells people what happened, on every channel that is set, once."""
