"""When a worker asks itself for a sweep."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.sweep import is_due

EVERY, LONGEST = 10.0, 1800.0


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("asked", "done", "queued", "due"),
    [
        (None, None, 3, True),  # the worker has just started
        (None, 1, 0, True),
        (20, 19, 5, True),  # it was done, and that is longer ago than the period
        (9, 4, 0, False),
        (4, 60, 0, False),  # the request is in the queue, or in hand
        (4, None, 1, False),
        (60, 70, 1, False),  # the worker is busy with something else; one request is enough
        (60, 70, 0, True),  # the queue is empty, so the request was lost
        (1801, 1900, 7, True),  # nothing takes as long
    ],
)
def test_one_request_at_a_time_and_a_lost_one_again(
    asked: float | None, done: float | None, queued: int, due: bool
) -> None:
    asked_at = None if asked is None else ago(asked)
    done_at = None if done is None else ago(done)
    assert is_due(asked_at, done_at, queued, EVERY, LONGEST) is due
