"""A child that is told to end, or took too long, ends: it handles nothing half-way and goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.embedded.process import Process
from shared.events import WorkFailed, effect_id, first_event_fields
from shared.records import DeadLetter
from shared.stage import Resources
from tests.e2e.conftest import wait_for
from tests.worker_processes import children, place, runs, started

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
def worker(resources: Resources, tmp_path: Path) -> Iterator[Process]:
    settings = {
        **place(resources.settings),
        "TASK_TIME_LIMIT_SECONDS": str(LIMIT_SECONDS),
    }
    process = started("notifier", settings, tmp_path / "log", "tests.integration.stubborn_worker")
    yield process
    process.kill()


def child_at_work(worker: Process, resources: Resources) -> int:
    """The child that has the event in hand."""
    resources.broker.send(ALARM)
    held = {"_id": EFFECT, "lease_until": {"$exists": True}}
    work = resources.store.database["work"]
    assert wait_for(lambda: work.find_one(held), 30), worker.last_words()
    (child,) = children(worker.pid)
    return child


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
