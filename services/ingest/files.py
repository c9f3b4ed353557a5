"""A file, or a folder that is watched for new files."""

import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import pandas as pd
import structlog

from services.ingest.rows import named_by_schema
from services.ingest.tables import read_file
from services.ingest.waiting import waits_longer
from shared.failures import WillNotPass, WillPass
from shared.pipeline import FilesSource, Schema
from shared.records import WaitingFile
from shared.tables.content import UnreachableFile

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
    waiting: dict[str, WaitingFile] = field(default_factory=dict)
    """Files that could not be read and are tried again, by their marks."""


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


def read_new_files(
    source: FilesSource,
    schema: Schema,
    known: frozenset[str],
    waited: Mapping[str, WaitingFile],
    now: datetime,
) -> NewFiles:
    """The rows of all files that are not known yet, oldest file first, under the schema's names.

    A file that is no table, or lacks a column, is set aside until it is changed. One that the
    machine does not let us read waits for another try. The others are read all the same.

    Args:
        waited: the files that waited at the last reading.

    Raises:
        WillPass: the folder cannot be read now.
        WillNotPass: the file or folder is not there.
    """
    tables: list[pd.DataFrame] = []
    read: list[str] = []
    set_aside: dict[str, str] = {}
    begun = time.perf_counter()
    found, unreachable = _candidates(source)
    waiting = {mark: _still_waiting(mark, why, waited, now) for mark, why in unreachable.items()}
    for file in sorted(found):
        if file.mark in known or not file.is_settled:
            continue
        if (before := waited.get(file.mark)) and now < before.next_try_at:
            waiting[file.mark] = before
            continue
        try:
            tables.append(named_by_schema(read_file(file.path, schema.spellings), schema))
            read.append(file.mark)
        except UnreachableFile as error:
            waiting[file.mark] = _still_waiting(file.mark, str(error), waited, now)
        except WillNotPass as error:
            set_aside[file.mark] = str(error)
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if read or set_aside:
        seconds = round(time.perf_counter() - begun, 3)
        log.info("source read", files=len(read), rows=len(table), seconds=seconds)
    return NewFiles(table, read, set_aside, waiting)


def _still_waiting(
    mark: str, reason: str, waited: Mapping[str, WaitingFile], now: datetime
) -> WaitingFile:
    waiting = waits_longer(waited.get(mark), reason, now)
    log.warning("a file cannot be read and waits", file=mark, reason=reason, tries=waiting.tries)
    return waiting


def _candidates(source: FilesSource) -> tuple[list[_Found], dict[str, str]]:
    """The files that are there, and the names of those of which nothing else can be learnt: why."""
    try:
        paths, folder = _paths(source)
    except OSError as error:
        raise WillPass(f"source.path: {source.path} cannot be read: {error.strerror}") from None
    found: list[_Found] = []
    unreachable: dict[str, str] = {}
    for path in paths:
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        try:
            state = path.stat()
        except FileNotFoundError:  # a link to nothing, or moved away since it was listed
            continue
        except OSError as error:
            unreachable[name] = f"{name}: cannot be read: {error.strerror}"
            continue
        if stat.S_ISREG(state.st_mode):
            found.append(_Found(state.st_mtime_ns, name, state.st_size, path))
    return found, unreachable


def _paths(source: FilesSource) -> tuple[list[Path], Path]:
    """The paths to look at, and the folder that their names begin in."""
    if source.path.is_file():
        return [source.path], source.path.parent
    if source.path.is_dir():
        return _visible(source), source.path
    raise WillNotPass(f"source.path: {source.path} is neither a file nor a folder")


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
