"""The pause after a model that was rejected, or rolled back: the same drift asks for no other."""

from datetime import datetime
from typing import Any, Final

from shared.drift import PerformanceFinding
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion
from shared.store import NUMBERED, Store
from shared.wording import moment

MUCH_WORSE: Final = 1.25
"""An error so many times that of the batch whose model was rejected is no longer the same drift."""


def why_held_back(
    sequence: int, champion: PerformanceFinding | None, pipeline: Pipeline, store: Store
) -> str:
    """Why a batch may not ask for a model yet, as the end of a sentence; empty if it may.

    The pause is measured between batches, so the order and the time of messages change nothing. It
    is for the drift that it began with: a champion that has become worse only now, or much worse,
    ends the pause after a rejection. Not so after a rollback, where a person has chosen.
    """
    newest = store.newest(ModelVersion, {"pipeline": pipeline.name}, "version")
    if newest is None or not pipeline.gate.cooldown:
        return ""
    if newest.decision == "promoted" and newest.restores is None:
        return ""
    if newest.restores is None and _is_another_drift(champion, newest, store):
        return ""
    since = _moment(newest.sequence, pipeline, store)
    now = _moment(sequence, pipeline, store)
    if since is None or now is None or now - since >= pipeline.gate.cooldown:
        return ""
    until = moment(since + pipeline.gate.cooldown)
    event = "rejected" if newest.restores is None else f"put in place to restore v{newest.restores}"
    return (
        f"no model is asked for by batches before {until} (gate.cooldown), as v{newest.version} "
        f"was {event} at batch {newest.sequence}"
    )


def _is_another_drift(now: PerformanceFinding | None, rejected: ModelVersion, store: Store) -> bool:
    if now is None or not now.drift:
        return False
    query = {"pipeline": rejected.pipeline, "sequence": rejected.sequence}
    report = store.newest(DriftReport, query, "recorded_at")
    then = report.performance if report else None
    if then is None or not then.drift:
        return True
    return (now.error or 0.0) > MUCH_WORSE * (then.error or 0.0)


def _moment(sequence: int, pipeline: Pipeline, store: Store) -> datetime | None:
    """The newest event time at a batch; without event times, when the batch was recorded."""
    query: dict[str, Any] = {
        "pipeline": pipeline.name,
        "sequence": NUMBERED | {"$lte": sequence},
    }
    if pipeline.data.event_time:  # a batch of labels alone has none
        query["last_event_at"] = {"$ne": None}
    batch = store.newest(Batch, query, "sequence")
    return (batch.last_event_at or batch.recorded_at) if batch else None
