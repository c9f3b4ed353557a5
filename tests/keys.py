"""The keys of the systems that tests make."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from shared.authentication import Authenticator
from shared.store import COLLECTIONS, Store

EVENT_KEY: Final = "an event key for tests only"
AUTHENTICATOR: Final = Authenticator(SecretStr(EVENT_KEY))


def _private(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def _text(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def _line(key: Ed25519PrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"ada {public.decode()}"


_ADA: Final = _private(1)
_STRANGER: Final = _private(2)
OPERATOR_KEY: Final = _text(_ADA)
OPERATORS: Final = _line(_ADA)
STRANGERS_OPERATOR_KEY: Final = _text(_STRANGER)
LISTED_AS_ADA: Final = _line(_STRANGER)
"""The stranger's key under the name of Ada, as OPERATORS never lists it."""
STRANGER: Final = Authenticator(SecretStr("a key that nobody has given away"))


def authenticate(store: Store) -> None:
    """Make MACs of what stands in a store now, as if this system had written it.

    For tests that alter records to make a state, and not to attack.
    """
    for name in (*COLLECTIONS.values(), "work"):
        store.database[name].update_many({}, {"$unset": {"mac": 1, "outbox_mac": 1}})
    Store(store.database, AUTHENTICATOR).authenticate_all()
