"""The `trimtab` command as a person runs it: a process of its own, watched from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[2]
GIVEN = (
    "REDIS_URL",
    "MONGODB_URI",
    "FEED_URL",
    "MODEL_REPOSITORY",
    "DATA_GOV_IN_API_KEY",
    "DISCORD_WEBHOOK_URL",
    "APPRISE_URLS",
)


class Command:
    """Runs `trimtab` with a mark in its environment that every process it starts inherits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid4().hex
        settings = {name: value for name, value in os.environ.items() if name not in GIVEN}
        self.environment = settings | {"TRIMTAB_TEST_MARK": self.mark, "COLUMNS": "140"}
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli.main", *arguments],
            cwd=ROOT,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests that run in the background of a shell are given SIGINT ignored, and pass it on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=240)
        return subprocess.CompletedProcess(arguments, process.returncode, output)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout)

    def processes(self) -> dict[int, str]:
        """The living processes that carry the mark: pid -> command line."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                if self.mark.encode() not in (folder / "environ").read_bytes():
                    continue
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if command:  # a zombie has none
                found[int(folder.name)] = command
        return found

    def wait_until_gone(self, seconds: float = 20) -> dict[int, str]:
        """What is left of the processes after the time; nothing as soon as nothing is left."""
        return (wait_for(lambda: not self.processes(), seconds) and {}) or self.processes()

    def end(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        for process in self._started:
            process.communicate()


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """The condition's first true value, or its last one after the time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return value


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    command = Command(tmp_path_factory.mktemp("end to end"))
    yield command
    command.end()
