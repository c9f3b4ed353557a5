"""A file, or a folder that is watched for new files."""

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
import structlog

from services.ingest.rows import named_by_schema
from services.ingest.tables import read_file
from shared.failures import WillNotPass
from shared.pipeline import FilesSource, Schema

log = structlog.get_logger(__name__)

_SETTLED_SECONDS: Final = 2.0
"""A file changed more recently may still be being written."""


@dataclass(frozen=True)
class NewFiles:
    """The files that were not read before."""

    table: pd.DataFrame
    read: list[str] = field(default_factory=list)
    """Marks of the files whose rows are in the table."""
    set_aside: dict[str, str] = field(default_factory=dict)
    """Marks of the files that are no tables of the schema, with the reason."""


@dataclass(frozen=True, order=True)
class _Found:
    """A file, ordered by its age."""

    changed_ns: int
    name: str
    size: int
    path: Path

    @property
    def mark(self) -> str:
        """What tells one state of the file from another."""
        return f"{self.name} {self.size} {self.changed_ns}"

    @property
    def is_settled(self) -> bool:
        # a time in the future is another machine's clock, not a file being written
        return abs(time.time() - self.changed_ns / 1e9) >= _SETTLED_SECONDS


def read_new_files(source: FilesSource, schema: Schema, known: frozenset[str]) -> NewFiles:
    """The rows of all files that are not known yet, oldest file first, under the schema's names.

    A file that cannot be read, or lacks a column, is set aside until it is changed; the others are
    read all the same.

    Raises:
        WillNotPass: the file or folder is not there.
    """
    tables: list[pd.DataFrame] = []
    read: list[str] = []
    set_aside: dict[str, str] = {}
    begun = time.perf_counter()
    for file in sorted(_candidates(source)):
        if file.mark in known or not file.is_settled:
            continue
        try:
            tables.append(named_by_schema(read_file(file.path), schema))
            read.append(file.mark)
        except WillNotPass as error:
            set_aside[file.mark] = str(error)
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if read or set_aside:
        seconds = round(time.perf_counter() - begun, 3)
        log.info("source read", files=len(read), rows=len(table), seconds=seconds)
    return NewFiles(table, read, set_aside)


def _candidates(source: FilesSource) -> Iterator[_Found]:
    if source.path.is_file():
        paths, folder = [source.path], source.path.parent
    elif source.path.is_dir():
        paths, folder = _visible(source), source.path
    else:
        raise WillNotPass(f"source.path: {source.path} is neither a file nor a folder")
    for path in paths:
        try:
            state = path.stat()
        except FileNotFoundError:  # a link to nothing, or moved away since it was listed
            continue
        if not stat.S_ISREG(state.st_mode):
            continue
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        yield _Found(state.st_mtime_ns, name, state.st_size, path)


def _visible(source: FilesSource) -> list[Path]:
    try:
        found = list(source.path.glob(source.pattern))
    except (ValueError, NotImplementedError) as error:
        raise WillNotPass(f"source.pattern: {error}") from None
    return [
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(source.path).parts)
    ]
