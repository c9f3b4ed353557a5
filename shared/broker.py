"""The broker as the stages see it: events go in, one message for each stage that handles them."""

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from celery import Celery
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterError,
    OutOfMemoryError,
    ResponseError,
    TryAgainError,
)

from shared.events import ROUTES, STAGES, Event, Stage, dump_event, parse_event, task_name
from shared.refusals import NamesRefusals

_HEARTBEATS: Final = "heartbeats"
_OWNER: Final = "installation"
_BEFORE_PREFIXES: Final = "trimtab:heartbeats"
"""The key of the heartbeats in versions whose keys had no prefix."""
_PAGE: Final = 100
_LONGEST_PART: Final = 300
"""Characters of `stage@host`; a host's name has 255 at most."""

OWNED_SECONDS: Final = 30
"""An installation owns its keys for this long after its last sign of life."""

IN_CLUSTER: Final = (
    "REDIS_URL leads to a server in cluster mode, which cannot carry the messages: a worker waits "
    "for several keys at once, and a cluster keeps them apart. Set REDIS_URL to a Redis or Valkey "
    "server with `cluster-enabled no`"
)
_CLUSTER_ERRORS: Final = (ClusterError, AskError, ClusterCrossSlotError, TryAgainError)
"""What only a server in cluster mode answers."""


class Broker:
    """Sends events as Celery messages, and tells how much is queued and who is alive."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._prefix: str = app.conf.broker_transport_options["global_keyprefix"]
        self._redis = NamesRefusals.from_url(
            app.conf.broker_url, socket_timeout=10, driver_info=None
        )

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        self._app.close()

    def send(self, event: Event) -> None:
        """Send an event to every stage that handles it."""
        for stage in ROUTES[event.type]:
            self.send_to(stage, event)

    def send_to(self, stage: Stage, event: Event) -> None:
        """Send an event to one stage."""
        self._app.send_task(
            task_name(stage, event.type),
            kwargs={"event": dump_event(event)},
            queue=stage,
            kwargsrepr=describe(event),
        )

    def queue_lengths(self) -> dict[Stage, int]:
        """How many messages wait in each stage's queue."""
        return {stage: self.queue_length(stage) for stage in STAGES}

    def queue_length(self, stage: Stage) -> int:
        """How many messages wait in a stage's queue."""
        length: Any = self._redis.llen(self._key(stage))
        return int(length)

    def _key(self, name: str) -> str:
        """The key of a queue, as Kombu's option `global_keyprefix` makes it, or one of our own."""
        return f"{self._prefix}{name}"

    def drop_all(self) -> int:
        """Remove every message of the stages' queues; the sweep sends again what counts.

        Returns: how many there were.
        """
        return sum(self._dropped(stage) for stage in STAGES)

    def _dropped(self, stage: Stage) -> int:
        waiting = self.queue_length(stage)
        self._redis.delete(self._key(stage))
        return waiting

    def oldest_event(self, stage: Stage) -> Event | None:
        """The event of the message that has waited longest in a stage's queue; none if none has."""
        page: Any
        end = -1
        while page := self._redis.lrange(self._key(stage), end - _PAGE + 1, end):
            for event in map(_event_of, reversed(page)):
                if event:
                    return event
            end -= _PAGE
        return None

    def events(self, stage: Stage) -> Iterator[Event]:
        """The events whose messages wait in a stage's queue, the newest first.

        Messages of beat's housekeeping carry no event. One that comes meanwhile may make another be
        told twice; what is taken meanwhile, from the other end, makes none be left out.
        """
        page: Any
        begin = 0
        while page := self._redis.lrange(self._key(stage), begin, begin + _PAGE - 1):
            yield from filter(None, map(_event_of, page))
            begin += _PAGE

    def eviction_policy(self) -> str:
        """What the broker does when its memory is full; 'noeviction' refuses new messages."""
        facts: Any = self._redis.info("memory")
        return str(facts.get("maxmemory_policy"))

    def is_cluster(self) -> bool:
        """Whether the server is in cluster mode: it refuses to look at two keys at once."""
        try:
            self._redis.exists(self._key(_HEARTBEATS), self._key(_OWNER))
        except _CLUSTER_ERRORS:
            return True
        return False

    def owner(self) -> str | None:
        """The installation that has given a sign of life within OWNED_SECONDS; none if none has."""
        found: Any = self._redis.get(self._key(_OWNER))
        return found.decode() if found else None

    def claim(self, installation: str) -> str:
        """Give an installation's sign of life, unless another one gives them.

        Returns: the installation that owns the keys now.
        """
        key = self._key(_OWNER)
        with suppress(OutOfMemoryError):  # a full broker needs workers that empty it
            self._redis.set(key, installation, nx=True, ex=OWNED_SECONDS)
        owner = self.owner() or installation
        if owner == installation:
            self._redis.expire(key, OWNED_SECONDS)
        return owner

    def has_keys_without_prefix(self) -> bool:
        """Whether a version of Trimtab that knew no prefix has left keys; they serve nobody."""
        try:
            return bool(self._redis.exists(_BEFORE_PREFIXES))
        except ResponseError:  # a user that may name its own keys alone
            return False

    def note_alive(self, part: str) -> None:
        """Note that a part of the system has made progress just now."""
        self._redis.hset(self._key(_HEARTBEATS), part, datetime.now(UTC).isoformat())

    def last_alive(self) -> dict[str, datetime]:
        """When each part of the system last made progress; what is no sign of ours is left out."""
        beats: Any = self._redis.hgetall(self._key(_HEARTBEATS))
        signs = {part.decode(errors="replace"): _time_of(at) for part, at in beats.items()}
        return {part: at for part, at in signs.items() if at and len(part) <= _LONGEST_PART}

    def forget_workers(self, silent_since: datetime) -> None:
        """Forget workers that gave no sign since: each new container has another name."""
        silent = [
            part for part, at in self.last_alive().items() if "@" in part and at < silent_since
        ]
        if silent:
            self._redis.hdel(self._key(_HEARTBEATS), *silent)


def _time_of(text: bytes) -> datetime | None:
    """The time of a sign of life; None if it is none with a zone."""
    try:
        at = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return at if at.tzinfo else None


def _event_of(message: bytes | str) -> Event | None:
    try:
        _, called_with, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
        return parse_event(called_with["event"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # no event of ours: the stage's worker will judge it


def describe(event: Event) -> str:
    """The event in a few words, as Flower shows it: `pipeline=air_quality batch=3 rows=840`."""
    facts = event.model_dump(mode="json")
    shown = {
        "pipeline": event.pipeline,
        "batch": facts.get("sequence"),
        "rows": facts.get("rows") or facts.get("window_rows"),
        "model": facts.get("model_version"),
        "reason": facts.get("reason"),
        "slot": facts.get("slot"),
    }
    return " ".join(f"{name}={value}" for name, value in shown.items() if value is not None)
