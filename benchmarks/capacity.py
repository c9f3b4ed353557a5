"""What each stage costs by the rows of a batch, and how many pipelines one worker of it carries.

The real workers on a real store and broker, one pipeline, batches from the same distribution; each
number of rows on a system of its own. Run: `python -m benchmarks.capacity`.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.load import Feed, Load, running_system
from shared.records import (
    Batch,
    DriftReport,
    ModelVersion,
    Notification,
    Publication,
    Record,
    Reference,
)

ROWS: Final = (300, 3_300, 33_000)
BATCHES: Final = 30
TABLES: Final[dict[str, type[Record]]] = {
    "ingest: a reading": Batch,
    "drift: a check": DriftReport,
    "drift: a new reference": Reference,
    "trainer: a training on one batch": ModelVersion,
    "publisher: a commit": Publication,
    "notifier: a message": Notification,
}
HOUR: Final = 3600.0
BUSY: Final = 0.5
"""The share of its time that a worker is to have work: then little waits for long."""
_PUBLISHED_SECONDS: Final = 60.0


def measure(rows: int, batches: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each stage's handler (medians), and MB of each worker."""
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
        feed = Feed(rows)
        try:
            with running_system(Path(folder), feed.url, pipelines=1) as (load, _):
                load.play(batches)
                _wait_for_a_message(load)
                seconds = {name: load.handled_seconds(kind) for name, kind in TABLES.items()}
                return {
                    name: statistics.median(took) for name, took in seconds.items()
                }, load.memory()
        finally:
            feed.close()


def _wait_for_a_message(load: Load) -> None:
    deadline = time.monotonic() + _PUBLISHED_SECONDS
    while not load.handled_seconds(Notification) or not load.handled_seconds(Publication):
        if time.monotonic() > deadline:
            raise SystemExit("no commit or no message; see the workers' logs")
        time.sleep(0.1)


def main() -> None:
    """Print both tables."""
    console = Console(width=120)
    measured = {rows: measure(rows, BATCHES) for rows in ROWS}
    costs = Table("seconds", *(f"{rows:,} rows" for rows in ROWS))
    carried = Table(f"an hour, {BUSY:.0%} busy", *(f"{rows:,} rows" for rows in ROWS))
    for name in TABLES:
        seconds = [costs_of[name] for costs_of, _ in measured.values()]
        costs.add_row(name, *(f"{each:.3f}" for each in seconds))
        carried.add_row(name, *(f"{BUSY * HOUR / each:,.0f}" for each in seconds))
    memory = Table("MB", *(f"{rows:,} rows" for rows in ROWS))
    for stage in ("ingest", "drift", "trainer", "publisher", "notifier"):
        memory.add_row(stage, *(f"{of_stage[stage]:.0f}" for _, of_stage in measured.values()))
    for table in (costs, carried, memory):
        console.print(table)


if __name__ == "__main__":
    main()
