"""The audit log: what operators asked for, each entry signed and chained to the one before by hash.

An entry is written before its request is carried out. Workers carry out what an entry asks for, and
no more. Nobody without an operator's key can make one, and none can be taken out unnoticed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from shared.artifacts import sha256
from shared.authentication import Unauthentic
from shared.events import RollbackRequested, Sha256
from shared.failures import WillNotPass
from shared.operators import NotSigned, OperatorKey, Operators
from shared.pipeline import Pipeline
from shared.plain_text import printable
from shared.records import (
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
from shared.store import NUMBERED, Store

ORIGIN: Final[Sha256] = "0" * 64
"""What the first entry has in place of the hash of the one before."""
LONGEST_BECAUSE: Final = 500
_TRIES: Final = 20
_REMOVED: Final = "entries were removed; restore the store from a backup"
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
    """What it is about, so exactly that the entry serves for nothing else."""
    because: str


def append(request: Request, store: Store, key: OperatorKey, operators: Operators) -> AuditEntry:
    """Sign a request and write it at the end of the log.

    Raises:
        NotSigned: OPERATORS does not list the key, so no worker would carry the request out.
        WillNotPass: others write all the time.
    """
    name = operators.of(key.fingerprint).name
    for _ in range(_TRIES):
        before = head(store)
        unsigned = AuditEntry(
            id=_identity(before.number + 1),
            pipeline=request.pipeline,
            trace_id=request.trace_id,
            recorded_at=_now(),
            number=before.number + 1,
            previous=before.digest,
            operator=name,
            key=key.fingerprint,
            action=request.action,
            subject=dict(request.subject),
            because=printable(" ".join(request.because.split()))[:LONGEST_BECAUSE],
        )
        entry = unsigned.model_copy(update={"signature": key.sign(_said(unsigned))})
        if store.record(entry):
            return entry
    raise WillNotPass(f"others wrote to the audit log {_TRIES} times meanwhile; try again")


def _identity(number: int) -> str:
    return f"audit:{number}"


def _now() -> datetime:
    """As exactly as MongoDB keeps it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def head(store: Store) -> AuditHead:
    """The newest entry.

    Raises:
        Unauthentic: it was not written by this system.
    """
    newest = store.newest(AuditEntry, {}, "number")
    return AuditHead(
        number=newest.number if newest else 0, digest=digest(newest) if newest else ORIGIN
    )


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


# What workers ask before they carry a request out.


def required_operators(settings: Settings) -> Operators:
    """Those of OPERATORS.

    Raises:
        SettingsError: the list cannot be read.
        WillNotPass: it is not set.
    """
    if settings.operators is None:
        raise WillNotPass("OPERATORS is not set: without it no request of a person can be trusted")
    return Operators(settings.operators)


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
        raise WillNotPass(f"{action}: no operator has signed a request for this")
    try:
        required_operators(settings).require_signed(_said(entry), entry.signature, entry.key)
    except NotSigned as error:
        raise WillNotPass(f"{action}: entry {entry.number} of the audit log: {error}") from None
    if (entry.action, entry.pipeline, entry.subject) != (action, pipeline, dict(subject)):
        raise WillNotPass(
            f"{action}: entry {entry.number} of the audit log asks for something else "
            f"({entry.action}, pipeline {entry.pipeline})"
        )
    return entry


def require_asked_for(batch: Batch, pipeline: Pipeline, store: Store, settings: Settings) -> None:
    """Let a batch pass that may be the reference.

    An operator has signed it, or it is the file that the pipeline begins with.

    Raises:
        WillNotPass: neither.
    """
    if pipeline.reference and batch.sequence == 1 and batch.request is None:
        return
    subject = subject_of_batch(batch)
    require_request(batch.request, "reference set", batch.pipeline, subject, store, settings)


def subject_of_batch(batch: Batch) -> dict[str, str]:
    """What a request to take in a batch names: its record, which is one, and its rows."""
    return {"batch": batch.id, "data": batch.data or "", "source": batch.source}


def subject_of_rollback(event: RollbackRequested) -> dict[str, str]:
    """What a request for a rollback names: the event, which is one for each champion."""
    return {
        "event": event.event_id,
        "model": str(event.model_version),
        "champion": str(event.champion_version),
    }


# Whether all entries are there.


def missing_entries(store: Store) -> Iterator[str]:
    """What shows that entries were removed, in sentences, without reading all of them.

    Raises:
        Unauthentic: a record that is looked at was not written by this system.
    """
    last = head(store).number
    kept = store.collection(AuditEntry).count_documents({})
    if kept != last:
        yield f"the audit log has {kept} entries, and the newest is number {last}: {_REMOVED}"
    for kind, field in _NAMING:
        newest = store.newest(kind, {field: NUMBERED}, field)
        named = _named(newest) if newest else 0
        if newest and named > last:
            yield (
                f"the record {newest.id} names entry {named} of the audit log, and the newest is "
                f"number {last}: {_REMOVED}"
            )


def _named(record: Record) -> int:
    """The entry that a record names."""
    if isinstance(record, Publication):
        return record.audit.number if record.audit else 0
    return getattr(record, "request", None) or 0


def faults(store: Store, settings: Settings) -> Iterator[str]:
    """What is wrong with the log, in sentences: each entry is read, and each head in a commit."""
    try:
        yield from missing_entries(store)
        digests = {0: ORIGIN}
        yield from _broken_links(store, settings, digests)
        query = {"audit.number": NUMBERED}
        for published in store.find(Publication, query, oldest_by="recorded_at"):
            if published.audit and digests.get(published.audit.number) != published.audit.digest:
                yield (
                    f"the tag {published.tag} names another entry {published.audit.number} of the "
                    "audit log than there is"
                )
    except Unauthentic as error:
        yield str(error)


def _broken_links(store: Store, settings: Settings, digests: dict[int, Sha256]) -> Iterator[str]:
    operators, last = Operators(settings.operators or ""), 0
    for entry in store.find(AuditEntry, {}, oldest_by="number"):
        if entry.number != last + 1 or entry.previous != digests[last]:
            yield (
                f"entry {entry.number} of the audit log does not follow entry {last}: entries were "
                "removed or altered"
            )
        if is_listed(entry, operators):
            try:
                operators.require_signed(_said(entry), entry.signature, entry.key)
            except NotSigned as error:
                yield f"entry {entry.number} of the audit log: {error}"
        last = entry.number
        digests[last] = digest(entry)


def is_listed(entry: AuditEntry, operators: Operators) -> bool:
    """Whether the key of an entry still is an operator's; else its signature is not checked."""
    try:
        operators.of(entry.key)
    except NotSigned:
        return False
    return True
