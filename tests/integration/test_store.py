"""The store against a real MongoDB."""

from datetime import UTC, datetime

import pytest

from shared.events import BatchIngested, IngestionDue, caused_fields, first_event_fields
from shared.failures import WillNotPass
from shared.outcome import record_fields
from shared.records import Batch
from shared.settings import SettingsError, read_settings
from shared.store import Conflict, Store
from tests.integration.plain_records import check_of, dead_letter


def due(slot: int = 0) -> IngestionDue:
    at = datetime(2026, 1, 1, slot, tzinfo=UTC)
    return IngestionDue(**first_event_fields("air_quality", "due", at), slot=at)


def batch(event: IngestionDue, sequence: int, data: str) -> Batch:
    return Batch(
        **record_fields(event, "ingest"),
        outcome="ingested",
        sequence=sequence,
        data=data,
        rows=3,
        rows_received=3,
        source="a test",
    )


def ingested(event: IngestionDue, sequence: int, data: str) -> BatchIngested:
    return BatchIngested(
        **caused_fields(event, "ingest", BatchIngested), sequence=sequence, rows=3, data=data
    )


def test_blob_comes_back_as_it_was(store: Store) -> None:
    digest = store.put_blob(b"rows")
    assert store.put_blob(b"rows") == digest
    assert store.blob(digest) == b"rows"


def test_altered_blob_is_refused(store: Store) -> None:
    digest = store.put_blob(b"rows")
    store.database["blobs.chunks"].update_one({}, {"$set": {"data": b"r0ws"}})
    with pytest.raises(WillNotPass, match="altered"):
        store.blob(digest)


def test_record_is_written_once(store: Store) -> None:
    event = due()
    data = store.put_blob(b"rows")
    assert store.record(batch(event, 1, data), [ingested(event, 1, data)])
    assert not store.record(batch(event, 1, data), [ingested(event, 1, data)])
    assert store.database["batches"].count_documents({}) == 1


def test_sequence_number_is_taken_once(store: Store) -> None:
    data = store.put_blob(b"rows")
    store.record(batch(due(0), 1, data))
    with pytest.raises(Conflict):
        store.record(batch(due(1), 1, data))


def test_chain_is_unsettled_at_its_first_open_effect(store: Store) -> None:
    event = due()
    data = store.put_blob(b"rows")
    assert (
        store.first_unsettled("ingest", event, frozenset({"ingest"})) == f"ingest:{event.event_id}"
    )
    follower = ingested(event, 1, data)
    store.record(batch(event, 1, data), [follower])
    assert store.first_unsettled("ingest", event, frozenset({"ingest"})) is None
    assert (
        store.first_unsettled("ingest", event, frozenset({"ingest", "drift"}))
        == f"drift:{follower.event_id}"
    )


def test_many_effects_are_settled_as_each_of_them_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = store.put_blob(b"rows")
    kinds: dict[str, str | None] = {}
    for hour in range(8):
        effect = f"ingest:{due(hour).event_id}"
        kinds[effect] = due(hour).type if hour % 2 else None
        if hour < 3:
            store.record(batch(due(hour), hour + 1, data))
        elif hour < 6:
            store.bury(dead_letter(effect, state=("open", "dismissed", "replayed")[hour - 3]))
    told = check_of(due(9))
    store.record(told)
    kinds[told.id], kinds[told.id.replace("drift", "trainer")] = "BatchIngested", None
    expected = {effect for effect, kind in kinds.items() if store.is_settled(effect, kind)}
    assert expected == {*list(kinds)[:5], told.id}
    monkeypatch.setattr("shared.store._MOST_IDS", 2)
    assert store.settled(kinds) == expected
    assert store.settled({}) == set()


def test_parts_of_a_blob_can_be_read(store: Store) -> None:
    data = bytes(range(256)) * 40_000
    file = store.blob_file(store.put_blob(data))
    file.seek(5_000_000)
    assert file.read(10) == data[5_000_000:5_000_010]
    with pytest.raises(WillNotPass, match="holds no bytes"):
        store.blob_file("0" * 64)


def test_altered_blob_is_not_opened(store: Store) -> None:
    digest = store.put_blob(b"a" * 1_000_000)
    length = len(store.database["blobs.chunks"].find_one({"n": 3})["data"])  # type: ignore[index]
    store.database["blobs.chunks"].update_one({"n": 3}, {"$set": {"data": b"b" * length}})
    with pytest.raises(WillNotPass, match="altered"):
        store.blob_file(digest)


def test_no_part_of_a_password_that_is_not_escaped_is_told() -> None:
    wrong = read_settings(
        redis_url="redis://broker", mongodb_uri="mongodb://trimtab:sec/ret@host/x"
    )
    with pytest.raises(SettingsError, match="MONGODB_URI is not an address") as refused:
        Store.connect(wrong)
    assert "sec" not in str(refused.value)
    assert refused.value.__cause__ is None
