"""The audit log: what operators asked for, each entry signed and chained to the one before by hash.

An entry is written before its request is carried out. Workers carry out a rollback or a reference
only if an entry asks for it. A genuine entry needs an operator's key. A removed entry breaks the
chain; the newest entries are missed through the records and tags that name them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Final

from pydantic import ValidationError

from shared.artifacts import sha256
from shared.authentication import Unauthentic
from shared.events import RollbackRequested, Sha256
from shared.failures import WillNotPass, first_fault
from shared.operators import NotSigned, OperatorKey, Operators
from shared.pipeline import Pipeline
from shared.plain_text import printable
from shared.records import (
    LONGEST_BECAUSE,
    Action,
    AuditEntry,
    AuditHead,
    Batch,
    DeadLetter,
    ModelVersion,
    Publication,
    Record,
)
from shared.settings import Settings
from shared.store import NUMBERED, Conflict, Store

ORIGIN: Final[Sha256] = "0" * 64
"""What the first entry has in place of the hash of the one before."""
_TRIES: Final = 20
_LONGEST_SOURCE: Final = 1_000
_NAMING: Final[tuple[tuple[type[Record], str], ...]] = (
    (Batch, "request"),
    (ModelVersion, "request"),
    (DeadLetter, "request"),
    (Publication, "audit.number"),
)
"""Records that name entries, and where."""


@dataclass(frozen=True)
class Request:
    """What an operator asks for."""

    action: Action
    pipeline: str
    trace_id: str
    subject: Mapping[str, str]
    """What the request is about. The entry is valid for nothing else."""
    because: str


def append(request: Request, store: Store, key: OperatorKey, operators: Operators) -> AuditEntry:
    """Sign a request and write it at the end of the log.

    Raises:
        NotSigned: OPERATORS does not list the key, so no worker would carry the request out; or the
            newest entry is not what an operator signed.
        WillNotPass: others write all the time.
    """
    name = operators.require_active(key.fingerprint)
    for _ in range(_TRIES):
        before = newest_entry(store)
        if before:
            require_genuine(before, operators)
        last = head_at(before)
        unsigned = AuditEntry(
            id=_identity(last.number + 1),
            pipeline=request.pipeline,
            trace_id=request.trace_id,
            recorded_at=_now(),
            number=last.number + 1,
            previous=last.digest,
            installation=store.installations()[0],
            operator=name,
            key=key.fingerprint,
            action=request.action,
            subject=dict(request.subject),
            because=in_words_of_one_line(request.because),
        )
        entry = unsigned.model_copy(update={"signature": key.sign(_said(unsigned))})
        with suppress(Conflict):
            if store.record(entry):
                return entry
    raise WillNotPass(f"others wrote to the audit log {_TRIES} times meanwhile; try again")


def in_words_of_one_line(because: str) -> str:
    """A reason as it is kept: on one line, without what cannot be shown, and not too long."""
    return printable(" ".join(because.split()))[:LONGEST_BECAUSE].strip()


def _identity(number: int) -> str:
    return f"audit:{number}"


def _now() -> datetime:
    """As exactly as MongoDB keeps it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def newest_entry(store: Store) -> AuditEntry | None:
    """The entry with the highest number; None if there is none.

    Raises:
        Unauthentic: it was not written by this system.
    """
    return store.newest(AuditEntry, {}, "number")


def head(store: Store) -> AuditHead:
    """What tells the newest entry from any other.

    Raises:
        Unauthentic: it was not written by this system.
    """
    return head_at(newest_entry(store))


def head_at(entry: AuditEntry | None) -> AuditHead:
    """What tells an entry from any other, or the beginning of the log from its entries."""
    if entry is None:
        return AuditHead(number=0, digest=ORIGIN)
    return AuditHead(number=entry.number, digest=digest(entry))


def entry_of(number: int, store: Store) -> AuditEntry | None:
    """The entry with a number.

    Raises:
        Unauthentic: it was not written by this system.
    """
    return store.get(AuditEntry, _identity(number))


def digest(entry: AuditEntry) -> Sha256:
    """The hash by which the next entry names this one."""
    return sha256(_said(entry) + entry.signature.encode())


def _said(entry: AuditEntry) -> bytes:
    """What is signed."""
    # Without defaults: a field that a later version adds leaves older signatures whole.
    said = entry.model_dump(
        mode="json", exclude={"signature", "handled_seconds"}, exclude_defaults=True
    )
    return f"Trimtab audit entry\n{json.dumps(said, sort_keys=True)}\n".encode()


def require_genuine(entry: AuditEntry, operators: Operators) -> None:
    """Let an entry pass that an operator, or a former one, has signed under the name that it says.

    Raises:
        NotSigned: nobody has.
    """
    _require_signed(operators, _said(entry), entry.signature, entry.key)
    if operators.of(entry.key).name != entry.operator:
        raise NotSigned(f"OPERATORS does not list the key {entry.key} as that of {entry.operator}")


@lru_cache(maxsize=100_000)
def _require_signed(operators: Operators, said: bytes, signature: str, key: str) -> None:
    operators.require_signed(said, signature, key)


# What workers ask before they carry a request out.


def required_operators(settings: Settings) -> Operators:
    """Those of OPERATORS.

    Raises:
        SettingsError: the list cannot be read.
        WillNotPass: it is not set.
    """
    if settings.operators is None:
        raise WillNotPass(
            "OPERATORS is not set. It lists the public keys whose requests are carried out; "
            "OPERATORS_FILE names the file of the list"
        )
    return listed_operators(settings.operators)


@cache
def listed_operators(listed: str) -> Operators:
    """Those of a list; the same object for the same list."""
    return Operators(listed)


def require_request(
    number: int | None,
    action: Action,
    pipeline: str,
    subject: Mapping[str, str],
    store: Store,
    settings: Settings,
) -> AuditEntry:
    """The entry with which an operator asked for just this.

    Raises:
        WillNotPass: there is none; the text says what is missing.
    """
    entry = entry_of(number, store) if number else None
    if entry is None:
        raise WillNotPass(
            f"{action}: no operator has signed a request for this. If somebody asked for it before "
            "an upgrade, ask again"
        )
    operators = required_operators(settings)
    try:
        operators.require_active(entry.key)
        require_genuine(entry, operators)
    except NotSigned as error:
        raise WillNotPass(f"{action}: entry {entry.number} of the audit log: {error}") from None
    if entry.installation not in store.installations():
        raise WillNotPass(
            f"{action}: entry {entry.number} of the audit log was signed for a system with another "
            "EVENT_KEY; ask again here"
        )
    if (entry.action, entry.pipeline, entry.subject) != (action, pipeline, dict(subject)):
        raise WillNotPass(
            f"{action}: entry {entry.number} of the audit log asks for something else "
            f"({entry.action}, pipeline {entry.pipeline}); ask again"
        )
    return entry


def require_asked_for(
    batch: Batch, pipeline: Pipeline, store: Store, settings: Settings
) -> AuditEntry | None:
    """The entry with which an operator made a batch the reference.

    None: it is the file that the pipeline begins with, which its own file names.

    Raises:
        WillNotPass: nobody may have done that, or what was asked for is done.
    """
    is_first = pipeline.reference and batch.sequence == 1 and batch.request is None
    if is_first and store.newest(ModelVersion, {"pipeline": batch.pipeline}, "version") is None:
        return None
    subject = subject_of_batch(batch)
    entry = require_request(
        batch.request, "reference set", batch.pipeline, subject, store, settings
    )
    done = {"pipeline": batch.pipeline, "request": {"$gte": entry.number}}
    if model := store.newest(ModelVersion, done, "version"):
        raise WillNotPass(
            f"reference set: entry {entry.number} of the audit log cannot be used any more: "
            f"v{model.version} was made for entry {model.request}. If the reference is still "
            "wanted, run `trimtab reference set` again"
        )
    return entry


def subject_of_batch(batch: Batch) -> dict[str, str]:
    """What a request to take in a batch names: its record, its place, and its rows and targets."""
    return {
        "batch": batch.id,
        "sequence": str(batch.sequence),
        "data": batch.data or "",
        "labels": batch.labels or "",
        "source": batch.source[:_LONGEST_SOURCE],
    }


def subject_of_rollback(event: RollbackRequested) -> dict[str, str]:
    """What a request for a rollback names: the event, which is one for each champion."""
    return {
        "event": event.event_id,
        "model": str(event.model_version),
        "champion": str(event.champion_version),
    }


# Whether all entries are there.


def _unmatched_names(store: Store, digests: Mapping[int, Sha256]) -> Iterator[str]:
    """Records that name entries which are not there, or are others.

    Of each kind the newest is enough: the entry that it names has all hashes before in its own.
    """
    last = max(digests)
    for kind, field in _NAMING:
        newest = store.newest(kind, {field: NUMBERED}, field)
        if newest is None:
            continue
        named, known_as = _named(newest)
        if named > last:
            yield (
                f"the record {newest.id} names entry {named} of the audit log, and the newest is "
                f"number {last}: entries were removed; restore the store from a backup"
            )
        elif known_as and known_as != digests.get(named):
            yield (
                f"the record {newest.id} names entry {named} of the audit log with another "
                "SHA-256: the entry was replaced; restore the store from a backup"
            )


def _named(record: Record) -> tuple[int, Sha256 | None]:
    """The entry that a record names, and the hash by which it does so, if any."""
    match record:
        case Publication(audit=AuditHead(number=number, digest=known_as)):
            return number, known_as
        case ModelVersion(request=int(number), request_digest=known_as):
            return number, known_as
        case Batch(request=int(number)) | DeadLetter(request=int(number)):
            return number, None
    return 0, None


def faults(store: Store, settings: Settings) -> Iterator[str]:
    """What is wrong with the log, in sentences.

    Every entry is read. Of the records that name entries, the newest of each kind is read. Each
    signature is checked once in a process; without OPERATORS none is checked. The log has one entry
    for each request, so it stays small.
    """
    digests = {0: ORIGIN}
    try:
        yield from _broken_links(store, settings, digests)
        yield from _unmatched_names(store, digests)
    except Unauthentic as error:
        yield str(error)
    except ValidationError as error:
        fault = first_fault(error, "the record")
        yield f"the audit log, or a record that names an entry, cannot be read: {fault}"


def _broken_links(store: Store, settings: Settings, digests: dict[int, Sha256]) -> Iterator[str]:
    operators, last = listed_operators(settings.operators) if settings.operators else None, 0
    for entry in store.find(AuditEntry, {}, oldest_by="number"):
        if entry.number != last + 1 or entry.previous != digests[last]:
            yield (
                f"entry {entry.number} of the audit log does not follow entry {last}: entries were "
                "removed, added or altered; restore the store from a backup"
            )
        if operators and (fault := _not_genuine(entry, operators)):
            yield f"entry {entry.number} of the audit log: {fault}"
        last = entry.number
        digests[last] = digest(entry)


def _not_genuine(entry: AuditEntry, operators: Operators) -> str:
    """Why an entry is not; empty if it is."""
    try:
        require_genuine(entry, operators)
    except NotSigned as error:
        return str(error)
    return ""
