"""The sweep: sends what was not sent, and sends again what the broker has lost.

The store is compared with the broker's queues, not with a log of what was sent: if more effects of
a stage are outstanding than messages wait in its queue, some message is gone.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from shared.events import ROUTES, Event, Stage, effect_id, parse_event
from shared.stage import Resources
from shared.store import COLLECTIONS

log = structlog.get_logger(__name__)

SWEEP: Final = "sweep"
"""The sweep's name among the parts that give signs of life."""

MISSED_SWEEPS: Final = 5
"""After so many that did not come any worker begins to sweep."""

_MAY_STILL_BE_SENT = timedelta(seconds=2)
"""A record younger than this is left to the worker that is about to send its events."""


@dataclass(frozen=True)
class Outstanding:
    """An event that a stage has not settled."""

    stage: Stage
    event: Event


def sweep(resources: Resources) -> int:
    """One pass over the store; returns how many messages were sent."""
    sent = _send_unsent(resources)
    outstanding: dict[Stage, list[Outstanding]] = defaultdict(list)
    for found in (*_without_record(resources), *_left_over(resources)):
        outstanding[found.stage].append(found)
    queued = resources.broker.queue_lengths()
    for stage, lost in outstanding.items():
        if len(lost) > queued[stage]:
            sent += _send_again(resources, lost)
    sent += _send_due(resources)
    if sent:
        log.info("sweep", messages_sent=sent)
    return sent


def unsettled(resources: Resources) -> list[Outstanding]:
    """Every event in the store that a stage has not settled, whoever has it in hand or waits."""
    found: dict[str, Outstanding] = {}
    # The index of open outboxes is by the time of sending; without a word of it all are read.
    query = {"outbox_open": True, "outbox_sent_at": {"$exists": True}}
    for name in COLLECTIONS.values():
        for document in resources.store.database[name].find(query, {"outbox": 1}):
            for each in _unsettled(resources, document["outbox"]):
                found[effect_id(each.stage, each.event.event_id)] = each
    for document in resources.work.all():
        if document["_id"] not in found and not resources.store.is_settled(document["_id"]):
            found[document["_id"]] = Outstanding(document["stage"], parse_event(document["event"]))
    return list(found.values())


def _send_unsent(resources: Resources) -> int:
    """Send the events of records whose worker died, or lost the broker, before it had sent them."""
    sent = 0
    before = datetime.now(UTC) - _MAY_STILL_BE_SENT
    for name in COLLECTIONS.values():
        collection = resources.store.database[name]
        query = {"outbox_open": True, "outbox_sent_at": None, "recorded_at": {"$lt": before}}
        for document in collection.find(query, {"outbox": 1}):
            for event in map(parse_event, document["outbox"]):
                resources.broker.send(event)
                sent += len(ROUTES[event.type])
            collection.update_one(
                {"_id": document["_id"]}, {"$set": {"outbox_sent_at": datetime.now(UTC)}}
            )
    return sent


def _without_record(resources: Resources) -> Iterator[Outstanding]:
    """Events sent some time ago that nobody has begun to handle. Closes outboxes that are done."""
    before = datetime.now(UTC) - timedelta(seconds=resources.settings.redeliver_after_seconds)
    begun = {document["_id"] for document in resources.work.all()}
    for name in COLLECTIONS.values():
        collection = resources.store.database[name]
        query = {"outbox_open": True, "outbox_sent_at": {"$lt": before}}
        for document in collection.find(query, {"outbox": 1}):
            unsettled = list(_unsettled(resources, document["outbox"]))
            if not unsettled:
                collection.update_one({"_id": document["_id"]}, {"$set": {"outbox_open": False}})
            for found in unsettled:
                if effect_id(found.stage, found.event.event_id) not in begun:
                    yield found


def _unsettled(resources: Resources, outbox: list[dict[str, Any]]) -> Iterator[Outstanding]:
    for event in map(parse_event, outbox):
        for stage in ROUTES[event.type]:
            if not resources.store.is_settled(effect_id(stage, event.event_id), event.type):
                yield Outstanding(stage, event)


def _left_over(resources: Resources) -> Iterator[Outstanding]:
    """Work that was begun and that nobody holds any more: its worker died, or its wait is over."""
    now = datetime.now(UTC)
    quiet = now - timedelta(seconds=resources.settings.redeliver_after_seconds)
    for document in resources.work.all():
        held = document.get("lease_until", now) > now
        due_later = "next_attempt_at" in document
        awaited = document.get("waiting_for")
        waits = awaited and not resources.store.is_settled(awaited)
        if held or due_later or waits or document["updated_at"] > quiet:
            continue
        if resources.store.is_settled(document["_id"]):
            resources.work.finish(document["_id"])
        else:
            yield Outstanding(document["stage"], parse_event(document["event"]))


def _send_again(resources: Resources, lost: list[Outstanding]) -> int:
    log.warning("the broker lost messages", stage=lost[0].stage, messages=len(lost))
    for found in lost:
        resources.broker.send_to(found.stage, found.event)
    resources.work.touch([effect_id(found.stage, found.event.event_id) for found in lost])
    return len(lost)


def _send_due(resources: Resources) -> int:
    """Send the events whose next try is due."""
    now = datetime.now(UTC)
    due = [found for found in resources.work.all() if found.get("next_attempt_at", now) < now]
    for document in due:
        resources.broker.send_to(document["stage"], parse_event(document["event"]))
    resources.work.touch([document["_id"] for document in due])
    return len(due)
