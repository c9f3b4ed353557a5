"""Work under way: who holds the lease on an effect, how often it was tried, what it waits for.

One document an effect, from its first try until its record is written.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

import structlog
from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from shared.authentication import Authenticator, Unauthentic, required
from shared.documents import RAW, Document, as_written, name_of
from shared.events import Event, Stage, dump_event, parse_event

log = structlog.get_logger(__name__)

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

WorkState = Literal["leases", "waiting", "later", "left"]
"""In hand; waiting for another effect; for a later try; left by a worker, for the sweep."""


@dataclass(frozen=True)
class Lease:
    """The right to work on an effect, until it expires or is given back."""

    effect: str
    owner: str
    attempt: int
    """1 for the first try."""


class Work:
    """The leases, tries and waits of all effects that are not settled."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        lease_seconds: float,
        authenticator: Authenticator | None,
    ) -> None:
        """The work of a database; without an authenticator it can be looked at alone."""
        self._documents = database["work"]
        self._authenticator = authenticator
        self._lease = timedelta(seconds=lease_seconds)

    def begin(self, effect: str, stage: Stage, event: Event) -> Lease | None:
        """Take the lease on an effect. None: another holds it, or its next try is not due yet."""
        now = datetime.now(UTC)
        owner = uuid4().hex
        try:
            document = self._documents.find_one_and_update(
                {
                    "_id": effect,
                    "lease_until": {"$not": {"$gt": now}},
                    "next_attempt_at": {"$not": {"$gt": now}},
                },
                {
                    "$set": {
                        **self._kept_event(effect, stage, event),
                        "owner": owner,
                        "lease_until": now + self._lease,
                        "updated_at": now,
                    },
                    "$unset": {"waiting_for": "", "next_attempt_at": ""},
                    "$inc": {"attempts": 1},
                },
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            return None
        assert document  # noqa: S101 - an upsert returns the document
        return Lease(effect, owner, document["attempts"])

    def _kept_event(self, effect: str, stage: Stage, event: Event) -> dict[str, Any]:
        kept = dump_event(event)
        mac = required(self._authenticator).work_mac(effect, stage, kept)
        return {"stage": stage, "event": kept, "mac": mac}

    def event_of(self, document: dict[str, Any]) -> tuple[Stage, Event]:
        """The stage and the event of a document of work.

        Raises:
            Unauthentic: they were not written by this system.
            ValueError: the event is not one of this version.
        """
        if self._authenticator:
            self._authenticator.require_work(document)
        return document["stage"], parse_event(document["event"])

    @contextmanager
    def kept(self, lease: Lease) -> Iterator[None]:
        """Renew the lease in the background for as long as the block runs."""
        done = threading.Event()
        pause = self._lease.total_seconds() / 3

        def renew() -> None:
            while not done.wait(pause):
                try:
                    self._renew(lease)
                except PyMongoError as error:
                    log.warning("lease not renewed", error=str(error))

        in_context = copy_context().run  # with the ids that the log's lines carry
        thread = threading.Thread(target=in_context, args=(renew,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew(self, lease: Lease) -> None:
        now = datetime.now(UTC)
        self._documents.update_one(
            {"_id": lease.effect, "owner": lease.owner},
            {"$set": {"lease_until": now + self._lease, "updated_at": now}},
        )

    def finish(self, effect: str) -> None:
        """Forget an effect that is settled."""
        self._documents.delete_one({"_id": effect})

    def reopen(self, effect: str, stage: Stage, event: Event) -> None:
        """Give an effect all its tries again. Without a message for it, the sweep will send one."""
        self._documents.replace_one(
            {"_id": effect},
            {
                **self._kept_event(effect, stage, event),
                "attempts": 0,
                "updated_at": datetime.now(UTC),
            },
            upsert=True,
        )

    def try_again(self, lease: Lease, at: datetime, reason: str) -> None:
        """Give the lease back and note when the next try is due."""
        self._give_back(lease, {"next_attempt_at": at, "last_error": reason})

    def wait_for(self, lease: Lease, effect: str) -> None:
        """Give the lease back until another effect is settled; the try does not count."""
        self._give_back(lease, {"waiting_for": effect}, attempts=-1)

    def _give_back(self, lease: Lease, fields: dict[str, Any], attempts: int = 0) -> None:
        self._documents.update_one(
            {"_id": lease.effect, "owner": lease.owner},
            {
                "$set": fields | {"updated_at": datetime.now(UTC)},
                "$unset": {"lease_until": "", "owner": ""},
                "$inc": {"attempts": attempts},
            },
        )

    def waiting_for(self, effect: str) -> list[tuple[Stage, Event]]:
        """Who waits for an effect: the stage and the event it has put off.

        What was not written by this system is left for the sweep to tell of.
        """
        waiting = []
        for found in self._documents.find({"waiting_for": effect}):
            with suppress(Unauthentic):
                waiting.append(self.event_of(found))
        return waiting

    def all(self) -> list[Document]:
        """Every document of work that is not settled.

        One that somebody else made may lack its time, and counts as old then. What cannot be read
        at all is left out.
        """
        return list(self._readable())

    def _readable(self) -> Iterator[Document]:
        for raw in self._documents.with_options(RAW).find():
            try:
                document = as_written(self._documents.name, raw)
            except Unauthentic as error:
                log.error("a document of work cannot be read", reason=str(error))
                continue
            if not isinstance(document.get("updated_at"), datetime):
                document["updated_at"] = _LONG_AGO
            yield document | {"_id": name_of(raw)}

    def touch(self, effects: list[str]) -> None:
        """Note that the messages of these effects were sent again just now."""
        self._documents.update_many(
            {"_id": {"$in": effects}},
            {"$set": {"updated_at": datetime.now(UTC)}, "$unset": {"next_attempt_at": ""}},
        )


def state_of(document: dict[str, Any], now: datetime) -> WorkState:
    """What an effect that was begun waits for."""
    if document.get("lease_until", now) > now:
        return "leases"
    if "waiting_for" in document:
        return "waiting"
    return "later" if "next_attempt_at" in document else "left"
