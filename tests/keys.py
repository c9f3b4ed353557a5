"""The keys of the systems that tests make."""

from typing import Final

from pydantic import SecretStr

from shared.authentication import Authenticator
from shared.store import COLLECTIONS, Store

EVENT_KEY: Final = "an event key for tests only"
AUTHENTICATOR: Final = Authenticator(SecretStr(EVENT_KEY))
STRANGER: Final = Authenticator(SecretStr("a key that nobody has given away"))


def authenticate(store: Store) -> None:
    """Make MACs of what stands in a store now, as if this system had written it.

    For tests that alter records to make a state, and not to attack.
    """
    for name in (*COLLECTIONS.values(), "work"):
        store.database[name].update_many({}, {"$unset": {"mac": 1, "outbox_mac": 1}})
    Store(store.database, AUTHENTICATOR).authenticate_all()
