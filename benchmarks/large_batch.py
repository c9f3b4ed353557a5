"""One large batch, checked by one drift worker and by two: the real workers, broker and store.

Each worker has a core of its own, as if it were on a machine of its own. Both check the same rows
in turn, and have to come to the same counts. Run: `python -m benchmarks.large_batch`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.drift.tables import SEGMENT, Shape, table
from services.cli.embedded.process import Process
from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import worker_command
from services.drift.reference import adopt_reference
from services.ingest.batch import chunk_events
from shared.celery_app import celery_app
from shared.events import (
    BatchIngested,
    Event,
    IngestionDue,
    ModelPromoted,
    RetrainRequested,
    Sha256,
    caused_fields,
    effect_id,
    first_event_fields,
)
from shared.operators import make_key
from shared.outcome import record_fields
from shared.records import Batch, DriftReport, ModelVersion
from shared.settings import read_settings
from shared.stage import Resources

SHAPE: Final = Shape()
REFERENCE_ROWS: Final = 10_000
CHUNK_ROWS: Final = 1_000_000
LONGEST_SECONDS: Final = 300.0


class Check:
    """Has the same rows checked again and again, each time as another batch."""

    def __init__(self, resources: Resources, rows: int, data: Sha256) -> None:
        self._resources = resources
        self._rows = rows
        self._data = data
        self._sequence = 1

    def seconds(self) -> tuple[float, DriftReport]:
        """From the batch being in the store to its report being there."""
        self._sequence += 1
        due = _due(self._sequence)
        event = BatchIngested(
            **caused_fields(due, "ingest", BatchIngested),
            sequence=self._sequence,
            rows=self._rows,
            data=self._data,
        )
        events: tuple[Event, ...] = (*chunk_events(due, event, CHUNK_ROWS), event)
        batch = Batch(
            **record_fields(due, "ingest"),
            outcome="ingested",
            sequence=self._sequence,
            data=self._data,
            rows=self._rows,
            rows_received=self._rows,
            source="a benchmark",
        )
        store, broker = self._resources.store, self._resources.broker
        started = time.perf_counter()
        store.record(batch, events)
        for each in events:
            broker.send(each)
        store.mark_sent(batch)
        while time.perf_counter() < started + LONGEST_SECONDS:
            if report := store.get(DriftReport, effect_id("drift", event.event_id)):
                return time.perf_counter() - started, report
            time.sleep(0.01)
        raise TimeoutError(f"no report after {LONGEST_SECONDS:.0f} s")


def _due(number: int) -> IngestionDue:
    return IngestionDue(**first_event_fields("large", number), slot=datetime.now(UTC))


def _parquet(rows: int, seed: int) -> bytes:
    """Rows in row groups as the ingest stage writes them."""
    generator = np.random.default_rng(seed)
    sink = BytesIO()
    schema = table(1, generator, SHAPE).schema
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for start in range(0, rows, CHUNK_ROWS):
            writer.write_table(table(min(CHUNK_ROWS, rows - start), generator, SHAPE))
    return sink.getvalue()


def _pipeline(folder: Path) -> Path:
    numbers = [f"x{column}" for column in range(SHAPE.numbers)]
    categories = [SEGMENT, *(f"c{column}" for column in range(len(SHAPE.other_categories)))]
    definition = {
        "name": "large",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {name: {"type": "number"} for name in numbers}
            | {name: {"type": "category"} for name in categories}
        },
        "drift": {
            "segment": SEGMENT,
            "windows": [1],
            "chunk_rows": CHUNK_ROWS,
            "trigger": "data",
        },
        "training": {
            "target": numbers[0],
            "task": "regression",
            "features": [*numbers[1:], *categories],
        },
    }
    file = folder / "pipelines" / "large.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(definition), encoding="utf-8")
    return file


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    mongo, valkey = (
        Mongo(folder / "mongo", "drift_detection"),
        Valkey(folder / "valkey", "drift_detection:"),
    )
    try:
        mongo.start()
        valkey.start()
        yield {
            "MONGODB_URI": mongo.uri,
            "REDIS_URL": valkey.url,
            "PIPELINES": str(folder / "pipelines"),
            "EVENT_KEY": "a key of this benchmark alone",
            "OPERATORS": make_key("nobody")[1],
        }
    finally:
        for server in (mongo, valkey):
            if server.process:
                server.process.stop()


@contextmanager
def _workers(number: int, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    workers = []
    try:
        for core in range(number):
            command = [*worker_command("drift"), "-n", f"drift{core}@benchmark"]
            log = folder / f"drift{core}.log"
            workers.append(Process(f"drift{core}", command, log, os.environ | environment))
            workers[-1].start()
            os.sched_setaffinity(workers[-1].pid or 0, {core})
        yield
    finally:
        for worker in workers:
            worker.stop()


def _adopt(resources: Resources) -> None:
    """A reference, as the first model brings it."""
    request = RetrainRequested(
        **caused_fields(_due(1), "drift", RetrainRequested),
        reason="first_model",
        reference_version=None,
        sequence=1,
        rows=REFERENCE_ROWS,
        drift_score=None,
    )
    promoted = ModelPromoted(
        **caused_fields(request, "trainer", ModelPromoted),
        model_version=1,
        sequence=1,
        window=resources.store.put_blob(_parquet(REFERENCE_ROWS, seed=1)),
        window_rows=REFERENCE_ROWS,
    )
    model = ModelVersion(
        **record_fields(request, "trainer"),
        version=1,
        decision="promoted",
        reason="a benchmark",
        model=promoted.window,
        seal="",
        model_bytes=0,
        metrics={},
        champion_version=None,
        window=promoted.window,
        sequence=1,
        drift_report="",
        lineage={},
    )
    resources.store.record(model)
    outcome = adopt_reference(promoted, resources.pipelines["large"], resources.store)
    resources.store.record(outcome.record)


def measure(rows: int, rounds: int, folder: Path, console: Console) -> dict[int, list[float]]:
    """Number of workers -> seconds of each round; the first check of each is not counted."""
    _pipeline(folder)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with servers(folder) as environment:
        settings = read_settings(
            **{name.lower(): value for name, value in environment.items()}, _env_file=None
        )
        resources = Resources.attach(settings, celery_app(lambda: settings))
        _adopt(resources)
        parquet = _parquet(rows, seed=2)
        console.print(f"{rows:,} rows, {len(parquet) / 1e6:.0f} MB of Parquet")
        check = Check(resources, rows, resources.store.put_blob(parquet))
        found = set()
        for number in seconds:
            with _workers(number, folder, environment):
                check.seconds()
                for _ in range(rounds):
                    taken, report = check.seconds()
                    seconds[number].append(taken)
                    found.add((report.verdict, report.p, report.counts))
                    console.print(f"{number} worker(s): {taken:.2f} s, {report.verdict}")
        resources.close()
    if len(found) != 1:
        raise AssertionError(f"the workers disagree: {found}")
    return seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("two workers are compared with one: this takes two cores")
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
        seconds = measure(arguments.rows, arguments.rounds, Path(folder), console)
    alone = statistics.median(seconds[1])
    shown = Table("drift workers", "median s", "least", "most", "million rows/s", "times as fast")
    for number, taken in seconds.items():
        median = statistics.median(taken)
        shown.add_row(
            str(number),
            f"{median:.2f}",
            f"{min(taken):.2f}",
            f"{max(taken):.2f}",
            f"{arguments.rows / median / 1e6:.2f}",
            f"{alone / median:.2f}",
        )
    console.print(shown)


if __name__ == "__main__":
    main()
