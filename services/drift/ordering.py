"""Checks go batch by batch: each against the reference that the batch before has left."""

from typing import Final

from shared.events import BatchIngested, ChunkIngested, Stage
from shared.failures import NotYet
from shared.records import Batch, ModelVersion
from shared.store import Store

_DECIDING_STAGES: Final[frozenset[Stage]] = frozenset({"drift", "trainer"})


def require_earlier_settled(event: BatchIngested | ChunkIngested, store: Store) -> None:
    """Let an event pass when nothing earlier can move the pipeline's reference any more.

    Raises:
        NotYet: an earlier batch is not checked, the retraining it asked for is not decided, or the
            reference is not yet the champion's, as after a rollback.
    """
    if event.sequence == 1:
        return
    promotions = {"pipeline": event.pipeline, "decision": "promoted"}
    for promoted in store.newest_events(ModelVersion, promotions, "version"):
        if pending := store.first_unsettled("drift", promoted, frozenset({"drift"})):
            raise NotYet(pending)
    previous = {"pipeline": event.pipeline, "sequence": event.sequence - 1}
    # None if its retention is over.
    for ingested in store.newest_events(Batch, previous, "sequence"):
        if pending := store.first_unsettled("drift", ingested, _DECIDING_STAGES):
            raise NotYet(pending)
