"""A child that is told to end, or took too long, ends: it handles nothing half-way and goes on."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Mongo, Valkey
from shared.events import WorkFailed, effect_id, first_event_fields
from shared.records import DeadLetter
from shared.stage import Resources
from tests.conftest import AIR_QUALITY
from tests.e2e.conftest import wait_for

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 10
ALARM = WorkFailed(
    **first_event_fields("air_quality", "a stubborn worker"),
    stage="drift",
    failed_event="BatchIngested",
    dead_letter="drift:1",
    reason="a test",
)
EFFECT = effect_id("notifier", ALARM.event_id)


@pytest.fixture
def worker(resources: Resources, mongo: Mongo, valkey: Valkey, tmp_path: Path) -> Iterator[Process]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    environment = kept | {
        "REDIS_URL": valkey.url,
        "MONGODB_URI": mongo.uri,
        "MONGODB_DATABASE": resources.settings.mongodb_database,
        "PIPELINES": str(AIR_QUALITY.parent),
        "PYTHONPATH": str(ROOT),
        "TASK_TIME_LIMIT_SECONDS": str(LIMIT_SECONDS),
    }
    command = [sys.executable, "-m", "celery", "-A", "tests.integration.stubborn_worker", "worker"]
    options = ["-Q", "notifier", "-n", "notifier@%h", "-c", "1", "--without-gossip"]
    process = Process("notifier", [*command, *options], tmp_path / "log", environment)
    process.start()
    yield process
    process.kill()


def child_at_work(worker: Process, resources: Resources) -> int:
    """The child that has the event in hand."""
    resources.broker.send(ALARM)
    held = {"_id": EFFECT, "lease_until": {"$exists": True}}
    work = resources.store.database["work"]
    assert wait_for(lambda: work.find_one(held), 30), worker.last_words()
    (child,) = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return int(child)


def runs(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def test_a_child_that_is_told_to_end_gives_nothing_up(
    worker: Process, resources: Resources
) -> None:
    child = child_at_work(worker, resources)
    os.kill(child, signal.SIGTERM)
    assert wait_for(lambda: not runs(child), 5)
    assert resources.store.get(DeadLetter, EFFECT) is None


def test_a_child_that_took_too_long_gives_up_its_event_and_ends(
    worker: Process, resources: Resources
) -> None:
    child = child_at_work(worker, resources)
    assert wait_for(lambda: resources.store.get(DeadLetter, EFFECT), LIMIT_SECONDS + 5)
    letter = resources.store.get(DeadLetter, EFFECT)
    assert letter
    assert "took longer than TASK_TIME_LIMIT_SECONDS" in letter.reason
    assert wait_for(lambda: not runs(child), 5)
    assert worker.exit_status is None
