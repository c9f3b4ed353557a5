"""A file of a million rows, from the folder that is watched to the drift report.

The real workers of ingest, drift and trainer, broker and store. A small file comes first, of which
the first model and the reference are made. Then the large one is read, sorted out, kept in row
groups, counted group by group, and checked; how much memory that took is asked of the kernel.
Run: `python -m benchmarks.large_file`.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.large_batch import servers
from services.cli.embedded.process import Process
from services.cli.embedded.system import worker_command
from shared.celery_app import celery_app
from shared.events import IngestionDue, Stage, first_event_fields
from shared.records import Batch, ChunkCounts, DeadLetter, DriftReport
from shared.settings import read_settings
from shared.stage import Resources

T = TypeVar("T")

PIPELINE: Final = Path(__file__).parents[1] / "pipelines" / "air_quality.yaml"
POLLUTANTS: Final = ("CO", "NO2", "OZONE", "PM10", "PM2.5", "SO2", "NH3")
STATIONS: Final = 500
ROWS_AN_HOUR: Final = STATIONS * len(POLLUTANTS)
REFERENCE_HOURS: Final = 2
BEGIN: Final = datetime(2025, 1, 1)  # noqa: DTZ001 - the feed writes local times
STAGES: Final[tuple[Stage, ...]] = ("ingest", "drift", "trainer")
LONGEST_SECONDS: Final = 600.0
MOST_MIB: Final = {"ingest": 2_048, "drift": 512}
"""What docs/input.md states."""


@dataclass(frozen=True)
class Course:
    """How it went."""

    batch: Batch
    report: DriftReport
    chunks: int
    ingest_seconds: float
    check_seconds: float
    peak_mib: dict[str, int]
    """Stage -> the most that one of its processes had at any time."""


def write_rows(path: Path, rows: int, first_hour: int, *, bad: int = 0) -> None:
    """Rows of the feed, each of an hour, a station and a pollutant of its own; the last are bad."""
    generator = np.random.default_rng(first_hour)
    with path.open("w", encoding="utf-8") as file:
        file.write(
            "country,state,city,station,last_update,latitude,longitude,pollutant_id,"
            "pollutant_min,pollutant_max,pollutant_avg\n"
        )
        for begin in range(0, rows, ROWS_AN_HOUR):
            at = BEGIN + timedelta(hours=first_hour + begin // ROWS_AN_HOUR)
            lowest = generator.gamma(4, 6, ROWS_AN_HOUR).astype(int)
            average = lowest + generator.gamma(2, 6, ROWS_AN_HOUR).astype(int)
            for number in range(min(ROWS_AN_HOUR, rows - begin)):
                station, pollutant = divmod(number, len(POLLUTANTS))
                value = "broken" if begin + number >= rows - bad else average[number]
                file.write(
                    f'India,State_{station % 20},City {station % 90},"Station {station}, City '
                    f'{station % 90}",{at:%d-%m-%Y %H:%M:%S},{8 + station * 0.05:.6f},'
                    f"{69 + station * 0.05:.6f},{POLLUTANTS[pollutant]},"
                    f"{lowest[number]},{average[number] + 9},{value}\n"
                )
    os.utime(path, (0, 0))  # a file that was changed just now is left for the next reading


def _pipeline(folder: Path, chunk_rows: int) -> None:
    definition = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    definition["source"] = {"kind": "files", "path": str(folder / "watched")}
    definition["drift"]["chunk_rows"] = chunk_rows
    definition["training"]["parameters"] = {"n_estimators": 10, "min_samples_leaf": 5}
    for name in ("pipelines", "watched"):
        (folder / name).mkdir()
    text = yaml.safe_dump(definition, sort_keys=False)
    (folder / "pipelines" / "air_quality.yaml").write_text(text, encoding="utf-8")


@contextmanager
def _workers(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, Process]]:
    workers: dict[str, Process] = {}
    try:
        for stage in STAGES:
            command, log = worker_command(stage), folder / f"{stage}.log"
            workers[stage] = Process(stage, command, log, os.environ | environment)
            workers[stage].start()
        yield workers
    finally:
        for worker in workers.values():
            worker.stop()


def _peak_mib(worker: Process) -> int:
    """The most memory that the worker or one of its children ever had."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in (worker.pid, *children)]
    return max(int(kib) for each in statuses for kib in re.findall(r"VmHWM:\s*(\d+)", each)) // 1024


def measure(rows: int, chunk_rows: int, folder: Path, *, bad: int = 0) -> Course:
    """Take a file of so many rows in, and check it.

    Raises:
        TimeoutError: it takes longer than ten minutes.
        AssertionError: a stage gave something up.
    """
    _pipeline(folder, chunk_rows)
    with servers(folder) as addresses:
        key = {"MODEL_SIGNING_KEY": "a signing key for a benchmark"}
        settings = read_settings(
            **{name.lower(): value for name, value in addresses.items()}, _env_file=None
        )
        resources = Resources.attach(settings, celery_app(lambda: settings))
        with _workers(folder, addresses | key) as workers:
            write_rows(folder / "watched" / "reference.csv", REFERENCE_HOURS * ROWS_AN_HOUR, 0)
            _read_source(resources, 1)
            _awaited(resources, lambda: resources.store.reference("air_quality"))
            write_rows(folder / "watched" / "large.csv", rows, REFERENCE_HOURS, bad=bad)
            began = time.perf_counter()
            _read_source(resources, 2)
            batch = _awaited(resources, lambda: _second(resources, Batch))
            ingested = time.perf_counter()
            report = _awaited(resources, lambda: _second(resources, DriftReport))
            checked = time.perf_counter()
            peak_mib = {stage: _peak_mib(worker) for stage, worker in workers.items()}
        counted = {"sequence": 2}
        chunks = resources.store.collection(ChunkCounts).count_documents(counted)
        resources.close()
    return Course(batch, report, chunks, ingested - began, checked - ingested, peak_mib)


def _second(resources: Resources, kind: type[T]) -> T | None:
    return next(resources.store.find(kind, {"sequence": 2}), None)  # type: ignore[type-var]


def _read_source(resources: Resources, slot: int) -> None:
    at = datetime(2026, 1, 1, slot, tzinfo=UTC)
    resources.broker.send(IngestionDue(**first_event_fields("air_quality", "slot", slot), slot=at))


def _awaited(resources: Resources, look: Callable[[], T | None]) -> T:
    deadline = time.perf_counter() + LONGEST_SECONDS
    while time.perf_counter() < deadline:
        if letter := next(resources.store.find(DeadLetter, {}), None):
            raise AssertionError(f"{letter.stage} gave up: {letter.reason}")
        if found := look():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"nothing after {LONGEST_SECONDS:.0f} s")


def main() -> None:
    """Measure, print a table, and fail if a worker had more memory than is stated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chunk-rows", type=int, default=250_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
        course = measure(options.rows, options.chunk_rows, Path(folder), bad=10)
        megabytes = (Path(folder) / "watched" / "large.csv").stat().st_size / 1e6
    console = Console()
    console.print(
        f"{course.batch.rows_received:,} rows of 11 columns, {megabytes:.0f} MB of CSV; kept "
        f"{course.batch.rows:,} in {course.chunks} row groups; {course.report.verdict}"
    )
    shown = Table("worker", "seconds", "most memory, MiB", "stated, MiB")
    seconds = {"ingest": course.ingest_seconds, "drift": course.check_seconds}
    for stage, most in MOST_MIB.items():
        peak = course.peak_mib[stage]
        shown.add_row(stage, f"{seconds[stage]:.1f}", f"{peak:,}", f"{most:,}")
    console.print(shown)
    if any(course.peak_mib[stage] > most for stage, most in MOST_MIB.items()):
        raise SystemExit("more memory than docs/input.md states")


if __name__ == "__main__":
    main()
