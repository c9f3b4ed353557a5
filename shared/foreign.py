"""What nobody of this system has written: kept as a dead letter, and told to people."""

from datetime import UTC, datetime
from typing import Final, Literal

import structlog

from shared.authentication import Unauthentic
from shared.events import NO_PIPELINE, Stage, WorkFailed, deterministic_id
from shared.failures import shortened
from shared.records import DeadLetter
from shared.store import Store
from shared.tasks import KEPT

log = structlog.get_logger(__name__)

Kind = Literal["foreign message", "foreign record"]
MOST: Final = 1_000
"""At most this many open dead letters of each kind are kept for a stage. Otherwise somebody who can
write to the broker could fill the store."""
KINDS: Final[tuple[Kind, ...]] = ("foreign message", "foreign record")
"""A foreign record is also the kind for records that are missing."""


def bury_foreign(
    stage: Stage, kind: Kind, received: str, reason: str, store: Store
) -> tuple[DeadLetter, WorkFailed] | None:
    """Keep the beginning of what came, once, with the event that tells of it.

    Whoever can write to the broker can write much, so people hear of each stage once an hour: the
    events of one hour have one id, and the notifier settles it once.

    Returns: the dead letter and its event, to be sent. None: the same is kept already, or there are
    `MOST` open ones of this kind at the stage.
    """
    kept = received[:KEPT]
    identity = deterministic_id("foreign", stage, kept)
    letter = DeadLetter(
        id=f"{stage}:foreign:{identity}",
        pipeline=NO_PIPELINE,
        trace_id=identity,
        recorded_at=datetime.now(UTC),
        stage=stage,
        kind=kind,
        reason=shortened(reason),
        message=kept,
        attempts=0,
    )
    if _is_open(letter.id, store):
        return None
    if _are_many(letter, store):
        log.error(
            f"a {kind} was not kept: {MOST:,} are open at this stage; dismiss some", stage=stage
        )
        return None
    log.error(f"a {kind}", stage=stage, trace_id=identity, reason=letter.reason)
    told = _told(letter)
    store.bury(letter, [told])
    return letter, told


def _is_open(letter: str, store: Store) -> bool:
    """Whether a dead letter of ours is open; one that somebody has put in its place is none."""
    try:
        earlier = store.get(DeadLetter, letter)
    except Unauthentic:
        return False
    return earlier is not None and earlier.state == "open"


def _are_many(letter: DeadLetter, store: Store) -> bool:
    query = {"state": "open", "stage": letter.stage, "kind": letter.kind}
    return store.collection(DeadLetter).count_documents(query, limit=MOST) >= MOST


def _told(letter: DeadLetter) -> WorkFailed:
    hour = letter.recorded_at.replace(minute=0, second=0, microsecond=0)
    return WorkFailed(
        event_id=deterministic_id("foreign", letter.stage, letter.kind, hour.isoformat()),
        trace_id=letter.trace_id,
        pipeline=letter.pipeline,
        occurred_at=letter.recorded_at,
        stage=letter.stage,
        failed_event=letter.kind,
        dead_letter=letter.id,
        reason=letter.reason[:1000],
    )
