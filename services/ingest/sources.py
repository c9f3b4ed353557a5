"""What a pipeline's source answers now."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from services.ingest.data_gov_in import read_resource
from services.ingest.fetch import place
from services.ingest.files import read_new_files
from services.ingest.http_table import read_address
from shared.failures import WillNotPass
from shared.pipeline import DataGovInSource, FilesSource, HttpSource, Pipeline
from shared.records import WaitingFile
from shared.settings import Settings


@dataclass(frozen=True)
class Answer:
    """A table as published, and where it came from."""

    table: pd.DataFrame
    """Texts, with the source's column names."""
    source: str
    """In words, without credentials."""
    files: list[str] = field(default_factory=list)
    """Marks of the files whose rows are in the table."""
    files_set_aside: dict[str, str] = field(default_factory=dict)
    """Marks of the files that are no tables, with the reason."""
    files_waiting: dict[str, WaitingFile] | None = None
    """Files that could not be read and are tried again, by their marks; None: not a folder."""
    missing: int = 0
    """Rows that the source says it has, and did not answer."""


@dataclass(frozen=True)
class SeenFiles:
    """What earlier readings know of the files of a folder."""

    done: frozenset[str]
    """Marks of all files that were read or set aside."""
    waiting: dict[str, WaitingFile]
    """Files that could not be read at the last reading, by their marks."""


def read_source(
    pipeline: Pipeline, settings: Settings, seen_files: Callable[[], SeenFiles]
) -> Answer:
    """Read the pipeline's source. Only a folder may answer without rows: it has no new file.

    Args:
        seen_files: what earlier readings know of files; asked for where the source is a folder.

    Raises:
        WillPass: it does not answer at the moment.
        WillNotPass: it refuses, or answers something else than a table.
    """
    match pipeline.source:
        case DataGovInSource() as source:
            found = read_resource(source, settings, pipeline.data.spellings)
            where = f"data.gov.in resource {source.resource} ({source.format})"
            return Answer(found.rows, where, missing=found.missing)
        case HttpSource() as source:
            return Answer(read_address(source, pipeline.data.spellings), place(source.url))
        case FilesSource() as source:
            seen, now = seen_files(), datetime.now(UTC)
            new = read_new_files(source, pipeline.data, seen.done, seen.waiting, now)
            return Answer(new.table, f"files {source.path}", new.read, new.set_aside, new.waiting)
    raise WillNotPass(
        f"pipeline {pipeline.name!r} has no source to read; use `trimtab ingest FILE`"
    )
