"""A question to a server that answers late, or never."""

import time
from threading import Event

import pytest

from services.exporter import reading
from services.exporter.metrics import UNSENT, Samples
from services.exporter.reading import Reading, Source

ANSWER: Samples = {UNSENT: {(): 3.0}}


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 0.5)


def scrape(source: Source) -> Reading:
    deadline = time.monotonic() + reading.ANSWER_SECONDS
    return source.answer(source.begin(), deadline)


def test_an_answer_that_came_too_late_is_that_of_the_next_scrape() -> None:
    source = Source("store", lambda: time.sleep(1) or ANSWER)
    assert scrape(source).failure == "no answer in 0.5 s"
    time.sleep(1.5)
    for _ in range(2):  # the second finds the first one's question under way
        late = scrape(source)
        assert (late.samples, late.failure) == (ANSWER, None)
        assert late.seconds >= 1


def test_an_answer_of_long_ago_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LATE_SECONDS", 0.5)
    source = Source("store", lambda: time.sleep(1) or ANSWER)
    assert scrape(source).failure
    time.sleep(2)
    assert scrape(source).failure == "no answer in 0.5 s"


def test_a_server_that_answered_in_time_and_is_silent_now_is_down() -> None:
    silent = Event()
    source = Source("store", lambda: (silent.is_set() and time.sleep(1)) or ANSWER)
    assert scrape(source).failure is None
    silent.set()
    assert scrape(source).failure == "no answer in 0.5 s"
