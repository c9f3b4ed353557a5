"""Promotions are taken up in the order of their versions, whatever the order of their messages."""

from shared.events import ModelPromoted, Stage
from shared.failures import NotYet
from shared.records import ModelVersion
from shared.store import Store


def require_earlier_taken_up(event: ModelPromoted, stage: Stage, store: Store) -> None:
    """Let a promotion pass when a stage is done with the one before it.

    Raises:
        NotYet: it is not.
    """
    query = {
        "pipeline": event.pipeline,
        "decision": "promoted",
        "version": {"$lt": event.model_version},
    }
    before = store.newest(ModelVersion, query, "version")
    for promoted in store.events_of(before) if before else ():
        if pending := store.first_unsettled(stage, promoted, frozenset({stage})):
            raise NotYet(pending)
