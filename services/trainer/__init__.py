"""Trains a challenger when asked to, judges it against the champion, and promotes or rejects it."""
