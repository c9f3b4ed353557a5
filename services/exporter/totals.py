"""How much there has been of everything: counts of records, which stay when the records expire.

They begin at 0 with the exporter, as any process's counters do. Each look reads what is younger
than the last one, and five minutes more, because a record has its time from its handler and is
written a little later; which of them were counted is remembered for as long. What is written even
later than that is not counted.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

import structlog

from services.exporter import metrics
from services.exporter.failures import NOT_AS_WRITTEN, reason_of
from services.exporter.metrics import UNKNOWN, Family, Samples, label
from shared.drift import Verdict
from shared.events import STAGES
from shared.records import (
    Batch,
    ChunkCounts,
    DeadLetter,
    DriftReport,
    ModelVersion,
    Notification,
    Publication,
    Record,
    Reference,
)
from shared.store import Store

log = structlog.get_logger(__name__)

LATE: Final = timedelta(minutes=5)

_OF_STAGES: Final = (metrics.HANDLED, metrics.HANDLING_SECONDS, metrics.RETRIES)
_RESULTS: Final = ("new", "taken_in_before", "repeated", "changed", "set_aside", "missing")
"""What can become of a row that is read."""
_OF_PIPELINES: Final = (metrics.READINGS, metrics.BATCHES, metrics.PUBLICATIONS)

Document = dict[str, Any]
Sample = tuple[Family, tuple[str, ...]]
Count = tuple[Family, tuple[str, ...], float]
Counted = Iterator[Count]
Known = tuple[str, datetime]
"""A record's id and time, by which one that was counted is known again."""


class Totals:
    """The counts so far. To be used by one thread at a time."""

    def __init__(self, store: Store, pipelines: tuple[str, ...], since: datetime) -> None:
        """Count what has happened since then."""
        self._store = store
        self._pipelines = pipelines
        self._counts = defaultdict(float, dict.fromkeys(_at_zero(pipelines), 0.0))
        self._since = dict.fromkeys(_COUNTED, _stored(since))
        self._seen: dict[type[Record], set[Known]] = {kind: set() for kind in _COUNTED}

    def look(self) -> Samples:
        """Count the records that were not there at the last look.

        Raises:
            PyMongoError: the store does not answer; nothing is counted twice at the next look.
        """
        for kind in _COUNTED:
            self._look_at(kind)
        return self.counted()

    def counted(self) -> Samples:
        """The counts as of the last look."""
        samples: Samples = {}
        for (family, labels), count in self._counts.items():
            samples.setdefault(family, {})[labels] = count
        return samples

    def _look_at(self, kind: type[Record]) -> None:
        """Count what was not seen yet, all of it or none."""
        # Not before the last look's, whose marks are gone: clocks may step back.
        young_since = max(_stored(datetime.now(UTC) - LATE), self._since[kind])
        count, fields = _COUNTED[kind]
        risen: defaultdict[Sample, float] = defaultdict(float)
        young: set[Known] = set()
        for document in self._young(kind, fields):
            known = (document["_id"], document["recorded_at"])
            if known not in self._seen[kind]:
                for family, labels, amount in _counted(count, document):
                    risen[family, labels] += amount
            if known[1] >= young_since:
                young.add(known)
        for sample, amount in risen.items():
            self._counts[sample] += amount
        self._since[kind], self._seen[kind] = young_since, young

    def _young(self, kind: type[Record], fields: tuple[str, ...]) -> Iterator[Document]:
        """The records since the last look; of dead letters also those of no known pipeline."""
        query: Document = {"recorded_at": {"$gte": self._since[kind]}}
        if kind is not DeadLetter:
            query["pipeline"] = {"$in": list(self._pipelines)}
        for document in self._store.collection(kind).find(query, dict.fromkeys(fields, 1)):
            is_known = document.get("pipeline") in self._pipelines
            yield document if is_known else document | {"pipeline": UNKNOWN}


def _stored(at: datetime) -> datetime:
    """A time as the store keeps it: in whole milliseconds."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _at_zero(pipelines: tuple[str, ...]) -> Iterator[Sample]:
    """What is served as 0 before it first happens, so that its first time is a rise."""
    yield metrics.UNREADABLE, ()
    for stage in STAGES:
        yield from ((family, (stage,)) for family in _OF_STAGES)
        yield metrics.DEAD_LETTERS, (UNKNOWN, stage)
    for name in pipelines:
        yield from ((family, (name,)) for family in _OF_PIPELINES)
        yield from ((metrics.ROWS, (name, result)) for result in _RESULTS)
        yield from ((metrics.CHECKS, (name, verdict)) for verdict in get_args(Verdict))
        yield from ((metrics.MODELS, (name, each)) for each in ("promoted", "rejected", "restored"))
        yield from ((metrics.DEAD_LETTERS, (name, stage)) for stage in STAGES)


def _counted(count: Callable[[Document], Counted], document: Document) -> list[Count]:
    try:
        counted = (*count(document), *_effort(document))
        return [(family, _texts(labels), _amount(amount)) for family, labels, amount in counted]
    except NOT_AS_WRITTEN as error:
        log.error("a record cannot be counted", record=document["_id"], reason=reason_of(error))
        return [(metrics.UNREADABLE, (), 1)]


def _texts(labels: tuple[object, ...]) -> tuple[str, ...]:
    if not all(isinstance(text, str) for text in labels):
        raise TypeError
    return tuple(map(label, map(str, labels)))


def _amount(value: float) -> float:
    amount = float(value)
    if not 0 <= amount < math.inf:
        raise ValueError
    return amount


def _effort(document: Document) -> Counted:
    """What any record says of the work that it took; one made without a worker says nothing."""
    stage = (document["_id"].partition(":")[0],)
    if document.get("handled_seconds") is not None:
        yield metrics.HANDLED, stage, 1
        yield metrics.HANDLING_SECONDS, stage, document["handled_seconds"]
    if retries := max(_tries(document) - 1, 0):
        yield metrics.RETRIES, stage, retries


def _tries(document: Document) -> int:
    """A dead letter counts its tries; beside any other record stands the try that came to it."""
    return int(document.get("attempts") or document.get("handling", {}).get("attempt", 1))


def _batch(document: Document) -> Counted:
    name, set_aside = document["pipeline"], document["set_aside"]["rows"]
    yield metrics.READINGS, (name,), 1
    if document["sequence"] is not None:
        yield metrics.BATCHES, (name,), 1
    yield metrics.ROWS, (name, "new"), document["rows"]
    # a record of before says only how many rows are known
    known = document.get("known") or {"taken_in_before": document["rows_known"]}
    for why in ("taken_in_before", "repeated", "changed"):
        yield metrics.ROWS, (name, why), known.get(why, 0)
    yield metrics.ROWS, (name, "set_aside"), set_aside
    yield metrics.ROWS, (name, "missing"), document.get("rows_missing", 0)


def _check(document: Document) -> Counted:
    yield metrics.CHECKS, (document["pipeline"], document["verdict"]), 1


def _model(document: Document) -> Counted:
    decision = "restored" if document.get("restores") else document["decision"]
    yield metrics.MODELS, (document["pipeline"], decision), 1


def _publication(document: Document) -> Counted:
    yield metrics.PUBLICATIONS, (document["pipeline"],), 1


def _message(document: Document) -> Counted:
    for channel, answer in document["channels"].items():
        outcome = answer if answer in ("sent", "printed") else "refused"
        yield metrics.MESSAGES, (document["pipeline"], channel, outcome), 1


def _letter(document: Document) -> Counted:
    yield metrics.DEAD_LETTERS, (document["pipeline"], document["stage"]), 1


def _nothing_else(_document: Document) -> Counted:
    yield from ()


_EVERY: Final = ("pipeline", "recorded_at", "handled_seconds", "handling.attempt")
_COUNTED: Final[dict[type[Record], tuple[Callable[[Document], Counted], tuple[str, ...]]]] = {
    Batch: (
        _batch,
        (*_EVERY, "sequence", "rows", "rows_known", "known", "rows_missing", "set_aside.rows"),
    ),
    ChunkCounts: (_nothing_else, _EVERY),
    DriftReport: (_check, (*_EVERY, "verdict")),
    Reference: (_nothing_else, _EVERY),
    ModelVersion: (_model, (*_EVERY, "decision", "restores")),
    Publication: (_publication, _EVERY),
    Notification: (_message, (*_EVERY, "channels")),
    DeadLetter: (_letter, (*_EVERY, "attempts", "stage")),
}
"""Kind of record -> what it counts as, and the fields that this takes."""
