"""The embedded system's processes: started, watched, and gone when they should be."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.cli.embedded import servers
from services.cli.embedded.process import (
    Process,
    StartFailed,
    claim_port,
    free_port,
    wait_until_listening,
)
from services.cli.embedded.servers import mongod_binary, secret_file
from tests.e2e.conftest import ROOT

FOREVER = "import time; time.sleep(60)"
CHILD = f"subprocess.Popen([sys.executable, '-c', {FOREVER!r}])"
INTERRUPTED_FORK = """
import os, signal, sys
from pathlib import Path
from services.cli.embedded.process import Process

os.register_at_fork(after_in_parent=lambda: signal.raise_signal(getattr(signal, sys.argv[1])))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
process = Process("a part", ["sleep", "60"], Path(sys.argv[2]))
try:
    process.start()
except (KeyboardInterrupt, SystemExit) as end:
    print(type(end).__name__, process.exit_status)
finally:
    process.stop()
    print(process.exit_status)
"""
FAMILY = f"import subprocess, sys; print({CHILD}.pid, flush=True); {FOREVER}"


def python(tmp_path: Path, code: str) -> Process:
    process = Process("a part", [sys.executable, "-c", code], tmp_path / "log")
    process.start()
    return process


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="a part: cannot run no-such-program"):
        Process("a part", ["no-such-program"], tmp_path / "log").start()


def test_program_that_ends_shows_its_last_words(tmp_path: Path) -> None:
    process = python(tmp_path, "import sys; sys.exit('the disk is full')")
    port = free_port()
    with pytest.raises(StartFailed, match=r"status 1; .*\n.*the disk is full"):
        wait_until_listening(process, port)


def test_program_that_never_listens_is_given_up(tmp_path: Path) -> None:
    process = python(tmp_path, FOREVER)
    with pytest.raises(StartFailed, match="does not listen"):
        wait_until_listening(process, free_port(), seconds=0.2)
    process.stop()
    assert process.exit_status == -signal.SIGTERM


@pytest.mark.parametrize(
    ("name", "end"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "SystemExit")]
)
def test_an_end_that_comes_while_it_forks_is_not_lost(name: str, end: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_FORK, name, str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.stdout.split() == [end, "None", f"-{signal.SIGTERM.value}"], done.stderr


def test_stop_ends_the_children_as_well(tmp_path: Path) -> None:
    process = python(tmp_path, FAMILY)
    while not process.last_words():
        time.sleep(0.02)
    child = int(process.last_words())
    process.stop()
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)


def test_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    starter = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from services.cli.embedded.process import Process;"
        f"p = Process('x', [sys.executable, '-c', {FOREVER!r}], Path(sys.argv[2]));"
        "p.start(); print(p.pid, flush=True); time.sleep(60)"
    )
    root = str(Path(__file__).parents[3])
    parent = subprocess.Popen(
        [sys.executable, "-c", starter, root, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert is_alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)


def test_preferred_port_is_taken_if_it_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


def test_secret_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert secret_file(path) == secret_file(path)
    assert len(secret_file(path)) >= 32
    assert path.stat().st_mode & 0o077 == 0


def test_machine_without_mongod_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "find_spec", lambda _name: None)
    with pytest.raises(StartFailed, match=r"MONGODB_URI.*docker compose up"):
        mongod_binary()


def test_a_port_is_claimed_by_one_system_at_a_time() -> None:
    port = free_port()
    claim = claim_port(port)
    assert claim
    assert claim_port(port) is None
    claim.close()
    again = claim_port(port)
    assert again
    again.close()
