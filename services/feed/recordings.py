"""Recorded answers of the feed: every CSV file of a folder is one hour, oldest first by name."""

import csv
from functools import lru_cache
from pathlib import Path

from services.feed.history import Row


class RecordedAnswers:
    """Hours replayed from files, their values as recorded."""

    def __init__(self, folder: Path) -> None:
        """Find the files.

        Raises:
            ValueError: there are none.
        """
        self._files = sorted(folder.glob("*.csv"))
        if not self._files:
            raise ValueError(f"{folder}: no recorded answers (*.csv) here")
        self.hours: int | None = len(self._files)
        self.rows = lru_cache(maxsize=2)(self._rows)

    def _rows(self, hour: int) -> list[Row]:
        """The rows of a file.

        Raises:
            ValueError: it is not a CSV table in UTF-8; the text names it.
        """
        path = self._files[hour]
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: not a CSV table in UTF-8: {error}") from None
        if not rows or any(None in row or None in row.values() for row in rows):
            raise ValueError(f"{path}: no rows, or rows with more or fewer values than the header")
        return rows
