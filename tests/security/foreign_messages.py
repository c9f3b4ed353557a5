"""Messages that no part of this system has written, as they would lie in a queue's list.

Their MACs are good, as if their sender had the key: what they ask for is refused all the same.
"""

import base64
import json
import os
import pickle
from typing import Any
from uuid import uuid4

from shared.authentication import Authenticator
from shared.events import Stage, task_name
from shared.transport import with_mac
from tests.keys import AUTHENTICATOR, STRANGER


class Harmful:
    """Whoever unpickles it runs what it says."""

    def __init__(self, command: str = "exit 3") -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self._command,)


def encoded(content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def message(
    stage: Stage,
    kind: str,
    event: object,
    authenticator: Authenticator | None = AUTHENTICATOR,
    **changes: Any,
) -> bytes:
    """A message as a part of this system sends it, with changes; None: without a MAC."""
    identity = str(uuid4())
    headers = {"lang": "py", "task": task_name(stage, kind), "id": identity, "retries": 0}
    envelope: dict[str, Any] = {
        "body": encoded([[], {"event": event}, {"callbacks": None, "chain": None}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": stage},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": identity,
        },
    }
    envelope |= {name.replace("_", "-"): value for name, value in changes.items()}
    if isinstance(changes.get("headers"), dict):
        envelope["headers"] = headers | changes["headers"]
    if authenticator and envelope["headers"] and isinstance(envelope["body"], str):
        envelope = with_mac(stage, envelope, authenticator)
    return json.dumps(envelope).encode()


def foreign(
    stage: Stage, kind: str, event: dict[str, Any], harmful: Harmful | None = None
) -> dict[str, bytes]:
    """What is wrong -> a message to a stage, all about an event that it would handle."""

    def ours(**changes: Any) -> bytes:
        return message(stage, kind, event, **changes)

    pickled = base64.b64encode(pickle.dumps(harmful or Harmful())).decode()
    return {
        "pickled": ours(
            body=pickled, content_type="application/x-python-serialize", content_encoding="binary"
        ),
        "pickled, said to be JSON": ours(body=pickled),
        "YAML": ours(content_type="application/x-yaml"),
        "compressed": ours(headers={"compression": "application/x-bz2"}),
        "no task of ours": ours(headers={"task": "os.system"}),
        "a task of Celery's": ours(headers={"task": "celery.backend_cleanup"}),
        "a task of another stage": ours(
            headers={"task": "drift.bury" if stage != "drift" else "trainer.bury"}
        ),
        "no headers": ours(headers=None),
        "no id": ours(headers={"id": None}),
        "years ahead": ours(headers={"eta": "2999-01-01T00:00:00"}),
        "no time": ours(headers={"eta": "never"}),
        "of a group": ours(headers={"group": "a"}),
        "retried": ours(headers={"retries": 3}),
        "positional arguments": ours(body=encoded([[event], {}, {}])),
        "further arguments": ours(body=encoded([[], {"event": event, "as": "root"}, {}])),
        "no arguments": ours(body=encoded([[], {}, {}])),
        "a number": ours(body=encoded(7)),
        "an object": ours(body=encoded({"a": 1})),
        "a chain": ours(body=encoded([[], {"event": event}, {"chain": [{"task": "x"}]}])),
        "a callback": ours(body=encoded([[], {"event": event}, {"callbacks": [{"task": "x"}]}])),
        "no base64": ours(body="%%%"),
        "no text": ours(body=base64.b64encode(b"\xff\xfe").decode()),
        "deeply nested": ours(body=base64.b64encode(b"[" * 100_000).decode()),
        "no properties": ours(properties={}),
        "no delivery": ours(
            properties={"delivery_tag": "1", "delivery_info": {}, "body_encoding": "base64"}
        ),
        "text": b"hello",
        "bytes": b"\xff\xfe\x00",
        "nothing": b"",
        "null": b"null",
        "a list": b"[]",
        "half a message": ours()[:200],
        "nested without end": b"[" * 100_000,
        "no MAC": ours(authenticator=None),
        "a MAC by another key": ours(authenticator=STRANGER),
        "two megabytes": ours(body="A" * 2_000_000),
        "no event": message(stage, kind, 7),
        "an event of another kind": message(stage, kind, event | {"type": "Unheard"}),
        "another version": message(stage, kind, event | {"version": 2}),
        "a path as an id": message(stage, kind, event | {"event_id": "../../etc/passwd"}),
        "a path as a pipeline": message(stage, kind, event | {"pipeline": "../secrets"}),
        "an operator as an id": message(stage, kind, event | {"event_id": {"$ne": None}}),
        "more than an event has": message(stage, kind, event | {"role": "root"}),
        "half a character": message(stage, kind, event | {"pipeline": "a\ud800"}),
        "no zone": message(stage, kind, event | {"occurred_at": "2026-01-01T00:00:00"}),
    }
