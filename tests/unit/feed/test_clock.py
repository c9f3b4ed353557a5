"""The feed's clocks."""

import time

import pytest

from services.feed.clock import ManualClock, RunningClock


def test_a_manual_clock_stands_until_it_is_advanced() -> None:
    clock = ManualClock(None)
    assert clock.hour() == clock.hour() == 0
    clock.advance()
    assert clock.hour() == 1
    assert not clock.at_end


def test_a_manual_clock_keeps_the_last_hour() -> None:
    clock = ManualClock(2)
    assert not clock.at_end
    clock.advance()
    assert clock.at_end
    with pytest.raises(ValueError, match="hour 1 is the last"):
        clock.advance()
    assert clock.hour() == 1


def test_a_running_clock_moves_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = RunningClock(60.0, None)
    hours = []
    for passed in (0, 59.9, 60, 3600):
        now = 1000.0 + passed
        hours.append(clock.hour())
    assert hours == [0, 0, 1, 60]


def test_a_running_clock_stands_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = RunningClock(1.0, 3)
    now = 99.0
    assert clock.hour() == 2
