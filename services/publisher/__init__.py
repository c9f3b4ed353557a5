"""Puts each champion on a branch of a Git repository, as one commit."""
