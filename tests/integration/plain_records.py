"""Records of which a test wants no more than that they are there."""

from datetime import UTC, datetime
from typing import Any

from shared.events import Event
from shared.outcome import record_fields
from shared.records import DeadLetter, DriftReport


def check_of(event: Event, **changes: Any) -> DriftReport:
    """The report of a check that found no drift."""
    fields = {
        **record_fields(event, "drift"),
        "verdict": "no drift",
        "needs_retraining": False,
        "drift_score": 0.0,
        "threshold": 0.1,
        "policy": "mean_change",
        "feature_drifts": {},
        "feature_stats": {},
        "timestamp": datetime.now(UTC),
        "sequence": 1,
        "batch_id": "x",
        "batch_rows": 5,
        "reference_version": 1,
        "reference_rows": 5,
    }
    return DriftReport(**(fields | changes))


def dead_letter(effect: str, **changes: Any) -> DeadLetter:
    """The letter of an effect that its stage gave up on at the first try."""
    fields = {
        "id": effect,
        "pipeline": "air_quality",
        "trace_id": "0" * 32,
        "recorded_at": datetime.now(UTC),
        "stage": effect.partition(":")[0],
        "kind": "an event",
        "reason": "refused",
        "message": {},
        "attempts": 1,
    }
    return DeadLetter(**(fields | changes))
