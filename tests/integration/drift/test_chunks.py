"""Large batches: their row groups are counted by several workers, and the sum is the same."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import worker_command
from shared.events import BatchIngested, ChunkIngested, dump_event, effect_id
from shared.failures import NotYet
from shared.pipeline import Pipeline
from shared.records import ChunkCounts, DeadLetter, DriftReport
from shared.stage import Resources, StageRuntime
from shared.store import Store
from tests.integration.drift.loop import KEY, Loop, with_drift
from tests.keys import EVENT_KEY, OPERATORS, authenticate
from tests.sweeping import sweep_all

ROOT = Path(__file__).parents[3]
CHUNK_ROWS = 50


@pytest.fixture
def loop(store: Store, air_quality: Pipeline) -> Loop:
    """Its batches of 120 rows have three chunks."""
    return Loop(store, with_drift(air_quality, chunk_rows=CHUNK_ROWS))


def ingest(loop: Loop) -> tuple[list[ChunkIngested], BatchIngested]:
    *chunks, event = loop.ingest_in_chunks(level=60, stations=20)
    assert isinstance(event, BatchIngested)
    return [chunk for chunk in chunks if isinstance(chunk, ChunkIngested)], event


def test_sum_of_the_chunks_is_the_count_of_the_batch(loop: Loop) -> None:
    loop.begin()
    chunks, event = ingest(loop)
    assert [chunk.row_group for chunk in chunks] == [0, 1, 2]
    for chunk in reversed(chunks):
        loop.count(chunk)
    by_workers = loop.check(event)
    loop.store.database["drift_reports"].delete_one({"sequence": 2})
    loop.store.database["chunk_counts"].update_many({}, {"$set": {"profile": "0" * 64}})
    authenticate(loop.store)
    alone = loop.check(event)
    assert alone.counts == by_workers.counts
    assert (alone.p, alone.feature_stats) == (by_workers.p, by_workers.feature_stats)


def test_batch_in_one_chunk_is_not_split(store: Store, air_quality: Pipeline) -> None:
    loop = Loop(store, with_drift(air_quality, chunk_rows=120))
    loop.begin()
    assert [event.type for event in loop.ingest_in_chunks(50, 20)] == ["BatchIngested"]


def test_check_waits_for_every_chunk(loop: Loop) -> None:
    loop.begin()
    chunks, event = ingest(loop)
    for chunk in chunks:
        with pytest.raises(NotYet, match=effect_id("drift", chunk.event_id)):
            loop.check(event)
        loop.count(chunk)
    assert loop.check(event).sequence == 2


def test_chunk_waits_until_the_reference_is_settled(loop: Loop) -> None:
    loop.begin()
    _, second = ingest(loop)
    chunks, _ = ingest(loop)
    with pytest.raises(NotYet):
        loop.count(chunks[0])
    assert second.sequence == 2


def test_chunks_of_the_first_batch_have_no_bins(loop: Loop) -> None:
    chunks, event = ingest(loop)
    for chunk in chunks:
        loop.count(chunk)
    assert {chunk.counts for chunk in loop.store.find(ChunkCounts, {})} == {None}
    assert loop.check(event).verdict == "no reference"


def test_chunk_that_was_given_up_is_counted_by_the_check(loop: Loop, resources: Resources) -> None:
    loop.begin()
    chunks, event = ingest(loop)

    def fails(*_: object) -> NoReturn:
        raise RuntimeError("a bug")

    StageRuntime("drift", resources).handle(dump_event(chunks[0]), fails)
    for chunk in chunks[1:]:
        loop.count(chunk)
    assert loop.store.collection(DeadLetter).count_documents({}) == 1
    report = loop.check(event)
    loop.store.database["drift_reports"].delete_one({"sequence": 2})
    loop.store.database["dead_letters"].delete_many({})
    loop.count(chunks[0])
    assert loop.check(event).counts == report.counts


@pytest.fixture
def start_worker(
    tmp_path: Path, valkey: Valkey, mongo: Mongo, store: Store
) -> Iterator[Callable[[], Process]]:
    """Starts drift workers, as in the embedded system."""
    pipeline = (ROOT / "pipelines" / "air_quality.yaml").read_text()
    (tmp_path / "air_quality.yaml").write_text(
        pipeline.replace("chunk_rows: 1000000", f"chunk_rows: {CHUNK_ROWS}", 1)
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
        "REDIS_URL": valkey.url,
        "MONGODB_URI": mongo.uri,
        "MONGODB_DATABASE": store.database.name,
        "PIPELINES": str(tmp_path),
        "EVENT_KEY": EVENT_KEY,
        "OPERATORS": OPERATORS,
        "MODEL_SIGNING_KEY": KEY.get_secret_value(),
        "LEASE_SECONDS": "1",
    }
    started: list[Process] = []

    def start() -> Process:
        name = f"drift{len(started)}"
        command = [*worker_command("drift"), "-n", f"{name}@test"]
        started.append(Process(name, command, tmp_path / f"{name}.log", environment))
        started[-1].start()
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def test_worker_that_dies_among_the_chunks_changes_nothing(
    loop: Loop, resources: Resources, start_worker: Callable[[], Process]
) -> None:
    loop.begin()
    chunks, reports = (loop.store.collection(kind) for kind in (ChunkCounts, DriftReport))
    counted_before = chunks.count_documents({})
    for _ in range(4):
        for event in loop.ingest_in_chunks(level=50, stations=20, hours=4):
            resources.broker.send(event)
    doomed = start_worker()
    wait_for(lambda: resources.work.all() or doomed.exit_status is not None)
    doomed.require_running()
    doomed.kill()
    assert resources.work.all(), "it was to die on a chunk, not between two"
    assert reports.count_documents({}) == 1
    for _ in range(2):
        start_worker()
    wait_for(lambda: sweep_all(resources) >= 0 and reports.count_documents({}) == 5)
    assert chunks.count_documents({}) == counted_before + 4 * 10
    assert loop.store.collection(DeadLetter).count_documents({}) == 0


def wait_for(done: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
