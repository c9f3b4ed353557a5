"""`trimtab up`: the embedded system by the clock, in the foreground or in the background."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from pymongo.errors import PyMongoError
from rich.console import Console

from services.cli.embedded.addresses import connected
from services.cli.embedded.process import StartFailed
from services.cli.embedded.system import FLOWER_USER, System, running
from services.cli.journal import Journal, Line, activities, line
from services.cli.view import LiveView
from shared.pipeline import Pipeline, load_pipelines
from shared.stage import Resources
from shared.training import why_never_promoted

_POLL_SECONDS: Final = 0.5
_BACKGROUND_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 60.0


def run_in_foreground(home: Path, pipelines: Path, console: Console) -> None:
    """Run the system until Ctrl-C or SIGTERM; parts that end by themselves are started again.

    Raises:
        StartFailed: a part did not come up, or a system runs in this folder already.
    """
    doubts = doubtful_settings(load_pipelines(pipelines))
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home), LiveView(console) as view:
        for doubt in doubts:
            view.say(Line("trimtab", doubt, "yellow"))
        try:
            with running(System(home=home, pipelines=pipelines), view.step) as system:
                view.say(Line("trimtab", f"runs; Flower: http://127.0.0.1:{system.flower_port} "
                              f"(user {FLOWER_USER}, password in "
                              f"{system.home / 'secrets' / 'flower_password'})"))  # fmt: skip
                _ready_file(home).write_text(str(os.getpid()), encoding="ascii")
                _follow(system, view)
        except KeyboardInterrupt:
            view.say(Line("trimtab", "stopped; its state is kept"))
        finally:
            _ready_file(home).unlink(missing_ok=True)


def _follow(system: System, view: LiveView) -> None:
    """Show what happens, and keep every part running."""
    with connected(system.home) as resources:
        _keep_running(system, resources, view)


def _keep_running(system: System, resources: Resources, view: LiveView) -> NoReturn:
    journal = Journal(resources.store, datetime.now(UTC))
    while True:
        for name in system.restart_ended():
            view.say(Line("trimtab", f"{name} had ended and was started again", "yellow"))
        try:
            for record in journal.new_records():
                if said := line(record):
                    view.say(said)
            view.going_on(activities(resources.work.all()))
        except PyMongoError as error:
            view.say(Line("trimtab", f"the store does not answer: {type(error).__name__}", "red"))
        time.sleep(_POLL_SECONDS)


def start_in_background(home: Path, pipelines: Path) -> str:
    """Start the system as a process of its own and wait until all its parts work.

    Raises:
        StartFailed: it did not come up; the text holds the end of its log.
    """
    doubts = doubtful_settings(load_pipelines(pipelines))
    home.mkdir(parents=True, exist_ok=True)
    if _is_running(home):
        _wait_until_ready(home, None)
        return "\n".join([*doubts, f"already running in {home}"])
    _ready_file(home).unlink(missing_ok=True)
    log = home / "up.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "services.cli.main", "up"),
                *("--home", str(home), "--pipelines", str(pipelines)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _wait_until_ready(home, child)
    return "\n".join([*doubts, f"running in {home}; stop it with `trimtab down --home {home}`"])


def doubtful_settings(pipelines: Mapping[str, Pipeline]) -> list[str]:
    """What will not work as it is set, a sentence each, with the pipeline's name."""
    reasons = {
        name: why_never_promoted(pipeline.training, pipeline.gate)
        for name, pipeline in pipelines.items()
    }
    return [f"pipeline {name}: {reason}" for name, reason in reasons.items() if reason]


def _wait_until_ready(home: Path, child: "subprocess.Popen[bytes] | None") -> None:
    deadline = time.monotonic() + _BACKGROUND_SECONDS
    while time.monotonic() < deadline:
        if _ready_file(home).exists():
            return
        if child and child.poll() is not None:
            said = (home / "up.log").read_text(encoding="utf-8", errors="replace")
            raise StartFailed(f"the system ended with status {child.returncode}:\n{said[-2000:]}")
        time.sleep(_POLL_SECONDS)
    raise StartFailed(f"not ready after {_BACKGROUND_SECONDS:.0f} s; see {home / 'up.log'}")


def stop_background(home: Path) -> str:
    """Stop the system that runs in a folder, and wait until all its parts have ended."""
    if not _is_running(home):
        return f"nothing runs in {home}"
    os.kill(int(_lock_file(home).read_text(encoding="ascii")), signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        if not _is_running(home):
            return f"stopped; its state is kept in {home}"
        time.sleep(_POLL_SECONDS)
    raise StartFailed(f"the system in {home} still runs after {_STOP_SECONDS:.0f} s")


def _lock_file(home: Path) -> Path:
    return home / "lock"


def _ready_file(home: Path) -> Path:
    return home / "ready"


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process however it ends."""
    with _lock_file(home).open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"a system runs in {home} already; use another --home") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        _ready_file(home).unlink(missing_ok=True)
        yield


def _is_running(home: Path) -> bool:
    path = _lock_file(home)
    if not path.exists():
        return False
    with path.open("r", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
