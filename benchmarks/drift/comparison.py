"""One drift check by each contestant, round by round."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drift.contestants import (
    CONTESTANTS,
    YARDSTICK,
    Contestant,
    Failed,
    Process,
    started,
)
from benchmarks.drift.environments import NotInstalled
from benchmarks.drift.tables import Shape, write

Say = Callable[[str], None]

REFERENCE_SEED, BATCH_SEED, DRIFTED_SEED = 1, 2, 3
DRIFTED_ROWS = 3_000


@dataclass
class Timing:
    """A contestant's checks of one batch."""

    seconds: list[float] = field(default_factory=list)
    """By round."""
    ratios: list[float] = field(default_factory=list)
    """To the yardstick of the same round."""
    drift: bool | None = None
    """What it said of the batch, in which nothing had changed."""


@dataclass
class Outcome:
    """What is known of a contestant."""

    title: str
    about: dict[str, Any] = field(default_factory=dict)
    timings: dict[int, Timing] = field(default_factory=dict)
    """By rows of the batch."""
    failure: str | None = None


class Comparison:
    """The contestants at work on the same files."""

    def __init__(self, reference_rows: int, folder: Path, environments: Path, say: Say) -> None:
        self._folder = folder
        self._environments = environments
        self._say = say
        self._reference = write(
            folder / "reference.parquet", reference_rows, REFERENCE_SEED, Shape()
        )
        self._drifted = write(
            folder / "drifted.parquet", DRIFTED_ROWS, DRIFTED_SEED, Shape(), drift=True
        )
        self._processes: dict[str, Process] = {}
        self.outcomes: dict[str, Outcome] = {}

    def run(self, names: Sequence[str], sizes: Sequence[int], rounds: int) -> dict[str, Outcome]:
        """Time the named contestants; what fails is noted, and the others go on."""
        with ExitStack() as stack:
            for name in names:
                self._start(name, CONTESTANTS[name], stack)
            for rows in sizes:
                self._time(rows, rounds)
        return self.outcomes

    def _start(self, name: str, contestant: Contestant, stack: ExitStack) -> None:
        self._say(f"{contestant.title}: environment and reference")
        outcome = self.outcomes[name] = Outcome(contestant.title)
        try:
            python = contestant.python(self._environments)
            process = stack.enter_context(
                started(contestant, python, self._reference, self._folder)
            )
            if process.load(self._drifted) is False:
                raise Failed("sees no drift in a batch in which every column has changed")
        except (NotInstalled, Failed) as error:
            self._give_up(name, error)
        else:
            outcome.about = process.about
            self._processes[name] = process

    def _time(self, rows: int, rounds: int) -> None:
        batch = write(self._folder / "batch.parquet", rows, BATCH_SEED, Shape())
        for name, process in [*self._processes.items()]:
            self._say(f"{rows:,} rows: {CONTESTANTS[name].title} warms up")
            try:
                drift = process.load(batch)
            except Failed as error:
                self._give_up(name, error)
            else:
                self.outcomes[name].timings[rows] = Timing(drift=drift)
        for number in range(rounds):
            self._say(f"{rows:,} rows: round {number + 1} of {rounds}")
            self._play_round(rows)

    def _play_round(self, rows: int) -> None:
        """Each once; the yardstick first."""
        yardstick = self._processes[YARDSTICK].check()
        for name, process in [*self._processes.items()]:
            try:
                seconds = yardstick if name == YARDSTICK else process.check()
            except Failed as error:
                self._give_up(name, error)
                continue
            timing = self.outcomes[name].timings[rows]
            timing.seconds.append(seconds)
            timing.ratios.append(seconds / yardstick)

    def _give_up(self, name: str, error: Exception) -> None:
        self._say(f"{CONTESTANTS[name].title}: {error}")
        self.outcomes[name].failure = str(error)
        self._processes.pop(name, None)


def comparison_markdown(outcomes: dict[str, Outcome], sizes: Sequence[int]) -> str:
    """Seconds, least and most, and the ratio to the yardstick, as a table."""
    heads = " | ".join(f"{rows:,} rows | ÷ sort" for rows in sizes)
    lines = [
        f"| one check, seconds | {heads} | import, s |",
        f"| --- |{' ---: |' * (2 * len(sizes) + 1)}",
    ]
    for outcome in outcomes.values():
        if outcome.failure and not outcome.about:
            lines.append(f"| {outcome.title} | {outcome.failure} |{' |' * (2 * len(sizes))}")
            continue
        cells = [cell for rows in sizes for cell in _cells(outcome.timings.get(rows))]
        lines.append(
            f"| {_titled(outcome)} | {' | '.join(cells)} | {outcome.about['import_seconds']:.1f} |"
        )
    return "\n".join(lines)


def _titled(outcome: Outcome) -> str:
    version = outcome.about["version"]
    return f"{outcome.title} ({version})" if version else outcome.title


def _cells(timing: Timing | None) -> tuple[str, str]:
    if timing is None or not timing.seconds:
        return "failed", ""
    median = statistics.median(timing.seconds)
    spread = f"{_figure(min(timing.seconds))}–{_figure(max(timing.seconds))}"
    note = " †" if timing.drift else ""
    return f"{_figure(median)} ({spread}){note}", _figure(statistics.median(timing.ratios))


def _figure(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
