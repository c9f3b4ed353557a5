"""A question to a server that may not answer, and the time that it is given."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Final

from services.exporter.failures import FailureLog, reason_of
from services.exporter.metrics import Samples

ANSWER_SECONDS: Final = 4.0
"""A scrape waits no longer than this; Prometheus gives it as long as its interval, ten at most."""
LATE_SECONDS: Final = 30.0
"""An answer that came too late for its scrape is given to those of so long."""


@dataclass(frozen=True)
class Reading:
    """What a source said, or why it said nothing."""

    samples: Samples
    seconds: float
    failure: str | None = None
    """None: it answered."""


class Source:
    """The store or the broker. One question at a time is under way, whoever waits for its answer.

    The question has a thread of its own, so that nothing in it can hold up a scrape. One that
    comes too late for its scrape goes on, and its answer is that of a later scrape: a large store,
    or a long backlog, may take longer.
    """

    def __init__(self, name: str, ask: Callable[[], Samples]) -> None:
        self.name = name
        self._ask = ask
        self._lock = Lock()
        self._under_way: Future[Reading] | None = None
        self._late: tuple[float, Reading] | None = None
        self._failures = FailureLog(source=name)

    def begin(self) -> "Future[Reading]":
        """Ask, unless a question is under way already."""
        with self._lock:
            if self._under_way is None or self._under_way.done():
                question: Future[Reading] = Future()
                Thread(target=self._run, args=(question,), daemon=True).start()
                self._under_way = question
            return self._under_way

    def answer(self, question: "Future[Reading]", deadline: float) -> Reading:
        """The answer, if it comes before the deadline (`time.monotonic`)."""
        try:
            reading = question.result(max(deadline - time.monotonic(), 0))
        except TimeoutError:
            reading = self._answered_late()
        self._failures.note(reading.failure)
        return reading

    def _answered_late(self) -> Reading:
        late = self._late
        if late and time.monotonic() - late[0] < LATE_SECONDS:
            return late[1]
        return Reading({}, ANSWER_SECONDS, f"no answer in {ANSWER_SECONDS:g} s")

    def _run(self, question: "Future[Reading]") -> None:
        began = time.monotonic()
        try:
            samples, failure = self._ask(), None
        except Exception as error:  # noqa: BLE001 - whatever it is, the other source is served
            samples, failure = {}, reason_of(error)
        ended = time.monotonic()
        reading = Reading(samples, ended - began, failure)
        self._late = (ended, reading) if reading.seconds > ANSWER_SECONDS else None
        question.set_result(reading)
