"""Counters: every record once, whenever it is committed, and for good."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import PyMongoError

from services.exporter import metrics
from services.exporter.metrics import exposed
from services.exporter.totals import LATE, Totals
from shared.events import IngestionDue, first_event_fields
from shared.outcome import Handling
from shared.records import Batch, DriftReport, Record
from shared.store import Store
from tests.integration.plain_records import check_of, dead_letter
from tests.keys import authenticate

PIPELINE = "air_quality"


def commit(store: Store, age: timedelta = timedelta(), **fields: Any) -> str:
    """A reading's record, committed now; its time is `age` earlier."""
    batch = Batch(
        id=f"ingest:{uuid4().hex}",
        pipeline=PIPELINE,
        trace_id="0" * 32,
        recorded_at=datetime.now(UTC) - age,
        outcome="nothing new",
        rows_received=3,
        rows=1,
        rows_known=2,
        source="a test",
        handled_seconds=0.5,
    ).model_copy(update=fields)
    due = IngestionDue(**first_event_fields(PIPELINE, batch.id), slot=batch.recorded_at)
    handling = Handling(event=due, attempt=3, begun_at=batch.recorded_at)
    assert store.record(batch, handling=handling)
    return batch.id


def expire(store: Store, *records: str) -> None:
    store.collection(Batch).delete_many({"_id": {"$in": records}})


def readings(totals: Totals) -> float:
    return totals.look()[metrics.READINGS][(PIPELINE,)]


@pytest.fixture
def totals(store: Store) -> Totals:
    return Totals(store, (PIPELINE,), datetime.now(UTC) - timedelta(days=60))


def test_what_expires_stays_counted(store: Store, totals: Totals) -> None:
    old = [commit(store, timedelta(days=30)) for _ in range(5)]
    young = [commit(store) for _ in range(2)]
    before = totals.look()
    expire(store, *old, *young)
    assert totals.look() == before
    assert before[metrics.READINGS] == {(PIPELINE,): 7}
    commit(store)
    after = totals.look()
    assert after[metrics.READINGS] == {(PIPELINE,): 8}
    assert after[metrics.ROWS][PIPELINE, "taken_in_before"] == 16
    assert after[metrics.HANDLED]["ingest",] == 8
    assert after[metrics.HANDLING_SECONDS]["ingest",] == 4
    assert after[metrics.RETRIES]["ingest",] == 16


def test_rows_are_counted_by_what_became_of_them(store: Store, totals: Totals) -> None:
    batch = commit(store)
    known = {"taken_in_before": 3, "repeated": 4, "changed": 5}
    change = {"$set": {"known": known, "rows_known": 12, "rows_missing": 6}}
    store.collection(Batch).update_one({"_id": batch}, change)
    authenticate(store)
    rows = totals.look()[metrics.ROWS]
    kinds = ("taken_in_before", "repeated", "changed", "missing")
    assert [rows[PIPELINE, kind] for kind in kinds] == [3, 4, 5, 6]


def test_a_record_that_is_committed_late_counts_once(store: Store, totals: Totals) -> None:
    commit(store)
    assert readings(totals) == 1
    commit(store, timedelta(minutes=4))  # its handler was slow, or its host's clock is
    assert readings(totals) == 2
    assert readings(totals) == 2


def test_they_begin_at_zero_with_the_exporter(store: Store) -> None:
    """What was counted before its restart would be seen as risen once more."""
    commit(store, timedelta(days=1))
    commit(store, timedelta(minutes=1))
    totals = Totals(store, (PIPELINE,), datetime.now(UTC))
    assert readings(totals) == 0
    commit(store)
    assert readings(totals) == 1


def test_a_record_that_is_not_as_it_is_written_counts_as_that(
    store: Store, totals: Totals, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = [commit(store) for _ in range(3)][1]
    change = {"$set": {"set_aside": "a value from data"}, "$unset": {"rows": ""}}
    store.collection(Batch).update_one({"_id": altered}, change)
    authenticate(store)
    counted = totals.look()
    assert counted[metrics.READINGS] == {(PIPELINE,): 2}
    assert counted[metrics.UNREADABLE] == {(): 1}
    assert totals.look() == counted
    said = capsys.readouterr().out
    assert altered in said
    assert "KeyError in totals.py:" in said
    assert "a value from data" not in said


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": None},
        {"verdict": 5},
        {"verdict": ["no drift"]},
        {"verdict": {}},
        {"handled_seconds": math.inf},
        {"handled_seconds": math.nan},
        {"handled_seconds": -1},
        {"handled_seconds": "long"},
        {"handling": {"attempt": math.inf}},
        {"pipeline": None},
    ],
)
def test_whatever_a_record_has_become_the_figures_are_served(
    change: dict[str, Any], store: Store, totals: Totals
) -> None:
    commit(store)
    event = IngestionDue(**first_event_fields(PIPELINE, "check"), slot=datetime.now(UTC))
    store.record(check_of(event, handled_seconds=1.0))
    store.collection(DriftReport).update_one({}, {"$set": change})
    authenticate(store)
    counted = totals.look()
    assert counted[metrics.READINGS] == {(PIPELINE,): 1}
    assert set(counted[metrics.CHECKS].values()) == {0}
    assert counted[metrics.UNREADABLE] == {(): float(change != {"pipeline": None})}
    served = list(exposed(counted))
    assert math.isfinite(sum(sample.value for family in served for sample in family.samples))


def test_letters_of_no_known_pipeline_are_counted_as_that(store: Store, totals: Totals) -> None:
    for number, name in enumerate(("unknown", "taken_away", PIPELINE)):
        store.bury(dead_letter(f"drift:{number}", pipeline=name))
    letters = totals.look()[metrics.DEAD_LETTERS]
    assert (letters["unknown", "drift"], letters[PIPELINE, "drift"]) == (2, 1)
    assert {name for name, _ in letters} == {"unknown", PIPELINE}


def test_the_end_of_what_is_looked_at_again_is_that_of_the_query(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store knows milliseconds, and a query for a time is one for its millisecond."""

    class Standing(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 1, 5, 12, 0, 0, 1_999, tzinfo=tz)

    monkeypatch.setattr("services.exporter.totals.datetime", Standing)
    totals = Totals(store, (PIPELINE,), Standing.now(UTC) - 2 * LATE)
    commit(store, recorded_at=Standing.now(UTC) - LATE)
    assert [readings(totals) for _ in range(3)] == [1, 1, 1]


def test_a_letter_given_up_again_counts_again(store: Store, totals: Totals) -> None:
    letter = dead_letter("publisher:1", pipeline="unknown", attempts=5)
    store.bury(letter)
    assert totals.look()[metrics.DEAD_LETTERS]["unknown", "publisher"] == 1
    store.bury(letter.model_copy(update={"recorded_at": datetime.now(UTC) + timedelta(seconds=1)}))
    found = totals.look()
    assert found[metrics.DEAD_LETTERS]["unknown", "publisher"] == 2
    assert found[metrics.RETRIES]["publisher",] == 8


def test_records_of_other_pipelines_have_no_label(store: Store, totals: Totals) -> None:
    commit(store, pipeline="taken_away")
    assert set(totals.look()[metrics.READINGS]) == {(PIPELINE,)}


def test_a_look_that_fails_half_way_counts_nothing_twice(
    store: Store, totals: Totals, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store)
    find = store.collection

    def failing(kind: type[Record]) -> Any:
        if kind is not Batch:
            raise PyMongoError("gone")
        return find(kind)

    with monkeypatch.context() as patch:
        patch.setattr(store, "collection", failing)
        with pytest.raises(PyMongoError):
            totals.look()
    assert readings(totals) == 1


Step = tuple[Literal["commit", "look", "expire"], int]
steps = st.lists(
    st.tuples(st.sampled_from(["commit", "commit", "look", "expire"]), st.integers(0, 9)),
    max_size=25,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=steps, before=st.integers(0, 5))
def test_any_history_is_counted_once(store: Store, history: list[Step], before: int) -> None:
    """Commits whose time is up to five minutes past, looks, and the expiry of what was seen."""
    store.collection(Batch).delete_many({})
    committed = [commit(store, timedelta(days=age + 1)) for age in range(before)]
    totals = Totals(store, (PIPELINE,), datetime.now(UTC) - timedelta(days=60))
    seen, highest = 0, 0.0
    for what, number in history:
        if what == "commit":
            committed.append(commit(store, number * LATE / 10))
        elif what == "expire":
            expire(store, *committed[: min(number, seen)])
        else:
            counted = readings(totals)
            assert counted == len(committed)
            assert counted >= highest
            seen, highest = len(committed), counted
    assert readings(totals) == len(committed)
