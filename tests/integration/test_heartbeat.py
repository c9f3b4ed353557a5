"""The file that a container's health check looks at: fresh only while there is progress."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import beat_command
from tests.worker_processes import environment, started

FRESH_SECONDS = 6.0
"""Signs of life come every two seconds."""


@pytest.fixture(params=["notifier", "beat"])
def part(
    request: pytest.FixtureRequest, own_valkey: Valkey, mongo: Mongo, tmp_path: Path
) -> Iterator[Process]:
    settings = {
        "REDIS_URL": own_valkey.url,
        "MONGODB_URI": mongo.uri,
        "HEARTBEAT_FILE": str(tmp_path / "alive"),
    }
    if request.param == "beat":
        process = Process("beat", beat_command(), tmp_path / "log", environment(**settings))
        process.start()
    else:
        process = started("notifier", settings, tmp_path / "log")
    yield process
    process.kill()


def age(file: Path) -> float:
    return time.time() - file.stat().st_mtime if file.exists() else float("inf")


def wait_until_fresh(file: Path) -> None:
    deadline = time.monotonic() + 60
    while age(file) > FRESH_SECONDS:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.usefixtures("part")
def test_file_ages_while_the_broker_is_silent(own_valkey: Valkey, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    wait_until_fresh(file)
    assert own_valkey.process
    assert own_valkey.process.pid
    os.kill(own_valkey.process.pid, signal.SIGSTOP)
    time.sleep(FRESH_SECONDS + 2)
    assert age(file) > FRESH_SECONDS
    os.kill(own_valkey.process.pid, signal.SIGCONT)
    wait_until_fresh(file)
