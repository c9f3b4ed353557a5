"""Tells people what the loop does: on Discord, on any channel that Apprise knows, or in print."""
