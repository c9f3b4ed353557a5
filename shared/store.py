"""The store: MongoDB for records, GridFS for bytes. It is the truth; the broker only carries hints.

A record and the events that it leads to are one document, so either both are there or neither is.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO, Final, Literal, TypeVar, cast
from uuid import uuid4

import gridfs
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from shared.artifacts import sha256
from shared.authentication import Authenticator, Unauthentic, authenticator_of, required
from shared.documents import RAW, Document, as_written, name_of
from shared.events import (
    ROUTES,
    Event,
    Sha256,
    Stage,
    dump_event,
    effect_id,
    parse_event,
)
from shared.failures import WillNotPass
from shared.outcome import Handling
from shared.records import (
    Alteration,
    AuditEntry,
    Batch,
    ChunkCounts,
    DeadLetter,
    DriftReport,
    ModelVersion,
    Notification,
    Publication,
    Record,
    Reference,
    RetiredReference,
    TargetsAwaited,
)
from shared.settings import Settings, SettingsError

R = TypeVar("R", bound=Record)

COLLECTIONS: Final[dict[type[Record], str]] = {
    Batch: "batches",
    ChunkCounts: "chunk_counts",
    DriftReport: "drift_reports",
    Reference: "references",
    RetiredReference: "reference_data_history",
    ModelVersion: "models",
    Publication: "publications",
    Alteration: "alterations",
    Notification: "notifications",
    DeadLetter: "dead_letters",
    AuditEntry: "audit_log",
}

NUMBERED: Final = {"$gte": 1}
"""What a query says of a number that only some records have, so that its index can be used."""
MEASURED: Final = {"$gte": 0}
"""The same of an error, or of a p-value."""

OUTBOX: Final = dict.fromkeys(("outbox", "outbox_mac", "state", "outbox_sent_at", "outbox_open"), 1)
"""What a query asks for of a document to know its events, and that they are this system's."""

BLOBS: Final = "blobs"
"""The GridFS bucket of rows, models, and what reports are made of."""
PICTURES: Final = "pictures"
"""The bucket of pictures for messages: the notifier, which talks to the world, reads no rows."""

_WITHOUT_MAC: Final[Document] = {"mac": {"$exists": False}}
_WORK: Final = "work"
_INSTALLATION: Final = {"_id": "installation"}
_NEWEST = [("pipeline", ASCENDING), ("recorded_at", DESCENDING)]
# What a champion's successors look back to, however long it was the champion.
_KEPT_FOR_GOOD: Final = {"references", "models", "publications", "dead_letters", "audit_log"}
_DAY_SECONDS: Final = 86_400
_PIECE_BYTES: Final = 1 << 22
_MOST_IDS: Final = 10_000


_BESIDE: Final[dict[Stage, tuple[str, ...]]] = {
    "drift": ("reference_data_history",),
    "publisher": ("alterations",),
}
"""Stage -> collections of records that it writes on account of no event of their own."""
_PREPARES: Final[dict[Stage, tuple[str, ...]]] = {
    "ingest": ("dead_letters", "audit_log", _WORK),
    "notifier": ("deliveries",),
}
"""Stage -> further collections whose indexes it makes."""


def written_by(stage: Stage) -> list[str]:
    """The collections of records that a stage alone writes; dead letters are everybody's."""
    handled = {routes[stage] for routes in ROUTES.values() if stage in routes}
    return [*sorted(handled), *_BESIDE.get(stage, ())]


def prepared_by(stage: Stage) -> list[str]:
    """The collections whose indexes a stage makes."""
    return [*written_by(stage), *_PREPARES.get(stage, ())]


class Conflict(Exception):
    """Another record took the same sequence or version number first."""


class Store:
    """Records and bytes. One instance a process, made after the fork."""

    def __init__(self, database: Database[Document], authenticator: Authenticator | None) -> None:
        """A store on a database.

        Args:
            authenticator: checks what is read and authenticates what is written. None: for readers
                that show what is there and act on nothing; nothing can be written then.
        """
        self.database = database
        self._authenticator = authenticator
        self._blobs = gridfs.GridFS(database, collection=BLOBS)
        self._pictures = gridfs.GridFS(database, collection=PICTURES)
        self.cached_blob = lru_cache(maxsize=8)(self.blob)
        self._checked_once = lru_cache(maxsize=8)(self._checked)

    @classmethod
    def connect(cls, settings: Settings) -> "Store":
        """The store at MONGODB_URI; the connection is made at the first use.

        Raises:
            SettingsError: MONGODB_URI is not set, or no address.
        """
        if settings.mongodb_uri is None:
            raise SettingsError("MONGODB_URI is not set")
        try:
            client: MongoClient[Document] = MongoClient(
                settings.mongodb_uri.get_secret_value(),
                tz_aware=True,
                serverSelectionTimeoutMS=5_000,
                appname="trimtab",
                w="majority",
                journal=True,
            )
        except (ValueError, PyMongoError):  # whose text may hold a part of the password
            raise SettingsError(
                "MONGODB_URI is not an address that can be read: /, ?, #, @ and % of a password "
                "are written %2F, %3F, %23, %40 and %25"
            ) from None
        return cls(client[settings.mongodb_database], authenticator_of(settings))

    def prepare(self, stage: Stage, retention_days: int) -> None:
        """Create the indexes of a stage's collections, and set how long its records are kept."""
        for name in prepared_by(stage):
            if name in COLLECTIONS.values():
                self.database[name].create_indexes(_indexes(name))
            if name == _WORK:
                self.database[name].create_index("waiting_for", sparse=True)
            elif name not in _KEPT_FOR_GOOD:
                self._expire(name, retention_days * _DAY_SECONDS)

    def _expire(self, collection: str, seconds: int) -> None:
        try:
            self.database[collection].create_index(
                "recorded_at", name="retention", expireAfterSeconds=seconds
            )
        except OperationFailure:
            self.database.command(
                "collMod", collection, index={"name": "retention", "expireAfterSeconds": seconds}
            )

    def close(self) -> None:
        """Close the connection."""
        self.database.client.close()

    def installation(self) -> str | None:
        """The id of the installation whose store this is; none before its first start."""
        found = self.database["installation"].find_one(_INSTALLATION)
        return str(found["id"]) if found else None

    def make_installation(self) -> str:
        """The id of the installation whose store this is, made at its first start."""
        made = {"id": uuid4().hex}
        with suppress(DuplicateKeyError):  # another process of the installation was faster
            self.database["installation"].update_one(
                _INSTALLATION, {"$setOnInsert": made}, upsert=True
            )
        return self.installation() or made["id"]

    def installations(self) -> list[str]:
        """What tells the system of this store from others (`Authenticator.installations`).

        Raises:
            SettingsError: EVENT_KEY is not set.
        """
        return required(self._authenticator).installations()

    # Records of versions before EVENT_KEY.

    def require_authenticated(self) -> None:
        """Let a store pass in which every record has a MAC. It is looked through once.

        Raises:
            SettingsError: a version before EVENT_KEY has left records.
        """
        marked = _INSTALLATION | {"authenticated": True}
        if self.database["installation"].find_one(marked):
            return
        if left := self.without_mac():
            listed = ", ".join(f"{number:,} in {name}" for name, number in left.items())
            raise SettingsError(
                f"the store holds records of a version before EVENT_KEY ({listed}), which this "
                "version does not trust. Run `trimtab upgrade` once"
            )
        self.database["installation"].update_one(_INSTALLATION, {"$set": {"authenticated": True}})

    def without_mac(self) -> dict[str, int]:
        """Collection -> how many of its documents have no MAC; those without any are left out."""
        names = (*COLLECTIONS.values(), _WORK)
        counted = {name: self.database[name].count_documents(_WITHOUT_MAC) for name in names}
        return {name: number for name, number in counted.items() if number}

    def authenticate_all(self) -> int:
        """Give every document without a MAC one, as it stands; returns how many there were.

        Only for `trimtab upgrade`: whoever could write to the store may have written them.
        """
        authenticator = required(self._authenticator)
        done = 0
        for name in COLLECTIONS.values():
            for document in self.database[name].find(_WITHOUT_MAC):
                macs = authenticator.macs(name, document)
                self.database[name].update_one({"_id": document["_id"]}, {"$set": macs})
                done += 1
        for document in self.database[_WORK].find(_WITHOUT_MAC):
            mac = authenticator.work_mac(document["_id"], document["stage"], document["event"])
            self.database[_WORK].update_one({"_id": document["_id"]}, {"$set": {"mac": mac}})
            done += 1
        return done

    # Bytes, by their hash.

    def put_blob(self, data: bytes) -> Sha256:
        """Keep the bytes; the same bytes are kept once."""
        return _put(data, self._blobs)

    def blob(self, digest: Sha256) -> bytes:
        """The bytes of a hash.

        Raises:
            WillNotPass: they are not there.
            Unauthentic: they are no longer what they were.
        """
        return _whole(digest, self._blobs)

    def put_picture(self, data: bytes) -> Sha256:
        """Keep a picture for a message. The notifier can read these and no other bytes."""
        return _put(data, self._pictures)

    def picture(self, digest: Sha256) -> bytes:
        """The picture of a hash; raises as `blob` does."""
        return _whole(digest, self._pictures)

    def blob_file(self, digest: Sha256) -> BinaryIO:
        """The bytes of a hash as a file, of which no more is read than its user asks for.

        When this process first opens them all are read, piece by piece, to check the hash. Those of
        one piece are kept then.

        Raises:
            WillNotPass: they are not there.
            Unauthentic: they are no longer what they were.
        """
        one_piece = self._checked_once(digest)
        if one_piece is not None:
            return BytesIO(one_piece)
        return cast("BinaryIO", _stored(digest, self._blobs))

    def _checked(self, digest: Sha256) -> bytes | None:
        """The bytes, which are what they were; None if they are of several pieces."""
        file, found, first = _stored(digest, self._blobs), hashlib.sha256(), None
        while piece := file.read(_PIECE_BYTES):
            found.update(piece)
            first = piece if first is None else first
        _require_unaltered(digest, found.hexdigest())
        return first if file.length <= _PIECE_BYTES else None

    def remove_blobs(self, *, keep: set[Sha256], uploaded_before: datetime) -> int:
        """Remove older bytes but for those to keep, and what broken uploads left; returns how many.

        Only uploads from before the time are looked at.
        """
        buckets = {BLOBS: self._blobs, PICTURES: self._pictures}
        return sum(
            self._removed_of(name, bucket, keep, uploaded_before)
            for name, bucket in buckets.items()
        )

    def _removed_of(
        self, name: str, bucket: gridfs.GridFS, keep: set[Sha256], uploaded_before: datetime
    ) -> int:
        files, chunks = self.database[f"{name}.files"], self.database[f"{name}.chunks"]
        old = files.find({"uploadDate": {"$lt": uploaded_before}}, {"filename": 1})
        doomed = [file["_id"] for file in old if file["filename"] not in keep]
        complete = set(files.distinct("_id"))
        doomed += [
            upload
            for upload in chunks.distinct("files_id")
            if upload not in complete and upload.generation_time < uploaded_before
        ]
        for upload in doomed:
            bucket.delete(upload)
        return len(doomed)

    # Records.

    def collection(self, model: type[Record]) -> Collection[Document]:
        """The collection that holds the records of a class."""
        return self.database[COLLECTIONS[model]]

    def record(
        self,
        record: Record,
        events: Iterable[Event] = (),
        handling: Handling | None = None,
    ) -> bool:
        """Write a record with the events it leads to. False: its effect was recorded before.

        Args:
            handling: how the record came about, kept beside it.

        Raises:
            Conflict: another record has its sequence or version number.
            Unauthentic: what stands in its place was not written by this system.
        """
        collection = self.collection(type(record))
        try:
            collection.insert_one(self._document(record, events, handling))
        except DuplicateKeyError:
            if found := self._raw(collection.name).find_one({"_id": record.id}):
                self._authentic(collection.name, found)
                return False
            raise Conflict(f"{record.pipeline}: the number of this record is taken") from None
        return True

    def _document(
        self, record: Record, events: Iterable[Event], handling: Handling | None = None
    ) -> Document:
        authenticator = required(self._authenticator)
        outbox = [dump_event(event) for event in events]
        document = record.model_dump(by_alias=True) | {
            "outbox": outbox,
            "outbox_open": bool(outbox),
            "outbox_sent_at": None,
        }
        if handling:
            document["handling"] = handling.model_dump(mode="json")
        return document | authenticator.macs(COLLECTIONS[type(record)], document)

    def _authentic(self, collection: str, raw: RawBSONDocument) -> Document:
        """A whole document, which this system has written."""
        document = as_written(collection, raw)
        if self._authenticator:
            self._authenticator.require_record(collection, document)
        return document

    def _with_authentic_outbox(self, collection: str, raw: RawBSONDocument) -> Document:
        """A document with the fields OUTBOX, which this system has written."""
        document = as_written(collection, raw)
        if self._authenticator:
            self._authenticator.require_outbox(collection, document)
        return document

    def _has_authentic_outbox(self, collection: str, raw: RawBSONDocument) -> bool:
        try:
            self._with_authentic_outbox(collection, raw)
        except Unauthentic:
            return False
        return True

    def outboxes(self, collection: str, query: Document) -> Iterator[tuple[str, RawBSONDocument]]:
        """The ids of the records that match a query, each with its fields of OUTBOX as they are.

        `read_outbox` reads the latter. An id that is no text is told as a text.
        """
        for raw in self._raw(collection).find(query, OUTBOX):
            yield name_of(raw), raw

    def read_outbox(self, collection: str, raw: RawBSONDocument) -> list[Event]:
        """The events of such a record.

        Raises:
            Unauthentic: they were not written by this system.
            ValueError, LookupError, TypeError: an earlier or later version wrote them.
        """
        document = self._with_authentic_outbox(collection, raw)
        return [parse_event(event) for event in document["outbox"]]

    def keep(self, collection: str, name: str, content: Document) -> None:
        """Keep a document under a name, in place of the one before. It is no record."""
        document = {"_id": name, **content}
        macs = required(self._authenticator).macs(collection, document)
        place = {"_id": name}
        self.database[collection].replace_one(place, document | macs, upsert=True)

    def kept(self, collection: str, name: str) -> Document | None:
        """The document under a name, or none.

        Raises:
            Unauthentic: it was not written by this system.
        """
        raw = self._raw(collection).find_one({"_id": name})
        if raw is None:
            return None
        return self._authentic(collection, raw)

    def _model(self, model: type[R], raw: RawBSONDocument) -> R:
        return model.model_validate(self._authentic(COLLECTIONS[model], raw))

    def _raw(self, collection: str) -> Collection[RawBSONDocument]:
        return self.database[collection].with_options(RAW)

    def mark_sent(self, record: Record) -> None:
        """Note that the events of a record are with the broker."""
        self.collection(type(record)).update_one(
            {"_id": record.id}, {"$set": {"outbox_sent_at": datetime.now(UTC)}}
        )

    def get(self, model: type[R], record_id: str) -> R | None:
        """The record with an id, or none.

        Raises:
            Unauthentic: it was not written by this system.
        """
        document = self._raw(COLLECTIONS[model]).find_one({"_id": record_id})
        return self._model(model, document) if document else None

    def find(
        self,
        model: type[R],
        query: Document,
        *,
        newest_by: str | None = None,
        oldest_by: str | None = None,
        limit: int = 0,
    ) -> Iterator[R]:
        """The records that match a query, in the order of one field.

        Raises:
            Unauthentic: one of them was not written by this system.
        """
        cursor = self._raw(COLLECTIONS[model]).find(query).limit(limit)
        if newest_by:
            cursor = cursor.sort(newest_by, DESCENDING)
        if oldest_by:
            cursor = cursor.sort(oldest_by, ASCENDING)
        return (self._model(model, document) for document in cursor)

    def newest(self, model: type[R], query: Document, by: str) -> R | None:
        """The matching record with the highest value of a field."""
        return next(self.find(model, query, newest_by=by, limit=1), None)

    def reference(self, pipeline: str) -> Reference | None:
        """The reference in force."""
        return self.newest(Reference, {"pipeline": pipeline}, "version")

    def champion(self, pipeline: str) -> ModelVersion | None:
        """The model in force.

        Raises:
            Unauthentic: its record was not written by this system, or that of a later version,
                which somebody may have made to look rejected.
        """
        below: Document = {}
        while model := self.newest(ModelVersion, {"pipeline": pipeline} | below, "version"):
            if model.decision == "promoted":
                return model
            below = {"version": {"$lt": model.version}}
        return None

    def batches_between(self, pipeline: str, after: int, up_to: int) -> list[Batch]:
        """The batches with after < sequence <= up_to, in order."""
        query = {"pipeline": pipeline, "sequence": {"$gt": after, "$lte": up_to}}
        return list(self.find(Batch, query, oldest_by="sequence"))

    def window_batches(self, pipeline: str, sequence: int, most_rows: int) -> list[Batch]:
        """The newest batches up to a number whose rows fill a training window, oldest first.

        Nothing older than a batch that a person set as the reference is among them.
        """
        query = {"pipeline": pipeline, "sequence": NUMBERED | {"$lte": sequence}}
        chosen: list[Batch] = []
        rows = 0
        for batch in self.find(Batch, query, newest_by="sequence"):
            chosen.append(batch)
            rows += batch.rows
            if batch.as_reference or rows >= most_rows:
                break
        return chosen[::-1]

    def targets_awaited(self, pipeline: str) -> TargetsAwaited | None:
        """The targets that a pipeline's first model waits for; None if it waits for none."""
        report = self.newest(DriftReport, {"pipeline": pipeline}, "sequence")
        return report.awaited if report else None

    # What has been done about an event, and what it led to.

    def events_of(self, record: Record) -> list[Event]:
        """The events that a record led to.

        Raises:
            Unauthentic: they were not written by this system.
        """
        return self._outbox(type(record), {"_id": record.id})

    def newest_events(self, model: type[Record], query: Document, by: str) -> list[Event]:
        """The events that the matching record with the highest value of a field led to.

        Raises:
            Unauthentic: they were not written by this system.
        """
        return self._outbox(model, query, sort=[(by, DESCENDING)])

    def _outbox(self, model: type[Record], query: Document, **order: Any) -> list[Event]:
        raw = self._raw(COLLECTIONS[model]).find_one(query, OUTBOX, **order)
        if raw is None:
            return []
        return self.read_outbox(COLLECTIONS[model], raw)

    def outbox_of(self, effect: str, kind: str | None = None) -> list[Event] | None:
        """The events that a settled effect led to; none while it is not settled.

        An effect is settled when it has its record, or a dead letter that nobody has replayed. What
        was not written by this system settles nothing. The record is looked for in one place where
        the kind of its event is known.
        """
        for collection in _places(effect, kind):
            query = {"_id": effect} | _settling(collection)
            raw = self._raw(collection).find_one(query, OUTBOX)
            if raw is None:
                continue
            with suppress(Unauthentic):
                return self.read_outbox(collection, raw)
        return None

    def is_settled(self, effect: str, kind: str | None = None) -> bool:
        """Whether nothing is left to do for an effect; `kind` is that of its event, if known."""
        return self.outbox_of(effect, kind) is not None

    def settled(self, effects: Mapping[str, str | None]) -> set[str]:
        """Those of many effects for which nothing is left to do; with their events' kinds."""
        sought: dict[str, list[str]] = defaultdict(list)
        for effect, kind in effects.items():
            for collection in _places(effect, kind):
                sought[collection].append(effect)
        return {
            raw["_id"]
            for collection, ids in sought.items()
            for some in _slices(ids)
            for raw in self._raw(collection).find(
                {"_id": {"$in": some}} | _settling(collection), OUTBOX
            )
            if self._has_authentic_outbox(collection, raw)
        }

    def close_outboxes(self, collection: str, records: list[str]) -> None:
        """Note that all is settled that the events of these records led to."""
        for some in _slices(records):
            self.database[collection].update_many(
                {"_id": {"$in": some}}, {"$set": {"outbox_open": False}}
            )

    def bury(self, letter: DeadLetter, events: Iterable[Event] = ()) -> None:
        """Keep a dead letter; one that failed again after its replay takes its old place."""
        self.collection(DeadLetter).replace_one(
            {"_id": letter.id}, self._document(letter, events), upsert=True
        )

    def mark_letter(
        self, letter: DeadLetter, state: Literal["replayed", "dismissed"], request: int
    ) -> bool:
        """Note what a person did about a dead letter. False: its state is no longer the letter's.

        Args:
            request: the entry of the audit log with which the person asked for it.

        Raises:
            Unauthentic: it was not written by this system.
        """
        collection = self.collection(DeadLetter)
        query = {"_id": letter.id, "state": letter.state}
        raw = self._raw(collection.name).find_one(query)
        if raw is None:
            return False
        document = self._authentic(collection.name, raw)
        authenticator = required(self._authenticator)
        marks = {"state": state, "request": request}
        macs = authenticator.macs(collection.name, document | marks)
        return collection.update_one(query, {"$set": marks | macs}).matched_count > 0

    def first_unsettled(self, stage: Stage, event: Event, follow: frozenset[Stage]) -> str | None:
        """The first effect of the chain from `stage` handling `event` that is not settled.

        Only effects of the stages in `follow` count. None: the whole chain is settled.
        """
        effect = effect_id(stage, event.event_id)
        led_to = self.outbox_of(effect, event.type)
        if led_to is None:
            return effect
        for follower in led_to:
            for consumer in ROUTES[follower.type]:
                if consumer in follow:
                    pending = self.first_unsettled(consumer, follower, follow)
                    if pending:
                        return pending
        return None


def _slices(ids: list[str]) -> Iterator[list[str]]:
    """No more of them at once than one command to the server can hold."""
    return (ids[begin : begin + _MOST_IDS] for begin in range(0, len(ids), _MOST_IDS))


def _places(effect: str, kind: str | None) -> list[str]:
    """The collections in which what settles an effect may be."""
    stage = effect.partition(":")[0]
    kinds = ROUTES if kind is None else {kind: ROUTES[kind]}
    records = {routes[stage] for routes in kinds.values() if stage in routes}
    return [*sorted(records), COLLECTIONS[DeadLetter]]


def _settling(collection: str) -> Document:
    """What makes a document of the collection settle its effect."""
    return {"state": {"$ne": "replayed"}} if collection == COLLECTIONS[DeadLetter] else {}


def _put(data: bytes, bucket: gridfs.GridFS) -> Sha256:
    digest = sha256(data)
    if not bucket.exists(filename=digest):
        bucket.put(data, filename=digest)
    return digest


def _whole(digest: Sha256, bucket: gridfs.GridFS) -> bytes:
    data: bytes = _stored(digest, bucket).read()
    _require_unaltered(digest, sha256(data))
    return data


def _stored(digest: Sha256, bucket: gridfs.GridFS) -> gridfs.GridOut:
    try:
        return bucket.get_last_version(digest)
    except gridfs.NoFile:
        raise WillNotPass(f"the store holds no bytes with SHA-256 {digest}") from None


def _require_unaltered(digest: Sha256, found: str) -> None:
    if found != digest:
        raise Unauthentic(f"the stored bytes of {digest} were altered")


def _indexes(collection: str) -> list[IndexModel]:
    every = [
        IndexModel(_NEWEST),
        IndexModel([("trace_id", ASCENDING)]),
        IndexModel(
            [("outbox_sent_at", ASCENDING)],
            name="outbox",
            partialFilterExpression={"outbox_open": True},
        ),
    ]
    return every + _INDEXES_OF.get(collection, [])


def _of_requests(field: str = "request") -> IndexModel:
    """The newest entry of the audit log that a record names."""
    return IndexModel(
        [(field, DESCENDING)], name="request", partialFilterExpression={field: NUMBERED}
    )


def _of_pipeline(*fields: str, name: str, **options: Any) -> IndexModel:
    return IndexModel(
        [("pipeline", ASCENDING), *((field, ASCENDING) for field in fields)], name=name, **options
    )


_INDEXES_OF: Final = {
    "batches": [
        _of_pipeline(
            "sequence",
            name="number",
            unique=True,
            partialFilterExpression={"sequence": NUMBERED},
        ),
        IndexModel([("pipeline", ASCENDING), ("last_event_at", ASCENDING)]),
        _of_pipeline(
            "labels_last_event_at",
            name="labels",
            partialFilterExpression={"labels_last_event_at": {"$exists": True}},
        ),
        _of_requests(),
    ],
    "drift_reports": [
        _of_pipeline("sequence", name="number"),
        _of_pipeline(
            "reference_version",
            "sequence",
            name="incident",
            partialFilterExpression={"incident": NUMBERED},
        ),
        _of_pipeline(
            "performance.model_version",
            "sequence",
            name="performance",
            partialFilterExpression={"performance.error": MEASURED},
        ),
        _of_pipeline(
            "performance.model_version",
            "sequence",
            name="performance_tested",
            partialFilterExpression={"performance.p": MEASURED},
        ),
    ],
    "references": [_of_pipeline("version", name="number", unique=True)],
    "models": [_of_pipeline("version", name="number", unique=True), _of_requests()],
    "publications": [_of_pipeline("model_version", name="number"), _of_requests("audit.number")],
    "dead_letters": [
        IndexModel([("state", ASCENDING)]),
        IndexModel([("recorded_at", ASCENDING)]),
        _of_requests(),
    ],
    "audit_log": [IndexModel([("number", DESCENDING)], name="number", unique=True)],
}
