"""Promotions are taken up in the order of their versions, whatever the order of their messages."""

from shared.events import ModelPromoted, Stage
from shared.failures import NotYet, WillNotPass
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


def require_recorded(event: ModelPromoted, store: Store) -> None:
    """Let a promotion pass that the model's record tells of: its window becomes the reference.

    Raises:
        WillNotPass: the record says something else, or there is none.
    """
    query = {"pipeline": event.pipeline, "version": event.model_version}
    model = store.newest(ModelVersion, query, "version")
    if model and model.decision == "promoted":
        same_rows = (event.window, event.restores) == (model.window, model.restores)
        # A restored version's event names the batch of its first promotion.
        if same_rows and (model.restores or event.sequence == model.sequence):
            return
    raise WillNotPass(
        f"the store has no promotion of v{event.model_version} of {event.pipeline} with the rows "
        "that this event names"
    )
