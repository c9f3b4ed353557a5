"""The system in containers as its operators see it: through compose commands alone."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.events import STAGES

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = (*STAGES, "beat")
_COMMAND_SECONDS: Final = 1800
_POLL_SECONDS: Final = 1.0
_REPOSITORY: Final = "/srv/git/models.git"


class NotSeen(Exception):
    """What was waited for did not come."""


@dataclass(frozen=True)
class System:
    """The demo in containers."""

    command: tuple[str, ...]
    """`docker compose`, or what takes its place."""
    environment: dict[str, str]

    def secret(self, name: str) -> Path:
        """The file of a secret."""
        return Path(self.environment["SECRETS_FOLDER"], name)

    def compose(self, *arguments: str) -> str:
        """Run a compose command; returns what it printed.

        Raises:
            NotSeen: it failed; the text holds the end of what it said.
        """
        return self._run(arguments, subprocess.DEVNULL, subprocess.PIPE).decode()

    def save(self, file: Path, *arguments: str) -> None:
        """Run a compose command with its output into a file."""
        with file.open("wb") as output:
            self._run(arguments, subprocess.DEVNULL, output)

    def feed(self, file: Path, *arguments: str) -> None:
        """Run a compose command with a file as its input."""
        with file.open("rb") as given:
            self._run(arguments, given, subprocess.PIPE)

    def _run(self, arguments: Sequence[str], stdin: Any, stdout: Any) -> bytes:
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=ROOT,
            env=os.environ | self.environment,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            said = (done.stdout or b"")[-500:] + done.stderr[-1500:]
            raise NotSeen(f"{' '.join(arguments)} failed: {said.decode(errors='replace')}")
        return done.stdout or b""

    def trimtab(self, *arguments: str) -> Any:
        """What a command of `trimtab` says as JSON."""
        return json.loads(self.operator("cli", *arguments, "--json"))

    def operator(self, *arguments: str) -> str:
        """Run the operators' container."""
        return self.compose("--profile", "cli", "run", "--rm", "-T", *arguments)

    def status(self) -> dict[str, Any]:
        """The state; `trimtab status` exits with 1 where something is wrong, and says what."""
        in_words = "python -m services.cli.main status --json || true"
        state: dict[str, Any] = json.loads(
            self.operator("--entrypoint", "sh", "cli", "-c", in_words)
        )
        return state

    def pipeline(self) -> dict[str, Any]:
        """What the one pipeline came to."""
        pipeline: dict[str, Any] = self.status()["pipelines"]["air_quality"]
        return pipeline

    def commits(self) -> list[str]:
        """The model versions on the branch, newest first."""
        log = self.compose(
            "exec", "-T", "git", "git", "-C", _REPOSITORY, "log", "--format=%s", "main"
        )
        return [line.split()[2].rstrip(":") for line in log.splitlines()]

    def wait_until_healthy(self, seconds: float, workers: dict[str, int] | None = None) -> float:
        """Wait until every part gives signs of life and nothing is wrong; returns the seconds."""

        def healthy() -> bool:
            state = self.status()
            counts = {part: _fresh(state["parts"][part]["workers"]) for part in STAGES}
            return bool(state["healthy"]) and all(
                counts[stage] >= number for stage, number in (workers or {}).items()
            )

        return wait_until(healthy, "healthy", seconds)

    def wait_for_batch_after(self, sequence: int, seconds: float) -> float:
        """Wait until a batch later than `sequence` is checked; returns the seconds."""
        return wait_until(
            lambda: (self.pipeline()["checked"] or 0) > sequence,
            f"the check of a batch after {sequence}",
            seconds,
        )


def _fresh(workers: dict[str, float]) -> int:
    return sum(seconds < 10 for seconds in workers.values())


def wait_until(is_so: Callable[[], bool], what: str, seconds: float) -> float:
    """Wait until something is so; returns how long it took.

    Raises:
        NotSeen: it was not so within the time.
    """
    started = time.monotonic()
    last: NotSeen | None = None
    while time.monotonic() - started < seconds:
        try:
            if is_so():
                return time.monotonic() - started
        except NotSeen as failure:  # a part that the question needs is away
            last = failure
        time.sleep(_POLL_SECONDS)
    raise NotSeen(f"{what}: not within {seconds:.0f} s" + (f" ({last})" if last else ""))
