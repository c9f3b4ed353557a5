"""The state of a running system, as the command line and the exporter tell it.

What the broker knows and what the store knows are asked for apart, so that one of them can be told
while the other does not answer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bson.raw_bson import RawBSONDocument

from shared.authentication import Unauthentic
from shared.broker import Broker
from shared.documents import RAW, as_written
from shared.events import STAGES, Event, Stage
from shared.foreign import KINDS, Kind
from shared.records import DeadLetter
from shared.stage import Resources
from shared.store import COLLECTIONS, Store
from shared.sweep import MISSED_SWEEPS, SWEEP, unsettled
from shared.work import Work, WorkState, state_of

BEAT: Final = "beat"
PARTS: Final[tuple[str, ...]] = (*STAGES, BEAT, SWEEP)
"""What has to be alive: a worker of each stage, beat, and the sweep."""

SILENT_AFTER: Final = timedelta(seconds=30)


@dataclass(frozen=True)
class Part:
    """A part of the system. One worker of a stage is enough."""

    alive: bool
    last_seen: datetime | None
    workers: dict[str, datetime]
    """Every worker that gave a sign of life within a week, and when it last did."""


@dataclass(frozen=True)
class Waiting:
    """How much waits, and since when the oldest has."""

    number: int
    oldest: datetime | None = None


def parts(broker: Broker, sweep_seconds: float) -> dict[str, Part]:
    """Every part that has to be alive, and when it last was."""
    now = datetime.now(UTC)
    seen: dict[str, dict[str, datetime]] = defaultdict(dict)
    for sign, at in broker.last_alive().items():
        seen[sign.partition("@")[0]][sign] = at
    silent_after = {SWEEP: SILENT_AFTER + timedelta(seconds=MISSED_SWEEPS * sweep_seconds)}
    found = {}
    for name in PARTS:
        last = max(seen[name].values(), default=None)
        alive = last is not None and now - last < silent_after.get(name, SILENT_AFTER)
        workers = {sign: at for sign, at in sorted(seen[name].items()) if "@" in sign}
        found[name] = Part(alive, last, workers)
    return found


def queued(broker: Broker) -> dict[Stage, Waiting]:
    """The messages in each stage's queue, and when the oldest one's event happened."""
    return {
        stage: Waiting(messages, _oldest([broker.oldest_event(stage)]))
        for stage, messages in broker.queue_lengths().items()
    }


def unfinished(resources: Resources) -> tuple[dict[Stage, Waiting], int]:
    """The events that each stage has not settled, and when the oldest one happened.

    Beside them: how many records more there are whose events this version cannot read. The store
    does not know of ticks that ingestion has not begun, and the broker may have lost messages, so
    both are to be asked.
    """
    events: dict[Stage, list[Event]] = defaultdict(list)
    found = unsettled(resources)
    for each in found.events:
        events[each.stage].append(each.event)
    waiting = {stage: Waiting(len(events[stage]), _oldest(events[stage])) for stage in STAGES}
    return waiting, found.unreadable


def _oldest(events: Iterable[Event | None]) -> datetime | None:
    return min((event.occurred_at for event in events if event), default=None)


def under_way(work: Work) -> dict[WorkState, int]:
    """How many effects were begun, by what they wait for."""
    now = datetime.now(UTC)
    counts: dict[WorkState, int] = {"leases": 0, "waiting": 0, "later": 0, "left": 0}
    for document in work.all():
        counts[state_of(document, now)] += 1
    return counts


def unsent(store: Store) -> Waiting:
    """The records whose events are not with the broker, and the time of the oldest."""
    query = {"outbox_open": True, "outbox_sent_at": None}
    found = [
        raw
        for name in COLLECTIONS.values()
        for raw in store.database[name].with_options(RAW).find(query, {"recorded_at": 1})
    ]
    return Waiting(len(found), min(filter(None, map(_recorded_at, found)), default=None))


def _recorded_at(raw: RawBSONDocument) -> datetime | None:
    """None: somebody else made the document, without a time or with one that is none."""
    try:
        found = as_written("a record", raw).get("recorded_at")
    except Unauthentic:
        return None
    return found if isinstance(found, datetime) else None


def count_foreign(store: Store) -> dict[Kind, int]:
    """The open dead letters of what this system has not written, or of what it misses."""
    letters = store.collection(DeadLetter)
    return {kind: letters.count_documents({"state": "open", "kind": kind}) for kind in KINDS}


def count_open_letters(store: Store) -> Counter[tuple[str, str]]:
    """The dead letters that nobody has replayed or dismissed, by pipeline and stage as they say."""
    letters = store.collection(DeadLetter).find({"state": "open"}, {"pipeline": 1, "stage": 1})
    return Counter((str(letter.get("pipeline")), str(letter.get("stage"))) for letter in letters)
