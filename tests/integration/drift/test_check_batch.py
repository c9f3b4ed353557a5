"""The drift stage on a real store: reports, requests, the order of batches, the reference."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from services.drift.check import check_batch
from services.drift.reference import adopt_reference
from shared.events import (
    BatchIngested,
    IngestionDue,
    ModelPromoted,
    ModelRejected,
    RetrainRequested,
    caused_fields,
    effect_id,
    first_event_fields,
)
from shared.failures import NotYet
from shared.frames import to_parquet
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion, Reference, RetiredReference
from shared.store import Store

FEATURES = ("pollutant_min", "pollutant_max", "pollutant_avg")


class Loop:
    """Plays the other stages around the drift stage."""

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self.store = store
        self.pipeline = pipeline

    def ingest(
        self, sequence: int, level: float = 50, rows: int = 100, *, as_reference: bool = False
    ) -> BatchIngested:
        rng = np.random.default_rng(sequence)
        frame = pd.DataFrame({name: rng.normal(level, 10, rows) for name in FEATURES})
        data = self.store.put_blob(to_parquet(frame))
        slot = datetime(2026, 1, 1, sequence, tzinfo=UTC)
        due = IngestionDue(**first_event_fields("air_quality", "slot", sequence), slot=slot)
        event = BatchIngested(
            **caused_fields(due, "ingest", BatchIngested),
            sequence=sequence,
            rows=rows,
            data=data,
            as_reference=as_reference,
        )
        batch = Batch(
            **record_fields(due, "ingest"),
            outcome="ingested",
            sequence=sequence,
            data=data,
            rows=rows,
            rows_received=rows,
            source="a test",
        )
        self.store.record(batch, [event])
        return event

    def check(self, event: BatchIngested) -> Outcome:
        outcome = check_batch(event, self.pipeline, self.store)
        self.store.record(outcome.record, outcome.events)
        return outcome

    def train(
        self, request: RetrainRequested, *, promoted: bool = True
    ) -> ModelPromoted | ModelRejected:
        batches = self.store.batches_between("air_quality", 0, request.sequence)
        window = batches[-1].data
        assert window
        event: ModelPromoted | ModelRejected
        if promoted:
            event = ModelPromoted(
                **caused_fields(request, "trainer", ModelPromoted),
                model_version=request.sequence,
                sequence=request.sequence,
                window=window,
                window_rows=100,
            )
        else:
            event = ModelRejected(
                **caused_fields(request, "trainer", ModelRejected),
                model_version=request.sequence,
                champion_version=1,
                sequence=request.sequence,
                reason="worse",
            )
        model = ModelVersion(
            **record_fields(request, "trainer"),
            version=request.sequence,
            decision="promoted" if promoted else "rejected",
            reason="a test",
            model=window,
            seal="",
            model_bytes=1,
            metrics={},
            champion_version=None,
            window=window,
            sequence=request.sequence,
            drift_report="",
            lineage={},
        )
        self.store.record(model, [event])
        return event

    def adopt(self, event: ModelPromoted | ModelRejected) -> None:
        assert isinstance(event, ModelPromoted)
        outcome = adopt_reference(event, self.store)
        self.store.record(outcome.record, outcome.events)

    def first_model(self) -> None:
        (request,) = self.check(self.ingest(1)).events
        assert isinstance(request, RetrainRequested)
        self.adopt(self.train(request))


@pytest.fixture
def loop(store: Store, air_quality: Pipeline) -> Loop:
    return Loop(store, air_quality)


def verdict(outcome: Outcome) -> str:
    assert isinstance(outcome.record, DriftReport)
    return outcome.record.verdict


def test_first_batch_asks_for_the_first_model(loop: Loop) -> None:
    outcome = loop.check(loop.ingest(1))
    assert verdict(outcome) == "no reference"
    (request,) = outcome.events
    assert isinstance(request, RetrainRequested)
    assert (request.reason, request.reference_version) == ("first_model", None)


def test_small_first_batches_wait_until_there_are_enough_rows(loop: Loop) -> None:
    outcomes = [loop.check(loop.ingest(number, rows=12)) for number in (1, 2, 3)]
    assert [verdict(o) for o in outcomes] == ["insufficient data"] * 2 + ["no reference"]


def test_promotion_makes_the_window_the_reference(loop: Loop) -> None:
    loop.first_model()
    reference = loop.store.reference("air_quality")
    assert reference
    assert (reference.version, reference.up_to_sequence, reference.model_version) == (1, 1, 1)
    assert loop.store.collection(RetiredReference).count_documents({}) == 0


def test_stable_batch_asks_for_nothing(loop: Loop) -> None:
    loop.first_model()
    outcome = loop.check(loop.ingest(2))
    assert verdict(outcome) == "no drift"
    assert outcome.events == ()


def test_drifted_batch_asks_for_a_model_and_its_promotion_retires_the_reference(
    loop: Loop,
) -> None:
    loop.first_model()
    outcome = loop.check(loop.ingest(2, level=90))
    report = outcome.record
    assert isinstance(report, DriftReport)
    assert report.verdict == "drift"
    assert report.drift_score
    assert report.drift_score > report.threshold
    assert set(report.feature_drifts) == set(FEATURES)
    (request,) = outcome.events
    assert isinstance(request, RetrainRequested)
    assert (request.reason, request.reference_version, request.sequence) == ("drift", 1, 2)
    loop.adopt(loop.train(request))
    reference = loop.store.reference("air_quality")
    assert reference
    assert reference.version == 2
    retired = loop.store.newest(RetiredReference, {}, "version")
    assert retired
    assert (retired.version, retired.drift_score) == (1, report.drift_score)
    assert retired.feature_drifts == report.feature_drifts


def test_batch_waits_for_the_one_before_it(loop: Loop) -> None:
    loop.first_model()
    second, third = loop.ingest(2), loop.ingest(3)
    with pytest.raises(NotYet, match=effect_id("drift", second.event_id)):
        loop.check(third)
    loop.check(second)
    assert verdict(loop.check(third)) == "no drift"


def test_batch_waits_until_the_drift_before_it_is_answered(loop: Loop) -> None:
    loop.first_model()
    drifted = loop.check(loop.ingest(2, level=90))
    (request,) = drifted.events
    assert isinstance(request, RetrainRequested)
    third = loop.ingest(3, level=90)
    with pytest.raises(NotYet, match=effect_id("trainer", request.event_id)):
        loop.check(third)
    promoted = loop.train(request)
    with pytest.raises(NotYet, match=effect_id("drift", promoted.event_id)):
        loop.check(third)
    loop.adopt(promoted)
    assert verdict(loop.check(third)) == "no drift"


def test_rejected_model_leaves_the_reference(loop: Loop) -> None:
    loop.first_model()
    (request,) = loop.check(loop.ingest(2, level=90)).events
    assert isinstance(request, RetrainRequested)
    loop.train(request, promoted=False)
    assert verdict(loop.check(loop.ingest(3, level=90))) == "drift"
    assert loop.store.collection(Reference).count_documents({}) == 1


def test_reference_set_by_a_person_asks_for_a_model(loop: Loop) -> None:
    loop.first_model()
    outcome = loop.check(loop.ingest(2, as_reference=True))
    assert verdict(outcome) == "reference set"
    (request,) = outcome.events
    assert isinstance(request, RetrainRequested)
    assert request.reason == "reference_set"


def test_report_has_the_original_workflows_keys(loop: Loop) -> None:
    loop.first_model()
    report = loop.check(loop.ingest(2, level=70)).record.model_dump(mode="json")
    assert {
        "drift_score",
        "needs_retraining",
        "feature_drifts",
        "feature_stats",
        "timestamp",
    } <= set(report)
    stats = report["feature_stats"]["pollutant_avg"]
    assert {"ref_mean", "curr_mean", "ref_std", "curr_std"} <= set(stats)
    assert datetime.fromisoformat(report["timestamp"]).utcoffset() is not None
