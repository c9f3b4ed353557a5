"""A file, or a folder that is watched for new files."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from services.ingest.tables import UnreadableTable, read_file
from shared.failures import WillNotPass
from shared.pipeline import FilesSource

_SETTLED_SECONDS: Final = 2.0
"""A file changed more recently may still be being written."""


@dataclass(frozen=True)
class NewFiles:
    """The files that were not read before."""

    table: pd.DataFrame
    read: list[str] = field(default_factory=list)
    """Marks of the files whose rows are in the table."""
    set_aside: dict[str, str] = field(default_factory=dict)
    """Marks of the files that are no tables, with the reason."""


def read_new_files(source: FilesSource, known: frozenset[str]) -> NewFiles:
    """The rows of all files that are not known yet, oldest file first.

    A file that cannot be read is set aside; the others are read all the same.

    Raises:
        WillNotPass: the file or folder is not there.
    """
    tables: list[pd.DataFrame] = []
    read: list[str] = []
    set_aside: dict[str, str] = {}
    for path in _candidates(source):
        mark = mark_of(path)
        if mark in known:
            continue
        try:
            tables.append(read_file(path))
            read.append(mark)
        except UnreadableTable as error:
            set_aside[mark] = str(error)
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return NewFiles(table, read, set_aside)


def mark_of(path: Path) -> str:
    """What tells one state of a file from another: name, size, time of change."""
    state = path.stat()
    return f"{path.name} {state.st_size} {state.st_mtime_ns}"


def _candidates(source: FilesSource) -> list[Path]:
    if source.path.is_file():
        found = [source.path]
    elif source.path.is_dir():
        found = [path for path in source.path.glob(source.pattern) if path.is_file()]
    else:
        raise WillNotPass(f"source.path: {source.path} is neither a file nor a folder")
    before = time.time() - _SETTLED_SECONDS
    settled = [
        (path.stat().st_mtime, path.name, path)
        for path in found
        if not path.name.startswith(".") and path.stat().st_mtime < before
    ]
    return [path for _, _, path in sorted(settled)]
