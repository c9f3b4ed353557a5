"""Bytes that no record names any more are removed.

Records themselves expire by MongoDB's own index. What they named, and what an upload left behind
that never came to its record, is found by comparison and removed after a day.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from shared.events import Sha256
from shared.records import (
    Batch,
    ChunkCounts,
    DriftReport,
    ModelVersion,
    Reference,
    RetiredReference,
)
from shared.store import Store

WORKERS_KEPT: Final = timedelta(days=7)
"""A worker that has been silent for so long was taken away, or has another name now."""

_MAY_BE_UNDER_WAY: Final = timedelta(days=1)
"""Bytes are uploaded before the record that names them: younger ones are left alone."""


def remove_unnamed_blobs(store: Store, retention_days: int) -> int:
    """Remove the bytes that nothing names, and say how many blobs that were.

    Of a model the record is kept for good; its bytes go after `retention_days` days, unless it is
    the champion.
    """
    now = datetime.now(UTC)
    named = _named(store, now - timedelta(days=retention_days))
    return store.remove_blobs(keep=named, uploaded_before=now - _MAY_BE_UNDER_WAY)


def _named(store: Store, models_since: datetime) -> set[Sha256]:
    named: set[Sha256 | None] = set()
    recent = {"recorded_at": {"$gte": models_since}}
    for kind, fields in (
        (Batch, ("data", "labels", "set_aside.data")),
        (DriftReport, ("profile", "counts", "details", "chart")),
        (ChunkCounts, ("profile", "counts")),
        (Reference, ("data", "profile")),
        (RetiredReference, ("data",)),
    ):
        for field in fields:
            named.update(store.collection(kind).distinct(field))
    for pipeline in store.collection(ModelVersion).distinct("pipeline"):
        if champion := store.champion(pipeline):
            named.update(_named_by(champion))
    for model in store.find(ModelVersion, recent):
        named.update(_named_by(model))
    # A reading without new rows names none.
    return {digest for digest in named if digest}


def _named_by(model: ModelVersion) -> set[Sha256 | None]:
    return {
        model.model,
        model.window,
        model.held_out,
        model.held_out_losses,
        *model.plots.values(),
    }
