"""Who is compared, each in a process that lives as long as the comparison."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO, Any, Final

from benchmarks.drift.environments import python_with

ANSWER_SECONDS: Final = 600
THREADS: Final = os.cpu_count() or 1
"""For the numeric libraries of all contestants."""
YARDSTICK: Final = "sort"

_CHECKOUT: Final = Path(__file__).parents[2]
_REQUIREMENTS: Final = Path(__file__).parent / "requirements"


class Failed(RuntimeError):
    """A contestant does not do its work; the text says why."""


@dataclass(frozen=True)
class Contestant:
    """A peer, or Trimtab."""

    title: str
    runner: str
    """Module and class in `peers`."""
    requirements: str | None = None
    """File of its environment; None: Trimtab's own."""

    def python(self, environments: Path) -> Path:
        """The interpreter to run it with.

        Raises:
            NotInstalled: its requirements cannot be installed.
        """
        if self.requirements is None:
            return Path(sys.executable)
        return python_with(_REQUIREMENTS / self.requirements, environments)


CONTESTANTS: Final = {
    YARDSTICK: Contestant("One sort per number column", "sort:Sort"),
    "trimtab": Contestant("Trimtab", "trimtab:WithoutSegments"),
    "trimtab-segments": Contestant("Trimtab, 7 segments", "trimtab:WithSegments"),
    "trimtab-pandas": Contestant("Trimtab, of a DataFrame", "trimtab:OfDataFrame"),
    "scipy": Contestant("SciPy: KS, Wasserstein, χ²", "scipy:Script"),
    "frouros": Contestant("Frouros: KS", "frouros:KolmogorovSmirnov", "frouros.txt"),
    "alibi-detect": Contestant(
        "alibi-detect: TabularDrift", "alibi_detect:Tabular", "alibi-detect.txt"
    ),
    "nannyml": Contestant("NannyML: check", "nannyml:Univariate", "nannyml.txt"),
    "nannyml-fit": Contestant("NannyML: fit and check", "nannyml:FitAndCheck", "nannyml.txt"),
    "evidently": Contestant("Evidently: DataDriftPreset", "evidently:Preset", "evidently.txt"),
}


class Process:
    """A contestant at work."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Path) -> None:
        self._process = process
        self._errors = errors
        self.about = self._answer()
        """Its import's and fit's seconds and its version."""

    def load(self, batch: Path) -> bool | None:
        """Load a batch, and whether a check sees drift in it.

        Raises:
            Failed: it ended, or gave no answer in time.
        """
        drift: bool | None = self._ask(f"load {batch}")["drift"]
        return drift

    def check(self) -> float:
        """The seconds that a check of the batch takes.

        Raises:
            Failed: as for `load`.
        """
        return float(self._ask("check")["seconds"])

    def _ask(self, line: str) -> dict[str, Any]:
        with suppress(BrokenPipeError):  # the answer, which does not come, says why
            _pipe(self._process.stdin).write(f"{line}\n")
            _pipe(self._process.stdin).flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        timer = Timer(ANSWER_SECONDS, self._process.kill)
        timer.start()
        started = time.monotonic()
        line = _pipe(self._process.stdout).readline()
        timer.cancel()
        if not line and time.monotonic() - started >= ANSWER_SECONDS:
            raise Failed(f"no answer within {ANSWER_SECONDS} s")
        if not line:
            raise Failed(self._reason())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _reason(self) -> str:
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with {self._process.wait()}"


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise TypeError("the process was started without pipes")
    return stream


@contextmanager
def started(
    contestant: Contestant, python: Path, reference: Path, folder: Path
) -> Iterator[Process]:
    """A contestant's process, ended at the end.

    Raises:
        Failed: it does not start, or cannot fit the reference.
    """
    errors = folder / f"{contestant.runner.replace(':', '-')}.log"
    runner = f"benchmarks.drift.peers.{contestant.runner}"
    with errors.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [str(python), "-m", "benchmarks.drift.serve", runner, str(reference)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=_CHECKOUT,
            env={**os.environ, **_environment()},
        )
    with process:
        try:
            yield Process(process, errors)
        finally:
            process.kill()


def _environment() -> dict[str, str]:
    numeric = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {
        **dict.fromkeys(numeric, str(THREADS)),
        "PYTHONWARNINGS": "ignore",
        "DO_NOT_TRACK": "1",  # Evidently and NannyML would report their use
        "NML_DISABLE_USAGE_LOGGING": "1",
    }
