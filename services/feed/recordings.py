"""Recorded answers of the feed: every CSV file of a folder is one hour."""

import csv
from collections.abc import Iterable
from pathlib import Path

from services.feed.history import Row


class RecordedAnswers:
    """The `*.csv` files of a folder, oldest first by file name, their values as recorded."""

    def __init__(self, folder: Path) -> None:
        """Read every file once, so that a bad one is known before the first hour is served.

        Raises:
            ValueError: names the folder without a CSV file, or the file that is no CSV table.
        """
        if not folder.is_dir():
            raise ValueError(f"{folder}: not a folder")
        self._files = sorted(folder.glob("*.csv"), key=lambda path: path.name)
        if not self._files:
            raise ValueError(f"{folder}: no recorded answer (*.csv) in this folder")
        for path in self._files:
            read_recording(path)

    @property
    def hours(self) -> int:
        """The number of files."""
        return len(self._files)

    def rows(self, hour: int) -> list[Row]:
        """The rows of a file, from 0."""
        return read_recording(self._files[hour])


def read_recording(path: Path) -> list[Row]:
    """The rows of a recorded answer, every value as the text that it is.

    Raises:
        ValueError: the file is no CSV table in UTF-8; the text names the file and the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_rows(path, file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8: {error.reason}") from None
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as CSV: {error}") from None


def _read_rows(path: Path, lines: Iterable[str]) -> list[Row]:
    reader = csv.reader(lines, strict=True)
    header = next(reader, [])
    if len(header) < 2 or len(set(header)) < len(header):
        raise ValueError(f"{path}: the first line is no CSV header of distinct names")
    rows = []
    for values in reader:
        if not values:
            continue
        if len(values) != len(header):
            raise ValueError(
                f"{path}:{reader.line_num}: {len(values)} values under {len(header)} columns"
            )
        rows.append(dict(zip(header, values, strict=True)))
    if not rows:
        raise ValueError(f"{path}: a header without rows")
    return rows
