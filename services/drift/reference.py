"""The reference: what the champion was trained on. It moves with a promotion, nothing else."""

from datetime import UTC, datetime

from services.drift.stored_profile import store_profile
from services.drift.tables.roles import roles_of
from shared.events import ModelPromoted
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import DriftReport, Reference, RetiredReference
from shared.store import Store


def adopt_reference(event: ModelPromoted, pipeline: Pipeline, store: Store) -> Outcome:
    """Make the new champion's training window the reference; the old one goes into the history."""
    profile = store_profile(event.window, roles_of(pipeline), store)
    current = store.reference(event.pipeline)
    if current:
        store.record(_retired(current, event, store))
    return Outcome(
        Reference(
            **record_fields(event, "drift"),
            version=current.version + 1 if current else 1,
            data=event.window,
            profile=profile,
            rows=event.window_rows,
            up_to_sequence=event.sequence,
            model_version=event.model_version,
        )
    )


def _retired(reference: Reference, event: ModelPromoted, store: Store) -> RetiredReference:
    """The reference with the drift that ended it."""
    report = store.newest(
        DriftReport, {"pipeline": event.pipeline, "sequence": event.sequence}, "recorded_at"
    )
    now = datetime.now(UTC)
    return RetiredReference(
        id=reference.id,
        pipeline=reference.pipeline,
        trace_id=event.trace_id,
        recorded_at=now,
        version=reference.version,
        data=reference.data,
        rows=reference.rows,
        timestamp=now,
        drift_score=report.drift_score if report else None,
        feature_drifts=report.feature_drifts if report else {},
    )
