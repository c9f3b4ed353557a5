"""`trimtab check` and `trimtab profile`: one file against another, without a server."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread, Timer
from time import monotonic
from typing import TYPE_CHECKING, Final

from services.drift import Profile
from services.drift.one_shot import check_chunks
from services.drift.report.model import DriftReport, QuestionableColumn
from services.drift.tables.batch import compared_columns, each_once
from services.drift.tables.files import open_table, some_of, with_numbers
from services.drift.tables.frame import Frame, Tabular
from services.drift.tables.roles import Roles, infer_roles, roles_of, with_flags
from shared.drift import Drift
from shared.failures import WillNotPass, shortened
from shared.gunzip import GzipRefused
from shared.tables.content import opened
from shared.wording import percent

if TYPE_CHECKING:
    from services.ingest.rows import Rows
    from shared.pipeline import Pipeline

LINE_SECONDS: Final = 10.0
"""Seconds from one line to the next, where there is no terminal."""

_PATIENCE_SECONDS: Final = 1.0
_PROFILE_MARK: Final = b'{"format":"trimtab-profile/'

Progress = Callable[[float], None] | None
"""Is told the share of the work that is done, from 0 to 1."""


class BadInput(ValueError):
    """What was given cannot be checked; the text says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(shortened(reason))


@dataclass(frozen=True)
class Stated:
    """What the command line says of the columns; what it does not is read off the reference."""

    pipeline: Path | None = None
    """A pipeline's file, which says all of it."""
    segment: str | None = None
    cluster: tuple[str, ...] = ()
    target: str | None = None


@dataclass(frozen=True)
class _Current:
    """The rows to check."""

    chunks: Iterable[Tabular]
    names: Callable[[], Collection[str]]
    """The columns; all of them are known once the chunks are read."""
    set_aside: Mapping[str, int]
    """What is wrong with rows -> how many; known likewise."""
    nested: Collection[str] = ()
    """Columns of lists or objects; known likewise."""


def check_files(reference: Path, current: Path, stated: Stated) -> DriftReport:
    """Ask whether the rows of a file have drifted from a reference.

    A column that the file does not have is missing in every row.

    Args:
        reference: a table, or a profile that `trimtab profile` made of one.
        current: a table.
        stated: the columns' roles; with a pipeline also its schema, which sets rows aside, and α.

    Raises:
        BadInput: a file cannot be read, or does not fit the other or what is stated.
    """
    with _expected_errors():
        pipeline = _pipeline(stated)
        profile, broken = _profile(reference, stated, pipeline)
        rows = _current(current, profile.roles, pipeline)
        report = check_chunks(
            profile,
            rows.chunks,
            settings=pipeline.drift if pipeline else Drift(),
            name=f"{current.name} against {reference.name}",
            names=rows.names,
        )
        _refuse_nothing_in_common(profile.roles, rows.names(), current)
    notes = [*_about_rows(reference, broken), *_about_rows(current, rows.set_aside)]
    return report.model_copy(
        update={
            "rows_set_aside": sum(rows.set_aside.values()),
            "questionable_columns": each_once(
                [*report.questionable_columns, *map(_not_compared, rows.nested)]
            ),
            "assumptions": [*report.assumptions, *notes],
        }
    )


def _not_compared(name: str) -> QuestionableColumn:
    return QuestionableColumn(
        name=name,
        done="missing in every row",
        why="lists or objects of the batch cannot be compared; give each of their values a column",
    )


def write_profile(reference: Path, output: Path, stated: Stated, progress: Progress) -> Profile:
    """Write the profile of a table to a file; see `check_files`.

    Raises:
        BadInput: a file cannot be read or written, or does not fit what is stated.
    """
    if _is_profile(reference):
        raise BadInput(f"{reference}: is a profile already")
    with _expected_errors():
        profile = _fitted(reference, stated, _pipeline(stated))[0].complete(progress)
    _write(output, profile.to_bytes())
    return profile


def write_html(report: DriftReport, output: Path) -> None:
    """Write the report as a page.

    Raises:
        BadInput: the file cannot be written.
    """
    from services.drift.report.page import render_html

    _write(output, render_html(report).encode())


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def _expected_errors() -> Iterator[None]:
    try:
        yield
    except WillNotPass as error:
        raise BadInput(str(error)) from None


def _pipeline(stated: Stated) -> "Pipeline | None":
    if stated.pipeline is None:
        return None
    from shared.pipeline import PipelineError, load_pipeline

    if stated != Stated(stated.pipeline):
        raise BadInput("--pipeline says what --segment, --cluster and --target are; leave them out")
    try:
        return load_pipeline(stated.pipeline)
    except PipelineError as error:
        raise BadInput(str(error)) from None


def _profile(
    path: Path, stated: Stated, pipeline: "Pipeline | None"
) -> tuple[Profile, Mapping[str, int]]:
    """The reference's profile, and what was wrong with rows that are not in it."""
    if not _is_profile(path):
        return _fitted(path, stated, pipeline)
    try:
        profile = Profile.load(path)
    except (ValueError, OSError) as error:
        raise BadInput(f"{path}: {error}") from None
    _refuse_contradiction(path, profile.roles, stated, pipeline)
    return profile, {}


def _is_profile(path: Path) -> bool:
    """Whether a file's content begins like a profile's, whatever its name."""
    try:
        with opened(path) as file:
            return file.read(len(_PROFILE_MARK)) == _PROFILE_MARK
    except (OSError, GzipRefused):
        return False


def _fitted(
    path: Path, stated: Stated, pipeline: "Pipeline | None"
) -> tuple[Profile, Mapping[str, int]]:
    if pipeline:
        rows = _valid_rows(path, pipeline)
        frame = _with_rows(path, Frame.of(rows.valid))
        return Profile.fit(frame, roles=with_flags(roles_of(pipeline), frame)), rows.reasons
    file = open_table(path)
    frame = _with_rows(path, Frame(file.table()))
    try:
        roles = infer_roles(
            frame, segment=stated.segment, cluster=stated.cluster, target=stated.target
        )
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    profile = Profile.fit(with_numbers(frame.table, roles.numbers), roles=roles)
    return profile, file.set_aside


def _with_rows(path: Path, frame: Frame) -> Frame:
    if not frame.rows:
        raise BadInput(f"{path}: the reference has no rows")
    return frame


def _refuse_contradiction(
    path: Path, roles: Roles, stated: Stated, pipeline: "Pipeline | None"
) -> None:
    """A profile cannot be read with other roles than those it was made with."""
    made = _names_by_role(roles)
    if pipeline:
        said = _names_by_role(roles_of(pipeline))
    else:
        said = {role: names for role, names in _names_by_role(stated).items() if names}
    for role, names in said.items():
        if names != made[role]:
            raise BadInput(
                f"{path}: this profile was made with {role} {_spelt(made[role])}, not "
                f"{_spelt(names)}; make another with `trimtab profile`"
            )


def _names_by_role(roles: Roles | Stated) -> dict[str, frozenset[str]]:
    named = {
        "segment": frozenset(filter(None, [roles.segment])),
        "cluster": frozenset(roles.cluster),
        "target": frozenset(filter(None, [roles.target])),
    }
    if isinstance(roles, Roles):
        named |= {"numbers": frozenset(roles.numbers), "categories": frozenset(roles.categories)}
    return named


def _spelt(names: frozenset[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"


def _current(path: Path, roles: Roles, pipeline: "Pipeline | None") -> _Current:
    if pipeline:
        rows = _valid_rows(path, pipeline)
        return _Current([Frame.of(rows.valid)], lambda: [*pipeline.data.columns], rows.reasons)
    file = open_table(path)
    chunks = file.chunks([*compared_columns(roles), *roles.cluster], roles.numbers)
    return _Current(chunks, lambda: file.names, file.set_aside, file.nested)


def _valid_rows(path: Path, pipeline: "Pipeline") -> "Rows":
    """The rows as the pipeline's ingestion would keep them."""
    from services.ingest.rows import validate_rows
    from services.ingest.tables import read_file

    table = read_file(path, pipeline.data.spellings)
    rows = validate_rows(table, pipeline.data, datetime.now(UTC))
    share = len(rows.refused) / max(len(table), 1)
    if share > pipeline.data.max_bad_share:
        raise BadInput(
            f"{path}: {percent(share)} of the rows break the pipeline's schema, most often "
            f"'{next(iter(rows.reasons))}'; schema.max_bad_share allows "
            f"{percent(pipeline.data.max_bad_share)}"
        )
    return rows


def _refuse_nothing_in_common(roles: Roles, names: Collection[str], path: Path) -> None:
    compared = compared_columns(roles)
    if not frozenset(compared).intersection(names):
        raise BadInput(
            f"{path}: has no column in common with the reference, which has {some_of(compared)}; "
            f"the file has {some_of(names) or 'none'}"
        )


def _about_rows(path: Path, set_aside: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each kind of rows that no figure counts."""
    for fault, rows in set_aside.items():
        yield f"{path.name}: {rows:,} {'row is' if rows == 1 else 'rows are'} left out: {fault}."


@contextmanager
def shown_progress(what: str) -> Iterator[Progress]:
    """Tells on stderr that long work goes on: by a bar, or by lines where there is no terminal.

    Args:
        what: is done, such as 'comparing'.
    """
    if sys.stderr.isatty():
        with _bar(what) as progress:
            yield progress
    else:
        with _lines(what) as progress:
            yield progress


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    from rich.progress import Progress as ProgressBar

    from services.cli.literal import Console

    bar = ProgressBar(console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)
    start = Timer(_PATIENCE_SECONDS, bar.start)
    start.start()
    try:
        yield lambda share: bar.update(task, total=1.0, completed=share)
    finally:
        start.cancel()
        start.join()
        bar.stop()


@contextmanager
def _lines(what: str) -> Iterator[Progress]:
    done = Event()
    shares: list[float] = []

    def tell() -> None:
        started = monotonic()
        while not done.wait(LINE_SECONDS):
            share = f", {percent(shares[-1])} done" if shares else ""
            seconds = monotonic() - started
            sys.stderr.write(f"trimtab: {what} for {seconds:.0f} seconds{share}\n")
            sys.stderr.flush()

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield shares.append
    finally:
        done.set()
        teller.join()
