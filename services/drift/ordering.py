"""Checks go batch by batch: each against the reference that the batch before has left."""

from typing import Final

from shared.events import BatchIngested, ChunkIngested, Stage
from shared.failures import NotYet
from shared.records import Batch
from shared.store import Store

_DECIDING_STAGES: Final[frozenset[Stage]] = frozenset({"drift", "trainer"})


def require_earlier_settled(event: BatchIngested | ChunkIngested, store: Store) -> None:
    """Let an event pass when nothing earlier can move the pipeline's reference any more.

    Raises:
        NotYet: an earlier batch is not checked, or the retraining it asked for is not decided.
    """
    if event.sequence == 1:
        return
    previous = store.find(Batch, {"pipeline": event.pipeline, "sequence": event.sequence - 1})
    for batch in previous:  # none if its retention is over
        for ingested in store.events_of(batch):
            if pending := store.first_unsettled("drift", ingested, _DECIDING_STAGES):
                raise NotYet(pending)
