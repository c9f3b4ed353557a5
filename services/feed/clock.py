"""Which hour the feed serves now."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the hour, counted from 0."""

    def hour(self) -> int:
        """The hour that is served now."""

    @property
    def at_end(self) -> bool:
        """Whether this is the last hour of the history."""


class RunningClock:
    """Moves on by itself; at the end of the history it stands.

    `seconds_passed` is how far hour 0 has gone already.
    """

    def __init__(
        self, seconds_per_hour: float, hours: int | None, seconds_passed: float = 0.0
    ) -> None:
        self._seconds_per_hour = seconds_per_hour
        self._last = hours - 1 if hours else None
        self._started = time.monotonic() - seconds_passed

    def hour(self) -> int:
        passed = int((time.monotonic() - self._started) // self._seconds_per_hour)
        return passed if self._last is None else min(passed, self._last)

    @property
    def at_end(self) -> bool:
        """Whether this is the last hour of the history."""
        return self.hour() == self._last


class ManualClock:
    """Moves on when it is told to."""

    def __init__(self, hours: int | None) -> None:
        self._hours = hours
        self._hour = 0
        self._lock = threading.Lock()

    def hour(self) -> int:
        return self._hour

    @property
    def at_end(self) -> bool:
        """Whether this is the last hour of the history."""
        return self._hours is not None and self._hour >= self._hours - 1

    def advance(self) -> int:
        """Go on to the next hour, and return it.

        Raises:
            ValueError: this is the last one.
        """
        with self._lock:
            if self.at_end:
                raise ValueError(f"hour {self._hour} is the last of this history")
            self._hour += 1
            return self._hour
