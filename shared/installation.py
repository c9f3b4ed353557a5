"""Whose broker it is: one installation, that of one store, owns the keys of one prefix.

Two installations under one prefix would take each other's messages. So each has an id, which its
store keeps, and its workers' heartbeats carry it to the broker.
"""

import time
from typing import Final

import structlog
from pymongo.errors import PyMongoError

from shared.broker import IN_CLUSTER, OWNED_SECONDS, Broker
from shared.refusals import refusal
from shared.settings import Settings, SettingsError
from shared.stage import BROKER_ERRORS
from shared.store import Store

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 2.0
_WORDS_KEPT: Final = 300


def settle_in(settings: Settings, broker: Broker) -> str | None:
    """Wait until the store and the broker answer, and make sure that nobody else works there.

    A right that is missing does not come by waiting, so it is an error.

    Returns: the installation's id; none where the store is not known.

    Raises:
        SettingsError: the broker is a cluster, another installation owns the keys, or the store
            holds records without a MAC, or one of them refuses what a service needs.
    """
    while True:
        try:
            _require_no_cluster(broker)
            if settings.mongodb_uri is None:
                return None
            installation = _installation(settings)
            claim(installation, broker, settings)
        except PyMongoError as error:
            _tell("the store", error, settings)
        except BROKER_ERRORS as error:
            _tell("the broker", error, settings)
        else:
            return installation
        time.sleep(_PAUSE_SECONDS)


def _installation(settings: Settings) -> str:
    """The id, over a connection of its own: a worker's may not be older than its children."""
    store = Store.connect(settings)
    try:
        installation = store.make_installation()
        store.require_authenticated()
        return installation
    finally:
        store.close()


def _tell(what: str, error: Exception, settings: Settings) -> None:
    if refused := refusal(error, settings):
        raise SettingsError(refused) from None
    said = str(error)[:_WORDS_KEPT]
    log.warning(f"waits until {what} answers", error=type(error).__name__, reason=said)


def claim(installation: str, broker: Broker, settings: Settings) -> None:
    """Give the installation's sign of life.

    Raises:
        SettingsError: another installation owns the keys.
    """
    _require_same(broker.claim(installation), installation, settings)


def require_not_foreign(store: Store, broker: Broker, settings: Settings) -> None:
    """Refuse to send to the workers of another installation, for a program that is none itself.

    Raises:
        SettingsError: the broker is a cluster, or another installation owns the keys.
    """
    try:
        _require_no_cluster(broker)
        owner = broker.owner()
    except BROKER_ERRORS:  # what needs the broker will say so
        return
    if owner is not None:
        _require_same(owner, store.installation(), settings)


def _require_same(owner: str, installation: str | None, settings: Settings) -> None:
    if owner != installation:
        raise SettingsError(
            f"another installation works on this broker under the prefix {settings.key_prefix!r}: "
            "its records are not in the store of MONGODB_URI and MONGODB_DATABASE. Give each "
            "installation a REDIS_KEY_PREFIX of its own. If the other one has ended, start again "
            f"{OWNED_SECONDS} seconds after it"
        )


def _require_no_cluster(broker: Broker) -> None:
    if broker.is_cluster():
        raise SettingsError(IN_CLUSTER)
