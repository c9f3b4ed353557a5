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
        NotYet: an earlier batch is not checked, the retraining it asked for is not decided, or the
            reference is not yet the champion's, as after a rollback.
    """
    if event.sequence == 1:
        return
    champion = store.champion(event.pipeline)
    for promoted in store.events_of(champion) if champion else ():
        if pending := store.first_unsettled("drift", promoted, frozenset({"drift"})):
            raise NotYet(pending)
    previous = store.find(Batch, {"pipeline": event.pipeline, "sequence": event.sequence - 1})
    for batch in previous:  # none if its retention is over
        for ingested in store.events_of(batch):
            if pending := store.first_unsettled("drift", ingested, _DECIDING_STAGES):
                raise NotYet(pending)
