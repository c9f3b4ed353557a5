"""Celery's remote control, and whatever else is published, changes nothing about a worker."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Valkey
from shared.celery_app import celery_app
from shared.events import WorkFailed, effect_id, first_event_fields
from shared.records import Notification
from shared.stage import Resources
from tests.e2e.conftest import wait_for
from tests.worker_processes import place, started

ALARM = WorkFailed(
    **first_event_fields("air_quality", "a test of remote control"),
    stage="drift",
    failed_event="BatchIngested",
    dead_letter="drift:1",
    reason="a test",
)


@pytest.fixture
def worker(resources: Resources, tmp_path: Path) -> Iterator[Process]:
    process = started("notifier", place(resources.settings), tmp_path / "log")
    assert wait_for(resources.broker.last_alive, 60), process.last_words()
    yield process
    process.stop()


@pytest.fixture
def control(resources: Resources) -> Any:
    """What an operator of any Celery application can send."""
    application: Celery = celery_app(lambda: resources.settings)
    return application.control


@pytest.mark.timeout(150)
def test_a_worker_goes_on_and_consumes_its_own_queue_alone(
    worker: Process, control: Any, resources: Resources, valkey: Valkey
) -> None:
    prefix = resources.settings.key_prefix
    control.add_consumer("another")
    control.cancel_consumer("notifier")
    control.rate_limit("notifier.on_work_failed", "1/h")
    control.pool_shrink(1)
    control.shutdown()
    with Redis.from_url(valkey.url) as client:
        for channel in client.pubsub_channels():
            for text in ("1", "[]", "{}", "null", json.dumps({"body": "[]"})):
                client.publish(channel, text)
        for channel in ("/0.celery.pidbox", f"{prefix}/0.celery.pidbox", f"{prefix}/0.celeryev"):
            client.publish(channel, "1")
        client.lpush(f"{prefix}another", "[]")
        resources.broker.send(ALARM)
        effect = effect_id("notifier", ALARM.event_id)
        assert wait_for(lambda: resources.store.get(Notification, effect), 60), worker.last_words()
        assert worker.exit_status is None
        assert client.llen(f"{prefix}another") == 1
    assert not control.ping(timeout=1)
