"""Shows that the harness can fail: without each remedy, some invariant breaks."""

import os
import random
from pathlib import Path

from tests.faults.injections import faults
from tests.faults.invariants import differences
from tests.faults.run import Plan, Say, Schedule, Stuck, disturbed, undisturbed
from tests.faults.world import History

REMEDIES = {
    "outbox": ("empty full queues", "empty broker"),
    "sweep": ("empty full queues", "empty broker"),
    "unique ids": ("every event again and again",),
    "lease": ("two workers, every event again and again",),
    "trailer check": ("repository: pushed, publisher killed",),
}
"""Remedy -> the faults that it is there for."""

_HISTORY = History(seed=1, hours=8)


def check_remedy(remedy: str, home: Path, say: Say) -> list[str]:
    """What breaks when a remedy is switched off in every process, in words."""
    off = {
        "FAULTS_WITHOUT": remedy,
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent / "without"), os.environ.get("PYTHONPATH", "")]
        ),
    }
    schedule = _every_hour(REMEDIES[remedy])
    try:
        figures = disturbed(home / "disturbed", _HISTORY, Plan(schedule, settings=off), say)
    except Stuck as stuck:
        return [str(stuck)]
    expected = undisturbed(home / "undisturbed", _HISTORY, figures.batches, say)
    return figures.violations + differences(figures.decisions, expected)


def _every_hour(kinds: tuple[str, ...]) -> Schedule:
    dice = random.Random(_HISTORY.seed)  # noqa: S311 - a schedule, no secret
    return {
        hour: [(0.3, fault) for fault in faults(dice) if fault.kind in kinds]
        for hour in range(_HISTORY.hours)
    }
