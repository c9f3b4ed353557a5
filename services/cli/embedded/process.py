"""A child process that cannot outlive the system that it belongs to."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_POLL_SECONDS: Final = 0.02
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)


class StartFailed(Exception):
    """A part of the embedded system did not come up; the text says which, with its last words."""


class Process:
    """One program of the embedded system, with a log file of its own.

    It leads a process group, so that its children end with it, and the kernel ends it when the
    process that started it dies, however that one dies.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment) if environment is not None else None
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program. Its output goes to the log file.

        Raises:
            StartFailed: the program cannot be run.
        """
        parent = os.getpid()
        with self.log.open("ab") as log, _ends_later():
            try:
                self._popen = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                    preexec_fn=lambda: _before_exec(parent),  # noqa: PLW1509 - a few system calls
                )
            except OSError as error:
                raise StartFailed(f"{self.name}: cannot run {self._command[0]}: {error}") from None

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._popen.pid if self._popen else None

    @property
    def exit_status(self) -> int | None:
        """How it ended; none while it runs."""
        return self._popen.poll() if self._popen else None

    def require_running(self) -> None:
        """Raise StartFailed if it has ended, with the end of its log."""
        if self.exit_status is not None:
            raise StartFailed(
                f"{self.name} ended with status {self.exit_status}; "
                f"{self.log} says:\n{self.last_words()}"
            )

    def last_words(self, lines: int = 12) -> str:
        """The end of the log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        """Send SIGTERM; the program finishes what it has in hand."""
        if self._popen and self._popen.poll() is None:
            self._popen.terminate()

    def stop(self, patience: float = 10.0) -> None:
        """End the program and whatever it started; SIGKILL for what is left after `patience` s."""
        if not self._popen:
            return
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=patience)
        self.kill()

    def kill(self) -> None:
        """End the whole process group at once."""
        if self._popen:
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


@contextmanager
def _ends_later() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM: Python drops what their handlers raise while it forks."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _before_exec(parent: int) -> None:
    """In the child: be ended by the kernel when the parent goes, and leave no core file.

    A core file is a picture of the memory, with every secret in it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)


def free_port(preferred: int = 0) -> int:
    """A TCP port of the loopback interface that is free now: the preferred one if it is."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartFailed("no free TCP port on the loopback interface")


def claim_port(port: int) -> socket.socket | None:
    """Reserve a port among the systems of this machine, until what is returned is closed.

    A port is free until its program listens, which takes seconds, so two systems that start
    together would choose the same one. None: another system has it.
    """
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0trimtab-port-{port}")  # an abstract name: it goes with its process
    except OSError:
        claim.close()
        return None
    return claim


def wait_until_listening(process: Process, port: int, seconds: float = 30.0) -> None:
    """Return once the program accepts connections on the port.

    Raises:
        StartFailed: it ended, or did not listen within the time.
    """
    _wait_until_open(process, socket.AF_INET, ("127.0.0.1", port), f"port {port}", seconds)


def wait_until_listening_at(process: Process, path: Path, seconds: float = 30.0) -> None:
    """Return once the program accepts connections on the Unix socket.

    Raises:
        StartFailed: it ended, or did not listen within the time.
    """
    _wait_until_open(process, socket.AF_UNIX, str(path), str(path), seconds)


def _wait_until_open(
    process: Process,
    family: socket.AddressFamily,
    address: str | tuple[str, int],
    name: str,
    seconds: float,
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process.require_running()
        with socket.socket(family) as probe:
            probe.settimeout(1)
            if probe.connect_ex(address) == 0:
                return
        time.sleep(_POLL_SECONDS)
    raise StartFailed(f"{process.name} does not listen on {name} after {seconds:.0f} s")
