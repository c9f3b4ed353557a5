"""A fit that never ends, in a real worker: the time limit ends it, says why, and work goes on."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.embedded.process import Process
from shared.events import (
    BatchIngested,
    IngestionDue,
    RetrainRequested,
    WorkFailed,
    caused_fields,
    effect_id,
    first_event_fields,
)
from shared.frames import to_parquet
from shared.outcome import record_fields
from shared.pipeline import Pipeline, load_pipeline
from shared.records import Batch, DeadLetter
from shared.stage import Resources
from tests.air_quality_rows import batch_rows, raw_rows
from tests.conftest import AIR_QUALITY
from tests.worker_processes import place, started

LIMIT_SECONDS = 10
ENDLESS = {"window": "all", "parameters": {"n_estimators": 10_000_000, "min_samples_leaf": 1}}


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    """A folder with one pipeline, whose forest no time suffices for."""
    definition = yaml.safe_load(AIR_QUALITY.read_text(encoding="utf-8"))
    definition["training"] |= ENDLESS
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / AIR_QUALITY.name).write_text(yaml.safe_dump(definition), encoding="utf-8")
    return folder


@pytest.fixture
def worker(pipelines: Path, resources: Resources, tmp_path: Path) -> Iterator[Process]:
    """The trainer's worker, as in the embedded system, with the shortest time limit there is."""
    settings = {
        **place(resources.settings),
        "MODEL_SIGNING_KEY": "a signing key for tests only",
        "PIPELINES": str(pipelines),
        "TASK_TIME_LIMIT_SECONDS": str(LIMIT_SECONDS),
    }
    process = started("trainer", settings, tmp_path / "trainer.log")
    yield process
    process.stop()


def test_time_limit_ends_a_fit_with_its_reason_and_the_worker_goes_on(
    worker: Process, pipelines: Path, resources: Resources
) -> None:
    endless = request(resources, load_pipeline(pipelines / AIR_QUALITY.name))
    resources.broker.send(endless)
    letter = letter_of(endless, resources, worker)
    assert f"took longer than TASK_TIME_LIMIT_SECONDS ({LIMIT_SECONDS} s) allows" in letter.reason
    assert "training.max_window_rows" in letter.reason
    assert "fewer trees" in letter.reason
    assert letter.attempts == 1, "the same fit would meet the same limit"
    (alarm,) = resources.store.events_of(letter)
    assert isinstance(alarm, WorkFailed)
    assert alarm.reason == letter.reason
    wait_for(lambda: resources.broker.queue_lengths()["notifier"] == 1, worker, 10)
    wait_for(lambda: resources.work.all() == [], worker, 10)  # the lease is given up

    unknown = endless.model_copy(update={"pipeline": "unknown", "event_id": "0" * 32})
    resources.broker.send(unknown)
    assert "no pipeline 'unknown'" in letter_of(unknown, resources, worker).reason
    assert "Hard time limit" not in worker.last_words(1000)
    wait_for(lambda: cpu_share(worker, seconds=1) < 0.1, worker, 30)  # no tree is still grown


def request(resources: Resources, pipeline: Pipeline) -> RetrainRequested:
    """What the drift stage asks for after the first batch, which is in the store."""
    rows = batch_rows(raw_rows(100), pipeline)
    due = IngestionDue(
        **first_event_fields(pipeline.name, "slot"), slot=datetime(2026, 1, 5, tzinfo=UTC)
    )
    data = resources.store.put_blob(to_parquet(rows))
    event = BatchIngested(
        **caused_fields(due, "ingest", BatchIngested), sequence=1, rows=len(rows), data=data
    )
    batch = Batch(
        **record_fields(due, "ingest"),
        outcome="ingested",
        sequence=1,
        data=data,
        rows=len(rows),
        rows_received=len(rows),
        source="a test",
    )
    resources.store.record(batch, [event])
    return RetrainRequested(
        **caused_fields(event, "drift", RetrainRequested), reason="first_model", sequence=1
    )


def letter_of(event: RetrainRequested, resources: Resources, worker: Process) -> DeadLetter:
    effect = effect_id("trainer", event.event_id)
    found = wait_for(lambda: resources.store.get(DeadLetter, effect), worker, 90)
    assert isinstance(found, DeadLetter)
    return found


def wait_for(what: Callable[[], Any], worker: Process, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        worker.require_running()
        assert time.monotonic() < deadline, worker.last_words()
        time.sleep(0.05)
    return found


def cpu_share(worker: Process, seconds: float) -> float:
    """Of one core, by the worker's processes, over the next seconds."""
    before, started = cpu_seconds(worker), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(worker) - before) / (time.monotonic() - started)


def cpu_seconds(worker: Process) -> float:
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == worker.pid:  # the process group
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
