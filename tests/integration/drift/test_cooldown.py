"""After a rejected model or a rollback the same drift asks for no other for a while."""

from datetime import timedelta

import pytest

from services.drift.cooldown import why_held_back
from shared.drift import PerformanceFinding
from shared.events import RetrainRequested
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion
from shared.store import Store
from tests.integration.drift.loop import Loop, with_drift, with_gate
from tests.keys import authenticate


@pytest.fixture
def loop(store: Store, air_quality: Pipeline) -> Loop:
    """Every model after the first is rejected; batches come every hour."""
    pipeline = with_gate(with_drift(air_quality, trigger="data"), cooldown="3h")
    loop = Loop(store, pipeline, rejects=frozenset(range(2, 30)))
    loop.begin()
    return loop


def asked(loop: Loop, report: DriftReport) -> bool:
    requests = [e for e in loop.store.events_of(report) if isinstance(e, RetrainRequested)]
    assert bool(requests) == report.needs_retraining
    return report.needs_retraining


def drifts(loop: Loop, batches: int) -> list[DriftReport]:
    reports = [loop.go_round(loop.ingest(level=150)) for _ in range(batches)]
    assert {report.verdict for report in reports} == {"drift"}
    return reports


def test_drift_that_stays_asks_again_when_the_pause_is_over(loop: Loop) -> None:
    reports = drifts(loop, 7)
    assert [asked(loop, report) for report in reports] == [True, False, False] * 2 + [True]
    assert {report.incident for report in reports} == {2}
    assert reports[1].reason.endswith(
        "; no model is asked for by batches before 2025-12-31 22:30 UTC (gate.cooldown), "
        "as v2 was rejected at batch 2"
    )


def test_pause_is_between_batches_and_not_by_the_clock(loop: Loop) -> None:
    assert asked(loop, drifts(loop, 1)[0])
    loop._hours += 2
    assert asked(loop, drifts(loop, 1)[0])


def test_without_event_times_the_pause_is_by_the_batches_records(
    store: Store, air_quality: Pipeline
) -> None:
    schema = air_quality.data.model_copy(
        update={"event_time": None, "key": ("station", "pollutant_id", "last_update")}
    )
    pipeline = air_quality.model_copy(update={"data": schema})
    pipeline = with_gate(with_drift(pipeline, trigger="data"), cooldown="3h")
    loop = Loop(store, pipeline, rejects=frozenset({2, 3, 4}))
    loop.begin()
    assert [asked(loop, report) for report in drifts(loop, 2)] == [True, False]
    event = loop.ingest(level=150)
    batches = store.database["batches"]
    (late,) = batches.find({"sequence": 4})
    batches.update_one(
        {"sequence": 4}, {"$set": {"recorded_at": late["recorded_at"] + timedelta(hours=3)}}
    )
    authenticate(loop.store)
    assert asked(loop, loop.go_round(event))


def test_promotion_is_followed_by_no_pause(loop: Loop) -> None:
    loop.rejects = frozenset()
    assert asked(loop, drifts(loop, 1)[0])
    assert asked(loop, loop.go_round(loop.ingest(level=50)))


def test_rollback_is_followed_by_a_pause(loop: Loop) -> None:
    loop.rejects = frozenset()
    drifts(loop, 1)
    loop.store.collection(ModelVersion).update_one({"version": 2}, {"$set": {"restores": 1}})
    authenticate(loop.store)
    report = loop.check(loop.ingest(level=50))
    assert (report.verdict, asked(loop, report)) == ("drift", False)
    assert report.reason.endswith("as v2 was put in place to restore v1 at batch 2")


def test_reference_that_a_person_sets_is_never_held_back(loop: Loop) -> None:
    drifts(loop, 1)
    report = loop.check(loop.ingest(as_reference=True))
    assert asked(loop, report)


def test_no_cooldown_holds_nothing_back(loop: Loop) -> None:
    loop.pipeline = with_gate(loop.pipeline, cooldown=0)
    assert [asked(loop, report) for report in drifts(loop, 3)] == [True] * 3


def test_batch_of_the_rejection_that_is_gone_holds_nothing_back(loop: Loop) -> None:
    drifts(loop, 1)
    event = loop.ingest(level=150)
    loop.store.database["batches"].delete_many({"sequence": {"$lte": 2}})
    assert asked(loop, loop.check(event))


def worse(error: float | None) -> PerformanceFinding:
    """The champion's error on a batch, which is drift; None: no drift."""
    return PerformanceFinding(
        model_version=1,
        metric="mae",
        error=error or 2.0,
        error_at_promotion=2.0,
        rows=100,
        groups=30,
        threshold=0.001,
        drift=error is not None,
        reason="a test",
    )


@pytest.mark.parametrize(
    ("then", "now", "held"),
    [
        (None, None, True),
        (None, 3.0, False),  # the champion has become worse since
        (3.0, 3.7, True),  # a quarter more is still the same drift
        (3.0, 3.8, False),
        (3.0, None, True),
    ],
)
def test_pause_is_for_the_drift_that_it_began_with(
    then: float | None, now: float | None, held: bool, loop: Loop
) -> None:
    rejected, _ = drifts(loop, 2)
    loop.store.collection(DriftReport).update_one(
        {"_id": rejected.id}, {"$set": {"performance": worse(then).model_dump()}}
    )
    authenticate(loop.store)
    assert bool(why_held_back(3, worse(now), loop.pipeline, loop.store)) == held


def test_worse_error_does_not_end_the_pause_after_a_rollback(loop: Loop) -> None:
    drifts(loop, 2)
    loop.store.collection(ModelVersion).update_one({"version": 2}, {"$set": {"restores": 1}})
    authenticate(loop.store)
    assert why_held_back(3, worse(9.0), loop.pipeline, loop.store)
