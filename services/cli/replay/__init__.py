"""Recorded batches played through the stages' own handlers, without broker or database."""
