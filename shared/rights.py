"""What each service may do on the broker and in the store: the least that it needs.

`trimtab up` makes its users from this. `make rights` writes it into the files that compose and
Kubernetes mount: deploy/redis/rights.acl and deploy/mongo/rights.json. Nothing else states it.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, Literal

from shared.events import STAGES, Stage, successors
from shared.records import AuditEntry
from shared.store import BLOBS, COLLECTIONS, PICTURES, prepared_by, written_by
from shared.transport import EVENTS

Service = Literal[
    "ingest",
    "drift",
    "trainer",
    "publisher",
    "notifier",
    "beat",
    "flower",
    "exporter",
    "cli",
    "keda",
]
"""Who signs in. `keda` reads the lengths of queues in Kubernetes."""

BROKER_USERS: Final[tuple[Service, ...]] = (*STAGES, "beat", "flower", "exporter", "cli", "keda")
STORE_USERS: Final[tuple[Service, ...]] = (*STAGES, "exporter", "cli")

# The broker: commands on keys, as Redis' access list writes them.

_ANYBODY: Final = ("ping",)
_TRANSACTION: Final = ("multi", "exec", "discard", "unwatch")
_QUEUE: Final = ("llen", "brpop", "lpush", "rpush")
_HANDS: Final = ("watch", "hget", "hset", "hdel", "zadd", "zrem", "zrange")
_LOCK: Final = ("set", "evalsha", "get", "del")
_EVENTS: Final = f"/0.{EVENTS}"
"""Kombu's channel of the workers' events, on the server's first database."""


def broker_rules(service: Service, prefix: str) -> str:
    """A user of the broker, as Redis' access list has it behind the password.

    Args:
        prefix: what every key begins with.
    """
    rules = _BROKER[service] if service in _BROKER else _worker(service)  # type: ignore[arg-type]
    return " ".join(rules).replace("{", prefix)


def _on(keys: Iterable[str], commands: Iterable[str]) -> str:
    """Commands and the keys that they are for, names without the prefix."""
    allowed = " ".join(f"+{command}" for command in commands)
    return f"({allowed} {' '.join(f'~{{{key}' for key in keys)})"


def _commands(*commands: str) -> str:
    return " ".join(["-@all", *(f"+{command}" for command in commands)])


def _worker(stage: Stage) -> list[str]:
    """Its own queue and what it has in hand; a push to its successors; signs of life."""
    forgets = ("hdel",) if stage == "ingest" else ()
    others = sorted(successors(stage) - {stage})
    return [
        *("resetchannels", f"&{{{_EVENTS}/*"),
        _commands(*_ANYBODY, *_TRANSACTION, "info", "publish", "script|load"),
        _on([stage], _QUEUE),
        _on([f"unacked.{stage}", f"unacked_index.{stage}"], _HANDS),
        _on([f"unacked_mutex.{stage}"], _LOCK),
        *([_on(others, ["lpush"])] if others else []),
        _on(["installation"], ("get", "set", "expire")),
        _on(["heartbeats"], ("hset", "hgetall", *forgets)),
        _IS_CLUSTER,
    ]


_IS_CLUSTER: Final = _on(["heartbeats", "installation"], ["exists"])
_LOOKS: Final = (
    "resetchannels",
    _commands(*_ANYBODY),
    _on(STAGES, ("llen", "lrange")),
    _on(["heartbeats"], ["hgetall"]),
    _IS_CLUSTER,
)
_BROKER: Final[dict[Service, tuple[str, ...]]] = {
    "beat": (
        "resetchannels",
        _commands(*_ANYBODY),
        _on(["ingest", "publisher"], ["lpush"]),
        _on(["heartbeats"], ["hset"]),
        _IS_CLUSTER,
    ),
    "flower": (
        *("resetchannels", f"&{{{_EVENTS}/*"),
        _commands(*_ANYBODY, *_TRANSACTION, "psubscribe", "punsubscribe"),
        _on([*STAGES, f"{EVENTS}.*"], ["llen"]),
        _IS_CLUSTER,
    ),
    "exporter": (*_LOOKS, _on(["installation"], ["get"])),
    "cli": (
        *_LOOKS,
        _on(STAGES, ("lpush", "del")),
        _on(["installation"], ("get", "set", "expire")),
    ),
    "keda": ("resetchannels", _commands(*_ANYBODY), _on(STAGES, ("eval", "type", "llen"))),
}

# The store: actions on collections, as MongoDB's roles have them.

_READ: Final = ("find",)
_ADD: Final = ("find", "insert")
_WRITE: Final = ("find", "insert", "update")
_ALL: Final = ("find", "insert", "update", "remove")
_EXPIRE: Final = "collMod"
_RECORDS: Final = tuple(COLLECTIONS.values())
_LETTERS: Final = "dead_letters"
_AUDIT: Final = COLLECTIONS[AuditEntry]
_OTHERS: Final = tuple(name for name in _RECORDS if name != _AUDIT)
_WATCH: Final = "publication_watch"


def store_rights(service: Service) -> dict[str, list[str]]:
    """Collection -> what the service's user of the store may do with it."""
    rights: defaultdict[str, set[str]] = defaultdict(set)
    for collections, actions in _store(service):
        for collection in collections:
            rights[collection].update(actions)
    return {collection: sorted(rights[collection]) for collection in sorted(rights)}


def role(service: Service, database: str) -> list[dict[str, Any]]:
    """The privileges of the service's role, for MongoDB's `createRole`."""
    return [
        {"resource": {"db": database, "collection": collection}, "actions": actions}
        for collection, actions in store_rights(service).items()
    ]


def _bucket(name: str) -> tuple[str, str]:
    return f"{name}.files", f"{name}.chunks"


Rights = list[tuple[Iterable[str], Iterable[str]]]


def _store(service: Service) -> Rights:
    everywhere: Rights = [((*_RECORDS, "work", "installation"), _READ)]
    match service:
        case "exporter":
            return [*everywhere, ((_WATCH, *_bucket(BLOBS)), _READ)]
        case "cli":
            return [
                *everywhere,
                # `trimtab upgrade` gives every record its MAC.
                (_OTHERS, (*_READ, "update")),
                ([_AUDIT], _ADD),
                (("batches", "installation", "work"), _WRITE),
                ([_WATCH], _READ),
                (_bucket(BLOBS), (*_ADD, "listIndexes", "createIndex")),
            ]
        case _ if service in STAGES:
            return [*everywhere, *_of_stage(service)]
    raise ValueError(f"{service} has no user of the store")


def _of_stage(stage: Stage) -> Rights:
    return [
        (written_by(stage), (*_WRITE, _EXPIRE)),
        (prepared_by(stage), ["createIndex"]),
        ([_LETTERS, "installation"], _WRITE),
        (["work"], _ALL),
        *_BLOBS_OF[stage],
    ]


_PUT: Final = (*_ADD, "listIndexes")
_BLOBS_OF: Final[dict[Stage, Rights]] = {
    # It makes the first blobs, and removes those that no record names any more.
    "ingest": [
        (_bucket(BLOBS), (*_PUT, "createIndex", "remove")),
        (_bucket(PICTURES), (*_READ, "remove")),
    ],
    "drift": [(_bucket(BLOBS), _PUT), (_bucket(PICTURES), (*_PUT, "createIndex"))],
    "trainer": [(_bucket(BLOBS), _PUT)],
    "publisher": [(_bucket(BLOBS), _READ), ([_WATCH], _ALL)],
    "notifier": [(_bucket(PICTURES), _READ), (["deliveries"], (*_WRITE, _EXPIRE))],
}
