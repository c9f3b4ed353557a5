"""A history of the feed: for each hour the rows that it answers."""

from typing import Protocol

Row = dict[str, str]


class History(Protocol):
    """Hours of the feed, counted from 0."""

    @property
    def hours(self) -> int | None:
        """How many there are; none if there is no end."""

    def rows(self, hour: int) -> list[Row]:
        """The rows of an hour, as published: every value a text, NA for a missing one."""
