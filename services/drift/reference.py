"""The reference: what the champion was trained on. It moves with a promotion, nothing else."""

from datetime import UTC, datetime
from typing import Any

from services.drift.stored_profile import store_profile
from services.drift.tables.roles import roles_of
from shared.events import ModelPromoted
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.promotions import require_earlier_taken_up, require_recorded
from shared.records import DriftReport, ModelVersion, Reference, RetiredReference
from shared.store import Store


def adopt_reference(event: ModelPromoted, pipeline: Pipeline, store: Store) -> Outcome:
    """Make the new champion's training window the reference; the old one goes into the history.

    After a rollback it is the reference that the restored version had.

    Raises:
        NotYet: the reference of the champion before it is not adopted.
        WillNotPass: the rows are not in the store, or the model's record does not say what the
            event says.
    """
    require_earlier_taken_up(event, "drift", store)
    require_recorded(event, store)
    current = store.reference(event.pipeline)
    earlier = _earlier_reference(event, store) if event.restores else None
    rows = _rows_of(earlier) if earlier else _new_rows(event, pipeline, store)
    if current:
        store.record(_retired(current, event, store))
    return Outcome(
        Reference(
            **record_fields(event, "drift"),
            **rows,
            version=current.version + 1 if current else 1,
            model_version=event.model_version,
        )
    )


def _new_rows(event: ModelPromoted, pipeline: Pipeline, store: Store) -> dict[str, Any]:
    return {
        "data": event.window,
        "profile": store_profile(event.window, roles_of(pipeline), store),
        "rows": event.window_rows,
        "up_to_sequence": event.sequence,
    }


def _rows_of(reference: Reference) -> dict[str, Any]:
    return reference.model_dump(include={"data", "profile", "rows", "up_to_sequence"})


def _earlier_reference(event: ModelPromoted, store: Store) -> Reference | None:
    """The newest reference that the restored version had, as itself or as a restoration."""
    restorations = store.find(
        ModelVersion, {"pipeline": event.pipeline, "restores": event.restores}
    )
    versions = [event.restores, *(model.version for model in restorations)]
    query = {"pipeline": event.pipeline, "model_version": {"$in": versions}}
    return store.newest(Reference, query, "version")


def _retired(reference: Reference, event: ModelPromoted, store: Store) -> RetiredReference:
    """The reference with the drift that ended it; none did if a person rolled back."""
    query = {"pipeline": event.pipeline, "sequence": event.sequence}
    report = None if event.restores else store.newest(DriftReport, query, "recorded_at")
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
