"""The check of one batch against the reference: the drift report, and whether to retrain."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import pandas as pd

from services.drift.policies import POLICIES
from services.drift.statistics import compare_feature
from shared.events import BatchIngested, RetrainRequested, Stage, caused_fields
from shared.failures import NotYet
from shared.frames import from_parquet
from shared.outcome import Outcome, record_fields
from shared.pipeline import Drift, Pipeline
from shared.records import Batch, DriftReport, FeatureStats, Reference, Verdict
from shared.store import Store

_DECIDING_STAGES: Final[frozenset[Stage]] = frozenset({"drift", "trainer"})


@dataclass(frozen=True)
class Finding:
    """What the check of a batch says."""

    verdict: Verdict
    retrain: bool = False
    score: float | None = None
    drifts: dict[str, float] = field(default_factory=dict)
    stats: dict[str, FeatureStats] = field(default_factory=dict)


def check_batch(event: BatchIngested, pipeline: Pipeline, store: Store) -> Outcome:
    """Compare a batch with the reference, and ask for a new model if it has drifted.

    Raises:
        NotYet: an earlier batch of the pipeline is not checked, or the retraining that it asked for
            is not decided. Checks in order against a settled reference give the same decisions
            however messages arrive, and a drift that is being answered is not reported again.
    """
    _require_earlier_settled(event, store)
    reference = store.reference(event.pipeline)
    finding = _find(event, pipeline, reference, store)
    report = DriftReport(
        **record_fields(event, "drift"),
        verdict=finding.verdict,
        needs_retraining=finding.retrain,
        drift_score=finding.score,
        threshold=pipeline.drift.threshold,
        policy=pipeline.drift.policy,
        feature_drifts=finding.drifts,
        feature_stats=finding.stats,
        timestamp=datetime.now(UTC),
        sequence=event.sequence,
        batch_id=_batch(event.pipeline, event.sequence, store).id,
        batch_rows=event.rows,
        reference_version=reference.version if reference else None,
        reference_rows=reference.rows if reference else None,
    )
    return Outcome(report, _requests(event, report))


def _require_earlier_settled(event: BatchIngested, store: Store) -> None:
    if event.sequence == 1:
        return
    previous = store.find(Batch, {"pipeline": event.pipeline, "sequence": event.sequence - 1})
    for batch in previous:  # none if its retention is over
        for ingested in store.events_of(batch):
            if pending := store.first_unsettled("drift", ingested, _DECIDING_STAGES):
                raise NotYet(pending)


def _find(
    event: BatchIngested, pipeline: Pipeline, reference: Reference | None, store: Store
) -> Finding:
    if event.as_reference:
        return Finding("reference set", retrain=True)
    if reference is None:
        batches = store.batches_between(event.pipeline, 0, event.sequence)
        enough = sum(batch.rows for batch in batches) >= pipeline.drift.min_rows
        return Finding("no reference" if enough else "insufficient data", retrain=enough)
    features = list(pipeline.drift_features)
    return compare(
        from_parquet(store.cached_blob(reference.data), features),
        from_parquet(store.blob(event.data), features),
        pipeline.drift,
    )


def compare(reference: pd.DataFrame, current: pd.DataFrame, drift: Drift) -> Finding:
    """Compare every column of two tables under the pipeline's drift policy.

    The score is the mean of the features' drifts. With fewer rows than `drift.min_rows` in the
    batch there are figures but no score.
    """
    policy = POLICIES[drift.policy]
    stats = {
        str(name): compare_feature(reference[name].to_numpy(), current[name].to_numpy())
        for name in reference
    }
    if len(current) < drift.min_rows or not stats:
        return Finding("insufficient data", stats=stats)
    drifts = {name: policy(figures) for name, figures in stats.items()}
    score = sum(drifts.values()) / len(drifts)
    drifted = score > drift.threshold
    return Finding("drift" if drifted else "no drift", drifted, score, drifts, stats)


def _batch(pipeline: str, sequence: int, store: Store) -> Batch:
    return next(store.find(Batch, {"pipeline": pipeline, "sequence": sequence}))


def _requests(event: BatchIngested, report: DriftReport) -> tuple[RetrainRequested, ...]:
    if not report.needs_retraining:
        return ()
    reasons = {"no reference": "first_model", "reference set": "reference_set", "drift": "drift"}
    return (
        RetrainRequested(
            **caused_fields(event, "drift", RetrainRequested),
            reason=reasons[report.verdict],
            reference_version=report.reference_version,
            sequence=event.sequence,
            rows=event.rows,
            drift_score=report.drift_score,
        ),
    )
