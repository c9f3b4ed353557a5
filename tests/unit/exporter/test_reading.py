"""A question to a server that answers late, or never."""

import time
from collections.abc import Iterator
from threading import Event

import pytest

from services.exporter import reading
from services.exporter.metrics import UNSENT, Samples
from services.exporter.reading import Reading, Source

ANSWER: Samples = {UNSENT: {(): 3.0}}
FOR_EVER = 60.0


class Server:
    """Answers at once while it is told to, else when it is told to."""

    def __init__(self) -> None:
        self.answers = Event()
        self.asked = Event()

    def __call__(self) -> Samples:
        self.asked.set()
        assert self.answers.wait(FOR_EVER)
        return ANSWER


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.answers.set()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 0.05)


def scrape(source: Source, seconds: float = 0.05) -> Reading:
    return source.answer(source.begin(), time.monotonic() + seconds)


def test_an_answer_that_came_too_late_is_that_of_the_next_scrape(server: Server) -> None:
    source = Source("store", server)
    question = source.begin()
    assert scrape(source).failure == "no answer in 0.05 s"
    server.answers.set()
    assert question.result(FOR_EVER).samples == ANSWER
    server.answers.clear()  # nor is the next one answered in time
    for _ in range(2):
        late = scrape(source)
        assert (late.samples, late.failure) == (ANSWER, None)
        assert late.seconds >= 0.05


def test_one_question_at_a_time_is_under_way(server: Server) -> None:
    source = Source("store", server)
    assert source.begin() is source.begin()
    server.answers.set()
    assert scrape(source, FOR_EVER).failure is None


def test_an_answer_of_long_ago_is_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LATE_SECONDS", 0.0)
    source = Source("store", server)
    question = source.begin()
    assert scrape(source).failure
    server.answers.set()
    assert question.result(FOR_EVER).failure is None
    server.answers.clear()
    assert scrape(source).failure == "no answer in 0.05 s"


def test_a_server_that_answered_in_time_and_is_silent_now_is_down(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ANSWER_SECONDS", FOR_EVER)
    source = Source("store", server)
    server.answers.set()
    assert scrape(source, FOR_EVER).failure is None
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 0.05)
    server.answers.clear()
    assert scrape(source).failure == "no answer in 0.05 s"


def test_what_went_wrong_is_told_without_its_text() -> None:
    def ask() -> Samples:
        raise RuntimeError("mongodb://trimtab:secret@store")

    failure = scrape(Source("store", ask), FOR_EVER).failure
    assert failure
    assert failure.startswith("RuntimeError in test_reading.py:")
    assert "secret" not in failure
