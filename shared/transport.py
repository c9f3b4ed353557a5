"""Redis as Celery's broker, with a door: only messages of our own form come in as what they say.

Celery drops a message that it cannot read with a line in the log, or ends, and meets it again after
its restart. So each message is checked when it is taken from its queue. What no part of this system
has written becomes a task that keeps it as a dead letter, for a person to look at.
"""

import base64
import binascii
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, cast
from uuid import uuid4

import structlog
from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis import Redis
from redis.exceptions import OutOfMemoryError

from shared.authentication import Authenticator
from shared.events import STAGES, Stage, task_name
from shared.failures import first_fault
from shared.refusals import NamesRefusals
from shared.tasks import KEPT, arguments, bury_task

LONGEST: Final = 1_000_000
"""Bytes of a message. Events name things and carry none; the longest is a few kilobytes."""

EVENTS: Final = "celeryev"
"""Celery's name for what workers publish of themselves, for Flower."""

log = structlog.get_logger(__name__)


class _Client(NamesRefusals, redis.PrefixedStrictRedis):
    """Kombu's client, whose refusals say who may not do what."""


class QoS(redis.QoS):
    """The messages that a worker has taken, with copies in the broker; a full broker takes none.

    The sweep sends a message again whose copy is missing, or which could not go back.
    """

    def append(self, message: virtual.Message, delivery_tag: str) -> None:
        """Note a message that was taken."""
        try:
            super().append(message, delivery_tag)
        except OutOfMemoryError:
            log.warning(
                "the broker is full and kept no copy of a message that this worker took; the sweep "
                "sends it again if it is lost. Give the broker more memory (maxmemory)"
            )
            virtual.QoS.append(self, message, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back, and be free for the next one in any case."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        except OutOfMemoryError:
            log.warning(
                "the broker is full and took no message back; the sweep sends it again. Give the "
                "broker more memory (maxmemory)"
            )
            virtual.QoS.ack(self, delivery_tag)


class Channel(redis.Channel):
    """A channel whose messages are authenticated when they are sent, and checked when they come.

    The transport option `authenticator` holds the key. Without it messages are sent that no worker
    admits, and none are admitted.
    """

    QoS = QoS
    _fanout_queues: dict[str, tuple[str, str]]

    @property
    def _authenticator(self) -> Authenticator | None:
        client = self.connection.client
        options = client.transport_options if client else None
        return options.get("authenticator") if options else None

    def _create_client(self, asynchronous: bool = False) -> Redis:
        client: Redis = super()._create_client(asynchronous)  # type: ignore[misc]
        check = partial(_checked, self.global_keyprefix, self._authenticator)
        client.set_response_callback("BRPOP", check)
        return client

    def _get_client(self) -> Callable[..., Redis]:
        return partial(_Client, global_keyprefix=self.global_keyprefix)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Without the name of the library, which nobody needs the right to tell."""
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        return parameters | {"driver_info": None}

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        if self._authenticator:
            message = with_mac(cast("Stage", queue), message, self._authenticator)
        super()._put(queue, message, **options)

    def _put_fanout(
        self, exchange: str, message: dict[str, Any], routing_key: str, **options: Any
    ) -> None:
        """Publish a worker's event. Nobody listens to remote control, and Flower may not ask."""
        if exchange == EVENTS:
            super()._put_fanout(exchange, message, routing_key, **options)  # type: ignore[misc]

    def _new_queue(self, queue: str, **options: Any) -> None:
        """A list comes into being with its first message."""

    def _queue_bind(self, exchange: str, routing_key: str, _: str, queue: str) -> None:
        """Let Flower listen. Kombu would write it into the broker, where Flower may not write."""
        self._fanout_queues[queue] = exchange, routing_key.replace("#", "*")


def unacknowledged(stage: Stage) -> dict[str, str]:
    """The options that give a stage's worker keys of its own for the messages in its hands."""
    kept = ("unacked_key", "unacked_index_key", "unacked_mutex_key")
    return {option: f"{option.removesuffix('_key')}.{stage}" for option in kept}


class Transport(redis.Transport):
    """Kombu's Redis transport over such channels."""

    Channel = Channel


def use_checked_transport() -> None:
    """Let every connection to redis:// and rediss:// of this process be a checked one."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"


class Foreign(ValueError):
    """A message that no part of this system has written; the text says how that shows."""


def with_mac(stage: Stage, message: dict[str, Any], authenticator: Authenticator) -> dict[str, Any]:
    """A message for a stage, as Kombu gives it, with the MAC of what it asks for."""
    headers = message["headers"]
    mac = authenticator.mac("message", *_asked(stage, headers["task"], message["body"]))
    return message | {"headers": headers | {"mac": mac}}


def _asked(stage: str, task: str, body: str) -> tuple[bytes, ...]:
    return stage.encode(), task.encode(), body.encode()


def _checked(prefix: str, authenticator: Authenticator | None, answer: Any, **_: Any) -> Any:
    """The answer to BRPOP: nothing, or a queue's key and a message."""
    if not answer:
        return None
    key, message = answer
    queue = key.decode().removeprefix(prefix)
    if queue not in STAGES:
        return key, message
    return key, admitted(cast("Stage", queue), message, authenticator)


def admitted(stage: Stage, message: bytes, authenticator: Authenticator | None) -> bytes:
    """The message, or in its place one that keeps it as a dead letter."""
    try:
        require_ours(stage, message, authenticator)
    except Foreign as found:
        burial = _burial(stage, message, str(found))
        if authenticator:  # it may go back into the queue before it is handled
            burial = with_mac(stage, burial, authenticator)
        return json.dumps(burial).encode()
    return message


class _Properties(BaseModel):
    delivery_tag: str
    delivery_info: dict[str, Any]
    body_encoding: Literal["base64"]


class _Headers(BaseModel):
    """Those with which Celery would do something that we do not ask for are to be empty."""

    task: str
    id: str
    lang: Literal["py"]
    eta: None = None
    expires: str | None = None
    group: None = None
    group_index: None = None
    retries: Literal[0] = 0
    compression: None = None
    mac: str = ""


class _Message(BaseModel):
    """Celery's protocol 2, as Kombu writes it into Redis."""

    model_config = ConfigDict(strict=True)

    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


def require_ours(stage: Stage, message: bytes, authenticator: Authenticator | None) -> None:
    """Let a message pass that this system has sent, and that asks for a task of the stage.

    The event in it is read by the stage's runtime.

    Raises:
        Foreign: it has not, or does not.
    """
    if len(message) > LONGEST:
        raise Foreign(f"{len(message):,} bytes are more than any message of ours has")
    try:
        envelope = _Message.model_validate_json(message)
        content = json.loads(base64.b64decode(envelope.body, validate=True))
    except ValidationError as error:
        raise Foreign(first_fault(error, "the message")) from None
    except (ValueError, binascii.Error, RecursionError) as error:
        raise Foreign(f"body: {type(error).__name__}: {error}") from None
    asked = _asked(stage, envelope.headers.task, envelope.body)
    if not authenticator or not authenticator.fits(envelope.headers.mac, "message", *asked):
        raise Foreign("headers.mac: not made with this system's EVENT_KEY")
    delivery = envelope.properties.delivery_info
    if not {"exchange", "routing_key"} <= delivery.keys():
        raise Foreign("properties.delivery_info: no exchange or no routing_key")
    _require_known_call(stage, envelope.headers.task, content)


def _require_known_call(stage: Stage, task: str, content: Any) -> None:
    names = arguments(stage).get(task)
    if names is None:
        raise Foreign(f"headers.task: the {stage} worker has no task {task[:100]!r}")
    match content:
        case [[], dict(called_with), dict(embedded)]:
            pass
        case _:
            raise Foreign("body: not the arguments of a task")
    if called_with.keys() != names:
        raise Foreign(f"body: {task} takes {', '.join(sorted(names)) or 'nothing'}")
    if "event" in names and _task_of(stage, called_with["event"]) != task:
        raise Foreign(f"body: the event is none that {task} handles")
    if asked := [name for name, value in embedded.items() if value]:
        raise Foreign(f"body: asks for more than its task: {asked[0][:100]!r}")


def _task_of(stage: Stage, event: Any) -> str | None:
    kind = event.get("type") if isinstance(event, dict) else None
    return task_name(stage, kind) if isinstance(kind, str) else None


def _burial(stage: Stage, message: bytes, reason: str) -> dict[str, Any]:
    received = message[:KEPT].decode("utf-8", "backslashreplace")[:KEPT]
    called_with = {"received": received, "reason": reason}
    identity = str(uuid4())
    return {
        "body": base64.b64encode(json.dumps([[], called_with, {}]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": bury_task(stage), "id": identity},
        "properties": {
            "correlation_id": identity,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": stage},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": identity,
        },
    }
