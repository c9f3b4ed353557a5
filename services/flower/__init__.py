"""Flower, the console that shows workers and tasks."""
