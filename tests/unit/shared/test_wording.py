"""One form for each kind of figure that people read."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.wording import change, clock, measured, moment, p_equals, percent, probability


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.34, "0.34"), (0.00025, "0.00025"), (3.2e-8, "3.2e-8"), (1e-17, "< 1e-16"), (0, "< 1e-16")],
)
def test_p_values_have_two_digits(p: float, shown: str) -> None:
    assert plain(probability(p)) == shown


def test_p_equals_reads_as_a_statement() -> None:
    assert plain(p_equals(0.04)) == "p = 0.04"
    assert plain(p_equals(1e-300)) == "p < 1e-16"
    assert plain(p_equals(None)) == plain(p_equals(float("nan"))) == "no p-value"


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.27, "27 %"),
        (0.014, "1.4 %"),
        (0.05, "5 %"),
        (0.0001, "< 0.1 %"),
        (0, "0 %"),
        (1, "100 %"),
        (None, "–"),
        (float("inf"), "–"),
    ],
)
def test_shares(share: float | None, shown: str) -> None:
    assert plain(percent(share)) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (-0.0719, "-7.2 %"),
        (0.0104, "+1 %"),
        (0.4321, "+43 %"),
        (0.0004, "0 %"),
        (-0.0006, "-0.1 %"),
        (12.0, "+1,200 %"),
        (None, "–"),
    ],
)
def test_changes_have_a_sign(share: float | None, shown: str) -> None:
    assert plain(change(share)) == shown


def test_times_are_told_in_utc() -> None:
    at = datetime(2026, 1, 10, 9, 0, 5, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert moment(at) == "2026-01-10 03:30 UTC"
    assert moment(at, seconds=True) == "2026-01-10 03:30:05 UTC"
    assert clock(at) == "2026-01-10 03:30"
    assert moment(datetime(2026, 1, 10, 9, tzinfo=UTC)) == "2026-01-10 09:00 UTC"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (6.45712, "6.457"),
        (-0.0004, "-0.0004"),
        (1.5e-9, "1.5e-9"),
        (9_999.4, "9999"),
        (123_456.789, "123,457"),
        (1e16, "1e16"),
        (0.0, "0"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_measured_value_has_four_digits(value: float | None, words: str) -> None:
    assert measured(value) == words
