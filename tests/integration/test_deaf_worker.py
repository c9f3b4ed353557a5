"""A worker that is connected and hears nothing does not stay: the faults that have made one."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Mongo, Valkey
from shared.broker import Broker
from shared.celery_app import celery_app
from shared.settings import read_settings
from tests.keys import EVENT_KEY
from tests.worker_processes import children, runs, started

PATIENCE_SECONDS = 20.0


@pytest.fixture
def environment(own_valkey: Valkey, mongo: Mongo) -> dict[str, str]:
    return {"REDIS_URL": own_valkey.url, "MONGODB_URI": mongo.uri}


@pytest.fixture
def broker(environment: dict[str, str]) -> Iterator[Broker]:
    settings = read_settings(
        redis_url=environment["REDIS_URL"],
        mongodb_uri=environment["MONGODB_URI"],
        event_key=EVENT_KEY,
    )
    client = Broker(celery_app(lambda: settings))
    yield client
    client.close()


def wait_for(what: Callable[[], bool], process: Process) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline, process.last_words(30)
        time.sleep(0.1)


def test_worker_stopped_while_its_broker_restarts_hears_again(
    own_valkey: Valkey, environment: dict[str, str], broker: Broker, tmp_path: Path
) -> None:
    worker = started("notifier", environment, tmp_path / "notifier.log")
    server = own_valkey.process
    assert server
    try:
        wait_for(lambda: bool(broker.last_alive()), worker)
        assert worker.pid
        os.killpg(worker.pid, signal.SIGSTOP)
        server.kill()
        server.start()
        wait_for(lambda: _answers(broker), server)
        before = broker.last_alive()
        os.killpg(worker.pid, signal.SIGCONT)
        wait_for(lambda: broker.last_alive() != before, worker)
        assert worker.exit_status is None, worker.last_words()
    finally:
        worker.kill()


def _answers(broker: Broker) -> bool:
    try:
        broker.queue_lengths()
    except RedisError:
        return False
    return True


def test_worker_whose_broker_is_silent_ends_within_its_grace(
    own_valkey: Valkey, environment: dict[str, str], broker: Broker, tmp_path: Path
) -> None:
    """As a container is stopped: by SIGQUIT, and killed 30 seconds later."""
    worker = started("notifier", environment, tmp_path / "notifier.log")
    server = own_valkey.process
    assert server
    assert server.pid
    try:
        wait_for(lambda: bool(broker.last_alive()), worker)
        pool = children(worker.pid)
        assert worker.pid
        os.kill(server.pid, signal.SIGSTOP)
        os.kill(worker.pid, signal.SIGQUIT)
        wait_for(lambda: worker.exit_status is not None, worker)
        assert "cannot take leave of its broker" in worker.last_words(30)
        wait_for(lambda: not any(map(runs, pool)), worker)
    finally:
        os.kill(server.pid, signal.SIGCONT)
        worker.kill()


def test_worker_that_hears_nothing_ends_with_its_children(
    environment: dict[str, str], tmp_path: Path
) -> None:
    module = "tests.integration.deaf_worker"
    worker = started("notifier", environment, tmp_path / "deaf.log", module)
    pool: list[int] = []
    try:
        wait_for(lambda: bool(pool or pool.extend(children(worker.pid))), worker)
        wait_for(lambda: worker.exit_status is not None, worker)
        assert worker.exit_status == 1
        assert "the worker has heard nothing and ends" in worker.last_words(30)
        wait_for(lambda: not any(map(runs, pool)), worker)
    finally:
        worker.kill()
