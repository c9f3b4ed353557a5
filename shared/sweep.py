"""The sweep: sends what was not sent, and sends again what the broker has lost.

The store is compared with the broker's queues, not with a log of what was sent: if more effects of
a stage are outstanding than messages wait in its queue, some message is gone.

Each stage sweeps for itself. It sends the events of its own records, and fills its own queue. So it
needs to write no other stage's records, and to push to no queue but its own and its successors'.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final, Generic, TypeVar

import structlog
from bson.raw_bson import RawBSONDocument

from shared.audit import faults
from shared.authentication import Unauthentic
from shared.documents import Document
from shared.events import ROUTES, STAGES, Event, Stage, effect_id, handled_by
from shared.foreign import bury_foreign
from shared.integrity import missing_models
from shared.records import DeadLetter
from shared.stage import Resources
from shared.store import COLLECTIONS, Store, written_by
from shared.work import Work

log = structlog.get_logger(__name__)
D = TypeVar("D")
Found = TypeVar("Found")

SWEEP: Final = "sweep"
"""The sweep's name among the parts that give signs of life: `sweep@drift` is that of a stage."""

_LOOKS: Final[Stage] = "drift"
"""The stage that looks whether records are missing. Its worker has OPERATORS."""

MISSED_SWEEPS: Final = 5
"""After so many that did not come something is wrong."""

_MAY_STILL_BE_SENT = timedelta(seconds=2)
"""A record younger than this is left to the worker that is about to send its events."""


@dataclass(frozen=True)
class Outstanding:
    """An event that a stage has not settled."""

    stage: Stage
    event: Event

    @property
    def effect(self) -> str:
        """The id of what the stage is to do about the event."""
        return effect_id(self.stage, self.event.event_id)


def sweep(stage: Stage, resources: Resources) -> int:
    """One pass of a stage over the store; returns how many messages were sent."""
    _close_what_is_done(stage, resources)
    sent = _send_unsent(stage, resources)
    begun = resources.work.all()
    own = _work_of(stage, begun)
    lost = [*_without_record(stage, begun, resources), *_left_over(own, resources)]
    if len(lost) > resources.broker.queue_length(stage):
        sent += _send_again(stage, lost, resources)
    sent += _send_due(stage, own, resources)
    if stage == _LOOKS:
        _look_for_what_is_missing(resources)
    if sent:
        log.info("sweep", messages_sent=sent)
    return sent


def is_due(
    asked_at: datetime | None,
    done_at: datetime | None,
    queued: int,
    sweep_seconds: float,
    longest: float,
) -> bool:
    """Whether a worker that was last asked for a sweep then is to be asked again.

    A worker that is busy has the request in its queue. So an unanswered request is repeated only if
    the queue is empty, or if it is older than anything that a worker does.

    Args:
        done_at: when the stage's last sweep ended.
        queued: how many messages wait in the stage's queue.
        longest: seconds that a task may take.
    """
    if asked_at is None:
        return True
    now = datetime.now(UTC)
    if done_at and done_at >= asked_at:
        return (now - done_at).total_seconds() >= sweep_seconds
    silent = (now - asked_at).total_seconds()
    return silent >= longest or (not queued and silent >= MISSED_SWEEPS * sweep_seconds)


@dataclass(frozen=True)
class Unsettled:
    """What is still to be done."""

    events: list[Outstanding]
    unreadable: int
    """Records with open outboxes, and work begun, whose events this version cannot read."""


def unsettled(resources: Resources) -> Unsettled:
    """Every event in the store that a stage has not settled, whoever has it in hand or waits."""
    # The index of open outboxes is by the time of sending; without a word of it all are read.
    query = {"outbox_open": True, "outbox_sent_at": {"$exists": True}}
    open_: dict[str, Outstanding] = {}
    unreadable = 0
    for name in COLLECTIONS.values():
        read = _outboxes(resources.store, name, query)
        # At once: what follows from an event that is settled by now is found in a later collection.
        open_ |= _still_open(resources, chain.from_iterable(read.found.values()))
        unreadable += len(read.unreadable) + len(read.foreign)
    begun = _begun(resources.work, resources.work.all())
    open_ |= _still_open(resources, begun.found.values())
    return Unsettled(list(open_.values()), unreadable + len(begun.unreadable) + len(begun.foreign))


def _still_open(resources: Resources, outstanding: Iterable[Outstanding]) -> dict[str, Outstanding]:
    found = {each.effect: each for each in outstanding}
    settled = resources.store.settled({effect: each.event.type for effect, each in found.items()})
    return {effect: each for effect, each in found.items() if effect not in settled}


@dataclass
class _Read(Generic[Found]):
    """What documents tell by their ids. What cannot be read is left as it is, for a person."""

    found: dict[str, Found] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """And why."""
    foreign: dict[str, str] = field(default_factory=dict)
    """Those that this system did not write, and what that shows."""


def _read(named: Iterable[tuple[str, D]], reader: Callable[[D], Found]) -> _Read[Found]:
    read: _Read[Found] = _Read()
    for name, document in named:
        try:
            read.found[name] = reader(document)
        except Unauthentic as error:
            read.foreign[name] = str(error)
        except (ValueError, LookupError, TypeError) as error:  # of another version
            read.unreadable[name] = str(error)
    return read


def _readable(read: _Read[Found], resources: Resources) -> dict[str, Found]:
    """What could be read. The log tells what could not, and people hear of what is foreign."""
    for identity, reason in read.foreign.items():
        _tell(identity, reason, resources)
    for identity, reason in read.unreadable.items():
        log.error("an event cannot be read", id=identity, reason=reason)
    return read.found


def _tell(identity: str, reason: str, resources: Resources) -> None:
    """Make a dead letter of a foreign record or of what is missing, and send what tells of it."""
    named = identity.partition(":")[0]
    stage = next((stage for stage in STAGES if stage == named), STAGES[0])
    if buried := bury_foreign(stage, "foreign record", identity, reason, resources.store):
        letter, told = buried
        resources.send(letter, (told,))


def _outboxes(store: Store, collection: str, query: Document) -> _Read[list[Outstanding]]:
    """Record -> what its events are to lead to, for the records that match a query."""

    def events(raw: RawBSONDocument) -> list[Outstanding]:
        return [
            Outstanding(stage, event)
            for event in store.read_outbox(collection, raw)
            for stage in ROUTES[event.type]
        ]

    return _read(store.outboxes(collection, query), events)


def _begun(work: Work, documents: Iterable[Document]) -> _Read[Outstanding]:
    """Effect -> the event of work that was begun."""
    named = ((str(document["_id"]), document) for document in documents)
    return _read(named, lambda document: Outstanding(*work.event_of(document)))


def _own(stage: Stage) -> Iterator[tuple[str, Document]]:
    """Each collection with records of a stage, and what a query says of them."""
    yield from ((name, {}) for name in written_by(stage))
    yield COLLECTIONS[DeadLetter], {"stage": stage}


def _send_unsent(stage: Stage, resources: Resources) -> int:
    """Send the events of records whose worker died, or lost the broker, before it had sent them."""
    sent = 0
    before = datetime.now(UTC) - _MAY_STILL_BE_SENT
    for name, own in _own(stage):
        collection = resources.store.database[name]
        unsent = {"outbox_open": True, "outbox_sent_at": None, "recorded_at": {"$lt": before}}
        read = _outboxes(resources.store, name, unsent | own)
        for record, outbox in _readable(read, resources).items():
            for each in outbox:
                resources.broker.send_to(each.stage, each.event)
            sent += len(outbox)
            collection.update_one({"_id": record}, {"$set": {"outbox_sent_at": datetime.now(UTC)}})
    return sent


def _close_what_is_done(stage: Stage, resources: Resources) -> None:
    """Close the stage's outboxes whose events are all settled."""
    before = datetime.now(UTC) - timedelta(seconds=resources.settings.redeliver_after_seconds)
    for name, own in _own(stage):
        sent = {"outbox_open": True, "outbox_sent_at": {"$lt": before}}
        outboxes = _readable(_outboxes(resources.store, name, sent | own), resources)
        still_open = _still_open(resources, chain.from_iterable(outboxes.values()))
        done = [
            record
            for record, outbox in outboxes.items()
            if not any(each.effect in still_open for each in outbox)
        ]
        resources.store.close_outboxes(name, done)


def _without_record(
    stage: Stage, work: list[Document], resources: Resources
) -> Iterator[Outstanding]:
    """Events for a stage, recorded some time ago by whomever, that it has not begun to handle.

    Also those that were not sent: who should have may be away, or busy for long.
    """
    settings, now = resources.settings, datetime.now(UTC)
    before = now - timedelta(seconds=settings.redeliver_after_seconds)
    long_ago = before - timedelta(seconds=MISSED_SWEEPS * settings.sweep_seconds)
    begun = {document["_id"] for document in work}
    for name in COLLECTIONS.values():
        query = {
            "outbox_open": True,
            "outbox_sent_at": {"$not": {"$gte": before}},
            "outbox.type": {"$in": handled_by(stage)},
            "$or": [{"outbox_sent_at": {"$lt": before}}, {"recorded_at": {"$lt": long_ago}}],
        }
        outboxes = _readable(_outboxes(resources.store, name, query), resources)
        own = [each for each in chain.from_iterable(outboxes.values()) if each.stage == stage]
        for effect, each in _still_open(resources, own).items():
            if effect not in begun:
                yield each


def _left_over(work: list[Document], resources: Resources) -> Iterator[Outstanding]:
    """A stage's work that nobody holds any more: its worker died, or its wait is over."""
    now = datetime.now(UTC)
    quiet = now - timedelta(seconds=resources.settings.redeliver_after_seconds)
    left = [
        document
        for document in work
        if document["updated_at"] <= quiet
        and document.get("lease_until", now) <= now
        and "next_attempt_at" not in document
    ]
    awaited = [document["waiting_for"] for document in left if "waiting_for" in document]
    wait_is_over = {None, *resources.store.settled(dict.fromkeys(awaited))}
    free = [document for document in left if document.get("waiting_for") in wait_is_over]
    found = _readable(_begun(resources.work, free), resources)
    still_open = _still_open(resources, found.values())
    for effect in found.keys() - still_open.keys():
        resources.work.finish(effect)
    yield from still_open.values()


def _work_of(stage: Stage, work: list[Document]) -> list[Document]:
    """That of a stage, by the ids of its effects: what a document says may be forged."""
    return [document for document in work if document["_id"].startswith(effect_id(stage, ""))]


def _look_for_what_is_missing(resources: Resources) -> None:
    store = resources.store
    looks = [
        faults(store, resources.settings),
        *(missing_models(name, store) for name in resources.pipelines),
    ]
    for look in looks:
        try:
            found = list(look)
        except Unauthentic as error:
            found = [str(error)]
        for sentence in found:
            _tell(sentence, sentence, resources)


def _send_again(stage: Stage, lost: list[Outstanding], resources: Resources) -> int:
    log.warning("the broker lost messages", stage=stage, messages=len(lost))
    for each in lost:
        resources.broker.send_to(stage, each.event)
    resources.work.touch([each.effect for each in lost])
    return len(lost)


def _send_due(stage: Stage, work: list[Document], resources: Resources) -> int:
    """Send the events of a stage whose next try is due."""
    now = datetime.now(UTC)
    waiting = [found for found in work if found.get("next_attempt_at", now) < now]
    due = list(_readable(_begun(resources.work, waiting), resources).values())
    for each in due:
        resources.broker.send_to(stage, each.event)
    resources.work.touch([each.effect for each in due])
    return len(due)
