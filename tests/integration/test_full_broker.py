"""A broker without memory takes no write: a worker goes on with what it has, and listens on."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Valkey
from shared.events import WorkFailed, effect_id, first_event_fields
from shared.records import Notification
from shared.stage import Resources
from tests.e2e.conftest import wait_for
from tests.integration.holding_worker import HOLD
from tests.worker_processes import children, place, started


@pytest.fixture
def worker(resources: Resources, tmp_path: Path) -> Iterator[Process]:
    process = started(
        "notifier", place(resources.settings), tmp_path / "log", "tests.integration.holding_worker"
    )
    assert wait_for(resources.broker.last_alive, 30), process.last_words()
    yield process
    process.kill()


def alarm(name: str, reason: str = "a test") -> WorkFailed:
    fields = first_event_fields("air_quality", "a full broker", name)
    return WorkFailed(
        **fields, stage="drift", failed_event="BatchIngested", dead_letter="drift:1", reason=reason
    )


@contextmanager
def full(valkey: Valkey) -> Iterator[None]:
    """The broker while it refuses every command that may take memory."""
    with Redis.from_url(valkey.url) as broker:
        broker.config_set("maxmemory", 1)
        try:
            yield
        finally:
            broker.config_set("maxmemory", 0)


def done(resources: Resources, event: WorkFailed) -> bool:
    return resources.store.get(Notification, effect_id("notifier", event.event_id)) is not None


def test_a_message_is_handled_that_is_taken_while_the_broker_is_full(
    worker: Process, resources: Resources, valkey: Valkey
) -> None:
    assert worker.pid
    os.killpg(worker.pid, signal.SIGSTOP)
    event = alarm("taken")
    resources.broker.send(event)
    with full(valkey):
        os.killpg(worker.pid, signal.SIGCONT)
        assert wait_for(lambda: done(resources, event), 20), (
            worker.exit_status,
            worker.last_words(),
        )
    assert worker.exit_status is None


def test_a_child_that_dies_while_the_broker_is_full_leaves_no_worker_deaf(
    worker: Process, resources: Resources, valkey: Valkey
) -> None:
    resources.broker.send(alarm("held", HOLD))
    work = resources.store.database["work"]
    held = {"lease_until": {"$exists": True}}
    assert wait_for(lambda: work.find_one(held), 30), worker.last_words()
    (child,) = children(worker.pid)
    with full(valkey):
        os.kill(child, signal.SIGKILL)
        assert wait_for(lambda: "WorkerLostError" in worker.last_words(200), 30)
    event = alarm("next")
    resources.broker.send(event)
    assert wait_for(lambda: done(resources, event), 20), (worker.exit_status, worker.last_words())
