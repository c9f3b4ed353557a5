"""The feed's clocks at the end of a history, and under several hands."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from services.feed.clock import ManualClock, RunningClock


def test_a_running_clock_says_when_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock, endless = RunningClock(1.0, 3), RunningClock(1.0, None)
    assert not clock.at_end
    now = 2.0
    assert clock.at_end
    assert not endless.at_end


def test_many_hands_never_move_a_clock_past_the_end() -> None:
    clock = ManualClock(50)

    def advance(_: int) -> int | None:
        with suppress(ValueError):
            return clock.advance()
        return None

    with ThreadPoolExecutor(8) as pool:
        reached = [hour for hour in pool.map(advance, range(200)) if hour]
    assert sorted(reached) == list(range(1, 50))
    assert clock.hour() == 49
