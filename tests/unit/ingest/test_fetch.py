"""What is read from the head of an answer, and what an address may be called in a text."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import tenacity
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.fetch import _pause, _retry_after, error_text, place
from shared.failures import WillNotPass, WillPass


def retry_after(header: bytes) -> float | None:
    answer = httpx.Response(429, headers=[(b"retry-after", header)])
    return WillPass("busy", retry_after=_retry_after(answer)).retry_after


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(b"120", 120), (b"0", 0), (b"-5", 0), (b"1.5", 1.5), (b"999999999999", 3_600)],
)
def test_seconds_to_wait(header: bytes, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_a_date_to_wait_for() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert retry_after(soon.encode()) == pytest.approx(99.5, abs=1)
    assert retry_after(b"Mon, 01 Jan 2024 00:00:00 GMT") == 0


@given(st.binary(max_size=40))
@example(b"\xb2")
@example(b"nan")
@example(b"1e999")
@example(b"Mon, 01 Jan 99999999999 00:00:00 GMT")
def test_no_header_breaks_the_reader(header: bytes) -> None:
    seconds = retry_after(header)
    assert seconds is None or 0 <= seconds <= 3_600


@pytest.mark.parametrize("header", [b"", b"nan", b"inf", b"soon", b"Mon, 01 Jan 2024 00:00:00"])
def test_what_says_no_time(header: bytes) -> None:
    assert retry_after(header) is None


def pauses(failure: WillPass, attempt: int) -> list[float]:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(failure), failure, None))
    return [_pause(state) for _ in range(200)]


def test_pauses_are_spread_and_grow_to_a_limit() -> None:
    failure = WillPass("busy")
    assert 0 <= min(pauses(failure, 1)) < max(pauses(failure, 1)) <= 0.5
    assert 2 < max(pauses(failure, 4)) <= 4
    assert max(pauses(failure, 100)) <= 10


def test_a_pause_is_at_least_as_long_as_asked_for() -> None:
    assert set(pauses(WillPass("busy", retry_after=60), 1)) == {60}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://me:secret@example.org/a/b.csv?token=secret#x", "https://example.org/a/b.csv"),
        ("http://example.org:8080?key=secret", "http://example.org:8080/"),
    ],
)
def test_an_address_is_named_without_its_secrets(url: str, name: str) -> None:
    assert place(url) == name


@pytest.mark.parametrize(
    "url",
    [
        "https://me:not/secret@example.org/?key=secret",
        "http://example.org:70000/?key=secret",
        "http:///secret",
    ],
)
def test_what_is_no_address_is_not_repeated(url: str) -> None:
    with pytest.raises(WillNotPass, match="not a valid URL") as caught:
        place(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"error": "Key not\n authorised"}, "Key not authorised"),
        ({"status": "error", "message": "Meta not found"}, "Meta not found"),
        ({"error": "lone \ud800"}, "lone ?"),
        ({"error": {"code": 7}}, "{'code': 7}"),
        ({}, ""),
        (["error"], ""),
    ],
)
def test_the_words_of_an_error(content: object, text: str) -> None:
    assert error_text(content) == text
