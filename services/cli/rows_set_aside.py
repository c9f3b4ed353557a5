"""`trimtab history rows-set-aside`: the rows that a batch's schema refused, and why."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from services.cli.terminal import (
    DEFAULT_HOME,
    AsJson,
    Home,
    PipelineName,
    choose_pipeline,
    connect,
    console,
    print_json,
)
from shared.failures import WillNotPass

if TYPE_CHECKING:
    from services.ingest.set_aside import RefusedRow
    from shared.records import Batch
    from shared.store import Store

_SHOWN: Final = 60


@dataclass(frozen=True)
class RowsSetAside:
    """What a reading refused."""

    batch: "Batch"
    rows: "list[RefusedRow]"
    """The first of them."""


def rows_set_aside(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="BATCH",
            help="A batch's number, or the id of a reading's record.",
            show_default=False,
        ),
    ],
    pipeline: PipelineName = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many rows.")] = 20,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """The rows that were set aside: column, value, reason, and what is accepted."""
    with connect(home) as resources:
        name = choose_pipeline(resources.pipelines, pipeline)
        found = find_rows(resources.store, name, wanted, limit)
    if as_json:
        print_json(
            {
                "batch": found.batch.sequence,
                "id": found.batch.id,
                "rows_set_aside": found.batch.set_aside.rows,
                "rows": [asdict(row) for row in found.rows],
            }
        )
    else:
        console.print(in_words(found), soft_wrap=True)


def find_rows(store: "Store", pipeline: str, wanted: str, limit: int) -> RowsSetAside:
    """The first rows that a batch, or a reading without new rows, has set aside.

    Raises:
        WillNotPass: there is no such batch, or its rows are no longer kept.
    """
    from services.ingest.set_aside import load_refused
    from shared.records import Batch

    if wanted.isdecimal():
        query = {"pipeline": pipeline, "sequence": int(wanted)}
        batch = store.newest(Batch, query, "sequence")
    else:
        batch = store.get(Batch, wanted)
    if batch is None:
        raise WillNotPass(
            f"{pipeline} has no batch {wanted}; `trimtab history` lists the batches with their "
            "numbers"
        )
    data = batch.set_aside.data
    return RowsSetAside(batch, list(load_refused(store.blob(data), limit)) if data else [])


def in_words(found: RowsSetAside) -> str:
    """A few lines for each row; long values are shortened."""
    batch = found.batch
    what = f"batch {batch.sequence}" if batch.sequence else f"reading {batch.id}"
    if not batch.set_aside.rows:
        return f"{what}: no row was set aside"
    were = "row was" if batch.set_aside.rows == 1 else "rows were"
    lines = [f"{what}: {batch.set_aside.rows:,} {were} set aside"]
    for number, row in enumerate(found.rows, start=1):
        value = "" if row.value is None else f" {_quoted(row.value)}"
        accepted = f"; accepted: {row.accepted}" if row.accepted else ""
        lines.append(f"{number}. {row.column or 'row'}:{value} {row.reason}{accepted}")
        given = (f"{name}={_quoted(text)}" for name, text in row.row.items() if text is not None)
        lines.append(f"   {' '.join(given)}")
    if left_out := batch.set_aside.rows - len(found.rows):
        lines.append(f"{left_out:,} more: --limit shows them, --json shows whole values")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """The text in quotes, shortened; what a terminal would act on is escaped."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
