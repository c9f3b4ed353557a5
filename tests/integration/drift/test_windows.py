"""Windows: sums of stored counts by batch number, whatever the order of the messages."""

import gzip
import random
from typing import Any, cast
from uuid import uuid4

import pytest

from services.drift.report.model import DriftReport as FullReport
from services.drift.report.model import WindowFinding
from shared.drift import Drift
from shared.events import Event
from shared.failures import NotYet
from shared.pipeline import Pipeline
from shared.records import DriftReport
from shared.store import Store
from tests.integration.drift.loop import Loop, with_drift
from tests.keys import AUTHENTICATOR, authenticate
from tests.sweeping import prepare_all


def whole(loop: Loop, report: DriftReport) -> FullReport:
    assert report.details
    return FullReport.model_validate_json(gzip.decompress(loop.store.blob(report.details)))


def windows(loop: Loop, report: DriftReport) -> list[tuple[int, int | None, int | None]]:
    found: list[WindowFinding] = whole(loop, report).windows
    return [(each.batches, each.first_sequence, each.last_sequence) for each in found]


@pytest.mark.parametrize(("length", "level"), [(6, 59), (24, 54)])
def test_slow_drift_is_found_by_a_window_alone(
    store: Store, air_quality: Pipeline, length: int, level: float
) -> None:
    loop = Loop(store, with_drift(air_quality, windows=(1, length), trigger="data"))
    loop.begin(stations=100, hours=4)
    reports = [loop.check(loop.ingest(level=level, stations=10)) for _ in range(length)]
    assert {report.verdict for report in reports[:-1]} == {"no drift"}
    last = reports[-1]
    assert (last.verdict, last.window_batches, last.incident) == ("drift", length, length + 1)
    (decisive,) = (found for found in whole(loop, last).windows if found.drift)
    assert (decisive.first_sequence, decisive.last_sequence) == (2, length + 1)
    assert decisive.rows == length * 60


def test_windows_are_due_by_the_batches_since_the_reference(
    store: Store, air_quality: Pipeline
) -> None:
    loop = Loop(store, with_drift(air_quality, windows=(1, 2, 3, 6)))
    loop.begin()
    reports = [loop.check(loop.ingest(stations=5)) for _ in range(6)]
    assert [windows(loop, report)[1:] for report in reports] == [
        [],
        [(2, 2, 3)],
        [(3, 2, 4)],
        [(2, 4, 5)],
        [],
        [(2, 6, 7), (3, 5, 7), (6, 2, 7)],
    ]


def test_batches_too_small_for_a_verdict_count_in_a_window(
    store: Store, air_quality: Pipeline
) -> None:
    loop = Loop(store, with_drift(air_quality, windows=(1, 3), min_rows=50, trigger="data"))
    loop.begin()
    reports = [loop.check(loop.ingest(level=200, stations=5)) for _ in range(3)]
    assert [r.verdict for r in reports] == ["insufficient data"] * 2 + ["drift"]
    assert reports[-1].window_batches == 3


def test_new_reference_begins_the_windows_anew(store: Store, air_quality: Pipeline) -> None:
    loop = Loop(store, with_drift(air_quality, windows=(1, 2)))
    loop.begin()
    assert loop.go_round(loop.ingest(level=150)).verdict == "drift"
    reports = [loop.check(loop.ingest(level=150)) for _ in range(2)]
    assert [windows(loop, report)[1:] for report in reports] == [[], [(2, 3, 4)]]


def test_counts_that_are_gone_are_counted_again(store: Store, air_quality: Pipeline) -> None:
    loop = Loop(store, with_drift(air_quality, windows=(1, 2)))
    loop.begin()
    first, second = loop.ingest(), loop.ingest()
    loop.check(first)
    kept = whole(loop, loop.check(second)).windows
    reports = store.database["drift_reports"]
    reports.delete_one({"sequence": 3})
    reports.update_one({"sequence": 2}, {"$unset": {"counts": ""}})
    authenticate(loop.store)
    assert whole(loop, loop.check(second)).windows == kept


def test_window_with_a_batch_that_is_gone_is_left_out_and_said(
    store: Store, air_quality: Pipeline
) -> None:
    loop = Loop(store, with_drift(air_quality, windows=(1, 2, 4)))
    loop.begin()
    events = [loop.ingest(stations=5) for _ in range(4)]
    for event in events[:-1]:
        loop.check(event)
    for collection in ("batches", "drift_reports"):
        store.database[collection].delete_one({"sequence": 3})
    report = loop.check(events[-1])
    assert windows(loop, report) == [(1, 5, 5), (2, 4, 5)]
    assert whole(loop, report).assumptions[-1] == (
        "The last 4\N{NO-BREAK SPACE}batches together are not compared: "
        "the store no longer holds batch 3."
    )


def test_counts_in_other_bins_are_never_added(store: Store, air_quality: Pipeline) -> None:
    pipeline = with_drift(air_quality, windows=(1, 2))
    loop = Loop(store, pipeline)
    loop.begin()
    first, second = loop.ingest(), loop.ingest()
    before = loop.check(first)
    loop.pipeline = with_drift(pipeline, columns=("pollutant_max", "pollutant_min", "city"))
    after = loop.check(second)
    assert after.profile != before.profile
    assert windows(loop, after)[1:] == [(2, 2, 3)]
    assert set(after.feature_drifts) == {"pollutant_max", "pollutant_min", "city", "pollutant_id"}
    both = whole(loop, after)
    rows = {name: stats.curr_rows for name, stats in both.feature_stats.items()}
    decisive = both.window
    assert decisive
    share = 1 - both.missing_rates["pollutant_min"].current
    assert rows["pollutant_min"] == pytest.approx(share * decisive.rows)


def play(loop: Loop, seed: int | None) -> list[dict[str, Any]]:
    """All records of a history with a drift that is answered, one that is not, and late targets.

    With a seed messages come shuffled and repeatedly, and handlers die before they have written.
    """
    levels = (50, 50, 50, 150, 150, 150, 150, 50, 50, 50)
    inbox: list[Event] = [
        event for level in levels for event in loop.ingest_in_chunks(level, stations=20)
    ]
    late = loop.next_rows(50)
    inbox += [*loop.take_in(late.assign(pollutant_avg="NA")), *loop.take_in(late)]
    chance = random.Random(seed)  # noqa: S311
    if seed is not None:
        inbox *= 3
        chance.shuffle(inbox)
    while inbox:
        event = inbox.pop(0)
        if seed is not None and chance.random() < 0.2:
            inbox.insert(chance.randrange(len(inbox) + 1), event)
        try:
            followers = loop.deliver(event)
        except NotYet:
            inbox.append(event)
            continue
        for follower in followers:
            inbox.insert(chance.randrange(len(inbox) + 1) if seed is not None else 0, follower)
    return [record for name in ("drift_reports", "references") for record in _records(loop, name)]


def _records(loop: Loop, collection: str) -> list[dict[str, Any]]:
    found = loop.store.database[collection].find({}, sort=[("_id", 1)])
    return [_without_times(loop, document) for document in found]


def _without_times(loop: Loop, document: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in document.items() if key not in _TIMES}
    if details := kept.pop("details", None):
        full = FullReport.model_validate_json(gzip.decompress(loop.store.blob(details)))
        kept["details"] = full.model_dump(exclude={"timestamp"})
    kept["outbox"] = [
        {key: value for key, value in event.items() if key != "occurred_at"}
        for event in kept["outbox"]
    ]
    return kept


_TIMES = {"recorded_at", "timestamp", "outbox_sent_at", "mac", "outbox_mac"}


def other_store(store: Store) -> Store:
    other = Store(store.database.client[f"{store.database.name}_{uuid4().hex[:8]}"], AUTHENTICATOR)
    prepare_all(other)
    return other


def test_order_and_repetition_of_messages_change_nothing(
    store: Store, air_quality: Pipeline
) -> None:
    compared = ("pollutant_min", "pollutant_max")
    pipeline = with_drift(air_quality, windows=(1, 3), chunk_rows=50, columns=compared)
    rejects = frozenset({8})
    in_order = play(Loop(store, pipeline, rejects), None)
    shuffled_store = other_store(store)
    try:
        shuffled = play(Loop(shuffled_store, pipeline, rejects), 1)
    finally:
        store.database.client.drop_database(shuffled_store.database.name)
    verdicts = [record["verdict"] for record in in_order if "verdict" in record]
    assert sorted(verdicts)[:2] == ["drift", "drift"]
    assert [r["batch_rows"] for r in in_order if "verdict" in r].count(0) == 1
    assert sum(r["performance"]["p"] is not None for r in in_order if r.get("performance")) > 5
    assert shuffled == in_order


def test_stated_settings_are_those_of_the_file(air_quality: Pipeline) -> None:
    assert air_quality.drift == Drift(
        segment="pollutant_id",
        cluster=("station",),
        columns=cast("tuple[str, ...]", ("pollutant_min", "pollutant_max", "pollutant_avg")),
    )
