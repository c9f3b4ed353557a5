"""`trimtab rollback`: an earlier champion asked for, durably, and the wait for its commit."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from services.cli.asking import Asking
from services.cli.waiting import wait_until_settled
from services.trainer.rollback import is_in_force, original_of
from shared.audit import subject_of_rollback
from shared.events import RollbackRequested, Stage, effect_id, first_event_fields
from shared.failures import WillNotPass
from shared.records import AuditEntry, DeadLetter, ModelVersion, Publication
from shared.stage import BROKER_ERRORS, Resources
from shared.status import parts
from shared.store import Store

State = Literal["done", "stored", "under way", "in force before"]

_FOLLOWED: Final[frozenset[Stage]] = frozenset({"trainer", "drift", "publisher"})


@dataclass(frozen=True)
class Rollback:
    """How far a rollback has come."""

    pipeline: str
    restores: int
    """The version that was asked for; if that was a restoration, its original."""
    state: State
    """`stored`: not all workers that it takes are running."""
    model_version: int | None = None
    """The version that it is now; none until the trainer has handled it."""
    commit: str | None = None
    branch: str | None = None
    url: str | None = None


def roll_back(
    asking: Asking, pipeline: str, version: int, because: str, *, wait_seconds: float
) -> Rollback:
    """Ask for a version to be the champion again, and wait for it to be published.

    What is asked for is signed, and stands in the store before a message is sent. If this process
    dies in between, the sweep sends it; asked for twice, it is the same event.

    Raises:
        WillNotPass: the version cannot be restored, or a stage has given up on it.
    """
    resources, store = asking.resources, asking.resources.store
    original = original_of(pipeline, version, store)
    champion = store.champion(pipeline)
    assert champion  # noqa: S101 - the original was promoted
    if is_in_force(original, champion):
        before = _reached(store, original, champion, "in force before")
        if before.commit is None:
            _require_not_given_up(champion.trace_id, store)
        return before
    _require_kept(original, store)
    event = RollbackRequested(
        # With the champion's trace, two systems that publish to one place ask for two rollbacks.
        **first_event_fields(
            pipeline, "rollback", original.version, champion.version, champion.trace_id
        ),
        model_version=original.version,
        champion_version=champion.version,
    )
    subject = subject_of_rollback(event)
    entry = asking.ask("rollback", pipeline, event.trace_id, subject, because)
    event = event.model_copy(update={"request": entry.number})
    _request(event, entry, resources)
    pending = wait_until_settled([("trainer", event)], resources, _FOLLOWED, wait_seconds)
    restored = store.get(ModelVersion, effect_id("trainer", event.event_id))
    if pending is None:
        _require_not_given_up(event.trace_id, store)
        return _reached(store, original, restored, "done")
    return _reached(store, original, restored, "under way" if _workers_run(resources) else "stored")


def _require_kept(original: ModelVersion, store: Store) -> None:
    try:
        store.blob(original.model)
    except WillNotPass as error:
        raise WillNotPass(
            f"v{original.version} of {original.pipeline} cannot be restored: {error}. A model is "
            "kept for RETENTION_DAYS, and as long as it is the champion"
        ) from None


def _request(event: RollbackRequested, entry: AuditEntry, resources: Resources) -> None:
    """Put the event into the store, then send it. One that a stage gave up on is tried again."""
    effect = effect_id("trainer", event.event_id)
    resources.work.reopen(effect, "trainer", event)
    letter = resources.store.get(DeadLetter, effect)
    if letter and letter.state != "replayed":
        resources.store.mark_letter(letter, "replayed", entry.number)
    with suppress(*BROKER_ERRORS):  # the sweep will send it
        resources.broker.send(event)


def _workers_run(resources: Resources) -> bool:
    try:
        found = parts(resources.broker, resources.settings.sweep_seconds)
    except BROKER_ERRORS:
        return False
    return all(found[stage].alive for stage in _FOLLOWED)


def _require_not_given_up(trace_id: str, store: Store) -> None:
    query = {"trace_id": trace_id, "state": "open", "stage": {"$in": sorted(_FOLLOWED)}}
    for letter in store.find(DeadLetter, query, oldest_by="recorded_at"):
        raise WillNotPass(
            f"the {letter.stage} gave up on the rollback: {letter.reason}. To look at it: "
            f"trimtab dead-letters show {letter.id}"
        )


def _reached(
    store: Store,
    original: ModelVersion,
    model: ModelVersion | None,
    state: State,
) -> Rollback:
    version = model.version if model else None
    query = {"pipeline": original.pipeline, "model_version": version}
    published = store.newest(Publication, query, "recorded_at") if model else None
    return Rollback(
        pipeline=original.pipeline,
        restores=original.version,
        state=state,
        model_version=version,
        commit=published.commit if published else None,
        branch=published.branch if published else None,
        url=published.url if published else None,
    )


def in_words(rollback: Rollback) -> str:
    """What was reached, and what is to be expected."""
    version = f"v{rollback.restores} of {rollback.pipeline}"
    where = (
        f"commit {rollback.url or rollback.commit} on {rollback.branch}"
        if rollback.commit
        else "not published yet"
    )
    renamed = rollback.model_version not in (None, rollback.restores)
    now = f" as v{rollback.model_version}" if renamed else ""
    match rollback.state:
        case "done":
            return f"{version} is the champion again{now}: {where}"
        case "in force before":
            return f"{version} is the champion already{now}: {where}; nothing was done"
        case "under way":
            return (
                f"the rollback to {version} is under way{now}: `trimtab models` lists it when done"
            )
        case "stored":
            return (
                f"the rollback to {version} is stored, and will be done when the workers run "
                "(`trimtab status`)"
            )
