"""The store's part that handlers use, in memory: for a replay, which leaves nothing behind."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final

from shared.artifacts import sha256
from shared.documents import Document
from shared.events import Event, Sha256
from shared.failures import WillNotPass
from shared.records import Record
from shared.store import COLLECTIONS, R, Store

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": gt,
    "$gte": ge,
    "$lt": lt,
    "$lte": le,
    "$ne": ne,
    "$in": lambda value, among: value in among,
}


class MemoryStore(Store):
    """Records and bytes of one replay. Records are validated as those from a database are."""

    def __init__(self) -> None:
        self._bytes: dict[Sha256, bytes] = {}
        self._records: dict[str, dict[str, Document]] = {name: {} for name in COLLECTIONS.values()}
        self._led_to: dict[str, list[Event]] = {}
        self.cached_blob = lru_cache(maxsize=8)(self.blob)

    def put_blob(self, data: bytes) -> Sha256:
        digest = sha256(data)
        self._bytes[digest] = data
        return digest

    def blob(self, digest: Sha256) -> bytes:
        try:
            return self._bytes[digest]
        except KeyError:
            raise WillNotPass(f"the replay holds no bytes with SHA-256 {digest}") from None

    def put_picture(self, data: bytes) -> Sha256:
        return self.put_blob(data)

    def blob_file(self, digest: Sha256) -> BytesIO:
        return BytesIO(self.blob(digest))

    def record(self, record: Record, events: Iterable[Event] = (), *_: Any) -> bool:
        collection = self._records[COLLECTIONS[type(record)]]
        if record.id in collection:
            return False
        collection[record.id] = record.model_dump(by_alias=True)
        self._led_to[record.id] = list(events)
        return True

    def get(self, model: type[R], record_id: str) -> R | None:
        document = self._records[COLLECTIONS[model]].get(record_id)
        return model.model_validate(document) if document else None

    def find(
        self,
        model: type[R],
        query: Document,
        *,
        newest_by: str | None = None,
        oldest_by: str | None = None,
        limit: int = 0,
    ) -> Iterator[R]:
        found = [each for each in self._records[COLLECTIONS[model]].values() if _fits(each, query)]
        if by := newest_by or oldest_by:
            found.sort(key=lambda document: document[by], reverse=newest_by is not None)
        return (model.model_validate(document) for document in found[: limit or None])

    def events_of(self, record: Record) -> list[Event]:
        return self._led_to.get(record.id, [])

    def newest_events(self, model: type[Record], query: Document, by: str) -> list[Event]:
        record = self.newest(model, query, by)
        return self.events_of(record) if record else []

    def outbox_of(self, effect: str, kind: str | None = None) -> list[Event] | None:  # noqa: ARG002
        return self._led_to.get(effect)


def _fits(document: Document, query: Document) -> bool:
    return all(_condition(document, key, wanted) for key, wanted in query.items())


def _condition(document: Document, key: str, wanted: Any) -> bool:
    if key == "$or":
        return any(_fits(document, query) for query in wanted)
    if "." in key:  # the only one asked for: whether a list has a first element
        name, _, place = key.partition(".")
        return (len(document[name]) > int(place)) == bool(wanted["$exists"])
    value = document.get(key)
    if not isinstance(wanted, dict):
        return bool(eq(value, wanted))
    return all(_compared(value, operator, operand) for operator, operand in wanted.items())


def _compared(value: Any, operator: str, operand: Any) -> bool:
    """As MongoDB does it: a missing value is neither more nor less than anything."""
    if value is None and operator not in ("$ne", "$in"):
        return False
    return _COMPARISONS[operator](value, operand)
