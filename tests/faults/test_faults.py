"""A short history under faults of every kind, as `make faults` plays a long one."""

from pathlib import Path

import pytest

from tests.faults.invariants import differences
from tests.faults.run import Plan, disturbed, drawn, undisturbed
from tests.faults.world import History

HISTORY = History(seed=2, hours=7)
FAULTS = 40


@pytest.mark.timeout(400)
def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    figures = disturbed(tmp_path / "disturbed", HISTORY, Plan(drawn(HISTORY, FAULTS)), print)
    expected = undisturbed(tmp_path / "undisturbed", HISTORY, figures.batches, print)
    assert figures.violations + differences(figures.decisions, expected) == []
    assert sum(figures.injected.values()) == FAULTS
    assert len(figures.decisions.reports) == HISTORY.hours
    assert len(figures.decisions.models) > 1
