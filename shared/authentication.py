"""MACs under EVENT_KEY: what a message, a record or an event at rest says is said by this system.

The broker and the store carry what others may write as well. Whoever has their passwords, and not
the key, can neither write nor alter anything that a worker acts on.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, Literal

import bson
from pydantic import SecretStr

from shared.failures import WillNotPass
from shared.settings import Settings, SettingsError

Purpose = Literal["message", "record", "outbox", "work", "installation"]
"""What a MAC is for. A MAC for one purpose fits no other."""

_UNSAID: Final = frozenset({"mac", "outbox_mac", "outbox", "outbox_open", "outbox_sent_at"})
"""Fields that a record's own MAC leaves out: the outbox has one of its own, its state has none."""


class Unauthentic(WillNotPass):
    """A document has no MAC of this system, or says something else than what was authenticated."""


class Authenticator:
    """Makes and checks MACs: HMAC-SHA-256, 64 hexadecimal digits.

    One key a line: the first one makes MACs, and those of any are accepted, so that a key can be
    replaced while the system runs.
    """

    def __init__(self, keys: SecretStr) -> None:
        self._keys = [line.encode() for line in keys.get_secret_value().splitlines()]

    def mac(self, purpose: Purpose, *parts: bytes) -> str:
        """The MAC of some parts, whose borders count."""
        return _mac(self._keys[0], purpose, parts)

    def fits(self, mac: object, purpose: Purpose, *parts: bytes) -> bool:
        """Whether it is the MAC of these parts, by any of the keys."""
        if not isinstance(mac, str):
            return False
        made = (_mac(key, purpose, parts) for key in self._keys)
        return any(hmac.compare_digest(mac.encode(), each.encode()) for each in made)

    def installations(self) -> list[str]:
        """What tells this system from others with other keys, by each of its keys.

        Whoever writes to the store can give two systems one name, and not one key.
        """
        return [_mac(key, "installation", ()) for key in self._keys]

    # Documents of the store.

    def macs(self, collection: str, document: Mapping[str, Any]) -> dict[str, str]:
        """The fields of a record's document with the MACs of what it says and of its outbox."""
        return {
            "mac": self.mac("record", *_said(collection, document)),
            "outbox_mac": self.mac("outbox", *_outbox(collection, document)),
        }

    def require_record(self, collection: str, document: Mapping[str, Any]) -> None:
        """Let a whole document pass that says what was authenticated.

        Raises:
            Unauthentic: it does not.
        """
        if not self.fits(document.get("mac"), "record", *_said(collection, document)):
            raise Unauthentic(_refusal(collection, document))

    def require_outbox(self, collection: str, document: Mapping[str, Any]) -> None:
        """Let a document pass whose `_id`, `outbox` and `state` are what was authenticated.

        Raises:
            Unauthentic: they are not.
        """
        if not self.fits(document.get("outbox_mac"), "outbox", *_outbox(collection, document)):
            raise Unauthentic(_refusal(collection, document))

    def work_mac(self, effect: str, stage: str, event: Mapping[str, Any]) -> str:
        """The MAC of an event that is kept while an effect is worked on."""
        return self.mac("work", *_work(effect, stage, event))

    def require_work(self, document: Mapping[str, Any]) -> None:
        """Let a document of work pass whose event is what was authenticated.

        Raises:
            Unauthentic: it is not.
        """
        parts = _work(document["_id"], document["stage"], document["event"])
        if not self.fits(document.get("mac"), "work", *parts):
            raise Unauthentic(_refusal("work", document))


def required(authenticator: Authenticator | None) -> Authenticator:
    """The authenticator, for what is written.

    Raises:
        SettingsError: there is none.
    """
    if authenticator is None:
        raise SettingsError("EVENT_KEY is not set: without it nothing can be written to the store")
    return authenticator


def authenticator_of(settings: Settings) -> Authenticator | None:
    """That of EVENT_KEY; None if it is not set."""
    return Authenticator(settings.event_key) if settings.event_key else None


def _mac(key: bytes, purpose: Purpose, parts: tuple[bytes, ...]) -> str:
    made = hmac.new(key, purpose.encode(), hashlib.sha256)
    for part in parts:
        made.update(len(part).to_bytes(8, "big"))
        made.update(part)
    return made.hexdigest()


def _said(collection: str, document: Mapping[str, Any]) -> tuple[bytes, ...]:
    said = {name: value for name, value in document.items() if name not in _UNSAID}
    return collection.encode(), _bytes(said)


def _outbox(collection: str, document: Mapping[str, Any]) -> tuple[bytes, ...]:
    said = {name: document.get(name) for name in ("_id", "state", "outbox")}
    return collection.encode(), _bytes(said)


def _work(effect: str, stage: str, event: Mapping[str, Any]) -> tuple[bytes, ...]:
    return (_bytes({"effect": effect, "stage": stage, "event": event}),)


def _bytes(document: Mapping[str, Any]) -> bytes:
    """The document as MongoDB keeps it, with its fields in the order of their names."""
    return bson.encode({name: document[name] for name in sorted(document)})


def _refusal(collection: str, document: Mapping[str, Any]) -> str:
    return (
        f"{collection}: the record {document.get('_id')} was not written by this system with this "
        "EVENT_KEY, or was altered since"
    )
