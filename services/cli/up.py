"""`trimtab up`: the embedded system by the clock, in the foreground or in the background."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Final, NoReturn

from pymongo.errors import PyMongoError

from services.cli.embedded.addresses import connected
from services.cli.embedded.process import StartFailed
from services.cli.embedded.system import FLOWER_USER, SIMULATED_FEED, System, running
from services.cli.journal import Journal, Line, activities, line
from services.cli.literal import Console
from services.cli.view import LiveView
from shared.pipeline import Pipeline, load_pipelines
from shared.stage import Resources
from shared.training import why_never_promoted

_POLL_SECONDS: Final = 0.5
_BACKGROUND_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 60.0


def run_in_foreground(
    home: Path, pipelines: Path, console: Console, feed_arguments: Sequence[str] = ()
) -> None:
    """Run the system until Ctrl-C or SIGTERM; parts that end by themselves are started again.

    Args:
        feed_arguments: what `trimtab feed` is called with; if empty, it simulates stations.

    Raises:
        StartFailed: a part did not come up, or a system runs in this folder already.
    """
    doubts = doubtful_settings(load_pipelines(pipelines))
    home.mkdir(parents=True, exist_ok=True)
    system = System(home, pipelines, tuple(feed_arguments) or SIMULATED_FEED)
    with only_one(home), LiveView(console) as view:
        for doubt in doubts:
            view.say(Line("trimtab", doubt, "yellow"))
        try:
            with running(system, view.step):
                view.say(Line("trimtab", f"runs; {where_flower_is(system)}"))
                _ready_file(home).write_text(where_flower_is(system), encoding="utf-8")
                _follow(system, view)
        except KeyboardInterrupt:
            view.say(Line("trimtab", "stopped; its state is kept"))
        finally:
            _ready_file(home).unlink(missing_ok=True)


def where_flower_is(system: System) -> str:
    """The address of a running system's Flower, and who is let in."""
    return (
        f"Flower: http://127.0.0.1:{system.flower_port} (user {FLOWER_USER}, password in "
        f"{system.home / 'secrets' / 'flower_password'})"
    )


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


def start_in_background(home: Path, pipelines: Path, feed_arguments: Sequence[str] = ()) -> str:
    """Start the system as a process of its own and wait until all its parts work.

    Returns what to know of it: doubts about its settings, where Flower is, and how to stop it.

    Args:
        feed_arguments: what `trimtab feed` is called with; if empty, it simulates stations.

    Raises:
        StartFailed: it did not come up; the text holds the end of its log.
    """
    doubts = doubtful_settings(load_pipelines(pipelines))
    home.mkdir(parents=True, exist_ok=True)
    if is_running(home):
        flower = _wait_until_ready(home, None)
        return "\n".join([*doubts, f"already running in {home}", flower])
    _ready_file(home).unlink(missing_ok=True)
    log = home / "up.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "services.cli.main", "up"),
                *("--home", str(home), "--pipelines", str(pipelines)),
                *(f"--feed={argument}" for argument in feed_arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    flower = _wait_until_ready(home, child)
    stop = f"running in {home}; stop it with `trimtab down --home {quote(str(home))}`"
    return "\n".join([*doubts, stop, flower])


def doubtful_settings(pipelines: Mapping[str, Pipeline]) -> list[str]:
    """What will not work as it is set, a sentence each, with the pipeline's name."""
    reasons = {
        name: why_never_promoted(pipeline.training, pipeline.gate)
        for name, pipeline in pipelines.items()
    }
    return [f"pipeline {name}: {reason}" for name, reason in reasons.items() if reason]


def _wait_until_ready(home: Path, child: "subprocess.Popen[bytes] | None") -> str:
    """Where the system's Flower is, once all parts work."""
    deadline = time.monotonic() + _BACKGROUND_SECONDS
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if flower := _ready_file(home).read_text(encoding="utf-8"):
                return flower
        if child and child.poll() is not None:
            said = (home / "up.log").read_text(encoding="utf-8", errors="replace")
            raise StartFailed(f"the system ended with status {child.returncode}:\n{said[-2000:]}")
        time.sleep(_POLL_SECONDS)
    raise StartFailed(f"not ready after {_BACKGROUND_SECONDS:.0f} s; see {home / 'up.log'}")


def stop_background(home: Path) -> str:
    """Stop the system that runs in a folder, and wait until all its parts have ended."""
    if not is_running(home):
        return f"nothing runs in {home}"
    os.kill(int(_lock_file(home).read_text(encoding="ascii")), signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        if not is_running(home):
            return f"stopped; its state is kept in {home}"
        time.sleep(_POLL_SECONDS)
    raise StartFailed(f"the system in {home} still runs after {_STOP_SECONDS:.0f} s")


def _lock_file(home: Path) -> Path:
    return home / "lock"


def _ready_file(home: Path) -> Path:
    return home / "ready"


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process however it ends.

    Raises:
        StartFailed: a system runs in the folder already.
    """
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


def is_running(home: Path) -> bool:
    """Whether a system runs in a folder."""
    path = _lock_file(home)
    if not path.exists():
        return False
    with path.open("r", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
