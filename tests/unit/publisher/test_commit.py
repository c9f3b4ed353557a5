"""The commit: its words, its trailers, and what earlier commits say about it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.publisher.publish import few_words, metrics_line
from services.publisher.repository import Commit, PublishedModel, fast_import_stream
from shared.records import DriftReport
from tests.integration.publisher.promotions import drift_report, model_version

RUN = "0" * 32
COMMIT = Commit(
    pipeline="air_quality",
    version=12,
    run=RUN,
    files={"b": b"two\nlines", "a": b"", "gone": None},
    model_file="b",
    subject="Publish air_quality v12: why",
    body="Body.",
    at=datetime(2026, 1, 1, tzinfo=UTC),
    committer="Trimtab <trimtab@localhost>",
)


def test_the_trailers_are_the_last_paragraph() -> None:
    assert COMMIT.message.split("\n\n") == [
        "Publish air_quality v12: why",
        "Body.",
        f"Trimtab-Model: air_quality/v12\nTrimtab-Run: {RUN}\n",
    ]


def test_the_stream_for_git() -> None:
    message = COMMIT.message.encode()
    assert b"".join(fast_import_stream(COMMIT, "f" * 40)) == (
        b"commit refs/trimtab/made\nmark :1\n"
        b"author Trimtab <trimtab@localhost> 1767225600 +0000\n"
        b"committer Trimtab <trimtab@localhost> 1767225600 +0000\n"
        b"data %d\n%s\n"
        b"from %s\n"
        b"M 100644 inline a\ndata 0\n\n"
        b"M 100644 inline b\ndata 9\ntwo\nlines\n"
        b"D gone\n"
        b"get-mark :1\n" % (len(message), message, b"f" * 40)
    )


def test_a_first_commit_has_no_parent() -> None:
    assert b"\nfrom " not in b"".join(fast_import_stream(COMMIT, None))


def test_the_zone_of_a_time_does_not_change_the_commit() -> None:
    elsewhere = COMMIT.at.astimezone(timezone(timedelta(hours=5, minutes=30)))
    moved = Commit(**(vars(COMMIT) | {"at": elsewhere}))
    assert [*fast_import_stream(moved, None)] == [*fast_import_stream(COMMIT, None)]


@pytest.mark.parametrize(
    ("model", "run", "is_of", "is_before"),
    [
        ("air_quality/v12", RUN, True, False),
        ("air_quality/v12", "1" * 32, False, False),
        ("air_quality/v11", RUN, False, True),
        ("air_quality/v2", "1" * 32, False, True),
        ("air_quality/v13", RUN, False, False),
        ("parcels/v2", RUN, False, False),
        ("air_quality/v", RUN, False, False),
        ("air_quality/v\u00b2", RUN, False, False),
        ("air_quality/v" + "1" * 5_000, RUN, False, False),
        ("air_quality/v2,air_quality/v3", RUN, False, False),
        ("", "", False, False),
    ],
)
def test_what_an_earlier_commit_says(model: str, run: str, is_of: bool, is_before: bool) -> None:
    entry = PublishedModel("f" * 40, model, run)
    assert (entry.is_of(COMMIT), entry.is_before(COMMIT)) == (is_of, is_before)


@pytest.mark.parametrize(
    ("reason", "report", "words"),
    [
        ("drift", drift_report(3), "drift 0.330 over 0.1"),
        ("drift", None, "the data has drifted"),
        ("drift", drift_report(3, drift_score=None), "the data has drifted"),
        ("first_model", None, "the first model"),
        ("reference_set", drift_report(3), "a reference was set"),
    ],
)
def test_why_in_few_words(reason: str, report: DriftReport | None, words: str) -> None:
    assert few_words(model_version(3, lineage={"reason": reason}), report) == words


def test_the_metrics_on_one_line() -> None:
    assert metrics_line(model_version(3)) == (
        "mae 6.457 (before: 6.971), mse 112.2 (before: 130.5), r2_score 0.8125"
    )
    assert metrics_line(model_version(1, metrics={"log_loss": 0.5, "accuracy": None})) == (
        "log_loss 0.5"
    )
