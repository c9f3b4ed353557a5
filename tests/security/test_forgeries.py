"""Who holds the broker's or the store's password, and no key, decides nothing.

Each attack is carried out with the servers' own means, as somebody would who has read our code.
"""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError
from redis import Redis

from services.cli.embedded.servers import Valkey
from services.cli.status import status
from services.drift.ingested import check_batch
from services.drift.reference import adopt_reference
from services.publisher.publish import publish_model
from services.trainer.train import train_model
from shared.authentication import Unauthentic
from shared.documents import RAW
from shared.events import (
    NO_PIPELINE,
    BatchIngested,
    RetrainRequested,
    WorkFailed,
    dump_event,
    effect_id,
    first_event_fields,
)
from shared.failures import WillNotPass
from shared.outcome import Outcome
from shared.pipeline import Pipeline
from shared.records import Batch, DeadLetter, DriftReport, ModelVersion, Reference
from shared.settings import Settings, read_settings
from shared.stage import Resources, StageRuntime
from shared.store import COLLECTIONS, Store
from shared.transport import admitted
from tests.integration.plain_records import check_of, dead_letter
from tests.integration.publisher.promotions import drift_report, model_version, promoted
from tests.keys import AUTHENTICATOR, STRANGER
from tests.security.foreign_messages import message
from tests.sweeping import sweep_all

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)
FIELDS = first_event_fields("air_quality", "forged")
FORGED_EVENTS = {
    "a model without a champion to meet": RetrainRequested(
        **FIELDS, reason="reference_set", sequence=1
    ),
    "a batch as the reference": BatchIngested(
        **FIELDS, sequence=1, rows=500, data="0" * 64, as_reference=True
    ),
}


@pytest.fixture
def stranger(store: Store) -> Store:
    """The same database, for somebody who has another key."""
    return Store(store.database, STRANGER)


def told(resources: Resources) -> list[WorkFailed]:
    """What people are told of."""
    waiting = resources.broker.events("notifier")
    return [event for event in waiting if isinstance(event, WorkFailed)]


def letters(store: Store) -> list[DeadLetter]:
    return list(store.find(DeadLetter, {"kind": "foreign record"}))


# The broker.


@pytest.mark.parametrize("name", FORGED_EVENTS)
@pytest.mark.parametrize("authenticator", [None, STRANGER], ids=["no key", "another key"])
def test_a_forged_message_becomes_a_dead_letter(name: str, authenticator: Any) -> None:
    event = FORGED_EVENTS[name]
    stage = "trainer" if isinstance(event, RetrainRequested) else "drift"
    forged = message(stage, event.type, dump_event(event), authenticator=authenticator)
    assert b"bury" in admitted(stage, forged, AUTHENTICATOR)


def test_a_message_to_one_stage_is_none_to_another() -> None:
    event = WorkFailed(
        **FIELDS, stage="drift", failed_event="x", dead_letter="drift:1", reason="a test"
    )
    genuine = message("notifier", event.type, dump_event(event))
    assert b"bury" not in admitted("notifier", genuine, AUTHENTICATOR)
    assert b"bury" in admitted("drift", genuine, AUTHENTICATOR)


def test_a_foreign_message_is_told_once_an_hour(resources: Resources) -> None:
    runtime = StageRuntime("trainer", resources)
    for received in ("forged", "forged", "forged again"):
        runtime.bury_foreign(received, "headers.mac: not made with this system's EVENT_KEY")
    assert len(list(resources.store.find(DeadLetter, {"kind": "foreign message"}))) == 2
    assert len({event.event_id for event in told(resources)}) == 1
    assert {event.pipeline for event in told(resources)} == {NO_PIPELINE}


def test_foreign_messages_do_not_fill_the_store(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.foreign.MOST", 3)
    for stage in ("trainer", "drift"):
        runtime = StageRuntime(stage, resources)
        for number in range(5):
            runtime.bury_foreign(f"forged {number}", "a test")
        kept = list(resources.store.find(DeadLetter, {"stage": stage}))
        assert len(kept) == 3


def test_a_message_that_this_system_sent_passes(resources: Resources, valkey: Valkey) -> None:
    event = FORGED_EVENTS["a batch as the reference"]
    resources.broker.send(event)
    with Redis.from_url(valkey.url) as client:
        sent: Any = client.rpop(f"{resources.settings.key_prefix}drift")
    assert admitted("drift", sent, AUTHENTICATOR) is sent
    assert b"bury" in admitted("drift", sent, STRANGER)


# Genuine messages whose facts the records do not bear out.


def test_the_flag_of_a_reference_is_read_from_the_batch(
    store: Store, air_quality: Pipeline, settings: Settings
) -> None:
    event = BatchIngested(**FIELDS, sequence=1, rows=500, data=None, as_reference=True)
    store.record(batch(event, rows=5))
    outcome = check_batch(event, air_quality, store, settings)
    assert isinstance(outcome.record, DriftReport)
    assert outcome.record.verdict == "insufficient data"
    assert outcome.record.batch_rows == 5


def test_the_gate_is_not_passed_over_because_a_message_says_so(
    resources: Resources, air_quality: Pipeline
) -> None:
    resources.store.record(check_of(FORGED_EVENTS["a batch as the reference"]))
    forged = FORGED_EVENTS["a model without a champion to meet"]
    assert isinstance(forged, RetrainRequested)
    with pytest.raises(WillNotPass, match="does not say that a person set it as the reference"):
        train_model(forged, air_quality, resources.store, resources.settings)


def test_a_reference_is_made_of_the_rows_of_the_models_record(
    store: Store, air_quality: Pipeline
) -> None:
    event = promoted(store, 1)
    others = event.model_copy(update={"window": store.put_blob(b"rows of another pipeline")})
    with pytest.raises(WillNotPass, match="no promotion of v1 of air_quality with the rows"):
        adopt_reference(others, air_quality, store)


# The store.


def batch(event: Any, **changes: Any) -> Batch:
    fields = {
        "id": effect_id("ingest", event.event_id),
        "pipeline": event.pipeline,
        "trace_id": event.trace_id,
        "recorded_at": LONG_AGO,
        "outcome": "ingested",
        "sequence": 1,
        "rows_received": 5,
        "source": "a test",
    }
    return Batch(**(fields | changes))


@pytest.mark.parametrize("key", ["none", "another"])
def test_a_planted_batch_is_not_sent_on_and_told(
    key: str, resources: Resources, stranger: Store
) -> None:
    event = FORGED_EVENTS["a batch as the reference"]
    planted = batch(event, as_reference=True, data=stranger.put_blob(b"Parquet"))
    stranger.record(planted, [event])
    if key == "none":
        stranger.collection(Batch).update_one({}, {"$unset": {"mac": 1, "outbox_mac": 1}})
    for _ in range(2):
        sweep_all(resources)
    assert resources.broker.queue_lengths()["drift"] == 0
    (letter,) = letters(resources.store)
    assert (letter.stage, letter.message) == ("ingest", planted.id)
    assert "was not written by this system with this EVENT_KEY" in letter.reason
    assert [event.dead_letter for event in told(resources)] == [letter.id]


def test_an_outbox_is_not_changed_unnoticed(resources: Resources) -> None:
    store, event = resources.store, FORGED_EVENTS["a batch as the reference"]
    store.record(batch(event), [event.model_copy(update={"as_reference": False})])
    change = {"outbox.0.as_reference": True, "outbox_sent_at": None, "outbox_open": True}
    store.collection(Batch).update_one({}, {"$set": change})
    sweep_all(resources)
    assert resources.broker.queue_lengths()["drift"] == 0
    assert letters(store)


def test_work_is_not_planted(resources: Resources, stranger: Store) -> None:
    event = FORGED_EVENTS["a model without a champion to meet"]
    effect = effect_id("trainer", event.event_id)
    stranger.database["work"].insert_one(
        {
            "_id": effect,
            "stage": "trainer",
            "event": dump_event(event),
            "mac": STRANGER.work_mac(effect, "trainer", dump_event(event)),
            "attempts": 0,
            "updated_at": LONG_AGO,
        }
    )
    sweep_all(resources)
    assert resources.broker.queue_lengths()["trainer"] == 0
    assert letters(resources.store)


@pytest.mark.parametrize("kind", [Batch, DriftReport, Reference, ModelVersion, DeadLetter])
def test_no_field_of_a_record_is_changed_unnoticed(kind: type[Any], store: Store) -> None:
    event = promoted(store, 1)
    store.record(batch(event))
    store.record(
        Reference(
            **first_fields("reference"),
            version=1,
            data=event.window,
            rows=5,
            up_to_sequence=1,
            model_version=1,
        )
    )
    store.bury(dead_letter("trainer:1"))
    found = store.collection(kind).find_one({})
    assert found
    record = store.get(kind, found["_id"])
    assert record
    for name in found.keys() - {"_id", "outbox_open", "outbox_sent_at", "outbox", "outbox_mac"}:
        other = "altered" if found[name] != "altered" else None
        store.collection(kind).update_one({"_id": found["_id"]}, {"$set": {name: other}})
        with pytest.raises(Unauthentic):
            store.get(kind, found["_id"])
        store.collection(kind).update_one({"_id": found["_id"]}, {"$set": {name: found[name]}})
    assert store.get(kind, found["_id"]) == record


def first_fields(what: str) -> dict[str, Any]:
    fields = first_event_fields("air_quality", what)
    return {
        "id": effect_id("drift", fields["event_id"]),
        "pipeline": "air_quality",
        "trace_id": fields["trace_id"],
        "recorded_at": LONG_AGO,
    }


def test_a_record_does_not_pass_for_another_of_its_kind(store: Store) -> None:
    """A record's MAC is of its id, so it cannot be copied to a later version's place."""
    promoted(store, 1)
    copied = store.collection(ModelVersion).find_one({})
    assert copied
    store.collection(ModelVersion).insert_one(copied | {"_id": "trainer:copied", "version": 2})
    with pytest.raises(Unauthentic, match="trainer:copied"):
        store.champion("air_quality")


def test_what_is_planted_in_advance_settles_nothing(resources: Resources, stranger: Store) -> None:
    """Ids can be known in advance; so the next slot's record could be written before its time."""
    event = FORGED_EVENTS["a batch as the reference"]
    planted = check_of(event, recorded_at=LONG_AGO)
    stranger.record(planted)
    store = resources.store
    assert not store.is_settled(planted.id, event.type)
    assert store.settled({planted.id: event.type}) == set()
    handled = Outcome(check_of(event, verdict="drift"))
    StageRuntime("drift", resources).handle(dump_event(event), lambda *_: handled)
    (letter,) = store.find(DeadLetter, {"_id": planted.id})
    assert "was not written by this system" in letter.reason
    assert told(resources)


def test_removed_models_are_missed(resources: Resources) -> None:
    for version in (1, 2, 3):
        promoted(resources.store, version)
    sweep_all(resources)
    assert letters(resources.store) == []
    resources.store.collection(ModelVersion).delete_one({"version": 2})
    sweep_all(resources)
    (letter,) = letters(resources.store)
    assert (
        "air_quality: the store needs exactly one model record for each version from v1 to v3"
        in letter.reason
    )


def test_an_older_champion_is_not_brought_back_by_removing_the_newer(resources: Resources) -> None:
    store = resources.store
    for version in (1, 2):
        event = promoted(store, version)
    fields = first_fields("the reference of v2")
    store.record(
        Reference(**fields, version=2, data=event.window, rows=5, up_to_sequence=1, model_version=2)
    )
    store.collection(ModelVersion).delete_one({"version": 2})
    sweep_all(resources)
    (letter,) = letters(store)
    assert "the reference is of model v2, and the newest model record is v1" in letter.reason
    assert told(resources)


def test_a_planted_model_is_not_published(resources: Resources, stranger: Store) -> None:
    event = promoted(stranger, 1)
    air_quality = resources.pipelines["air_quality"]
    with pytest.raises(Unauthentic):
        publish_model(event, air_quality, resources.store, resources.settings)


def test_an_altered_report_is_not_published(resources: Resources) -> None:
    event = promoted(resources.store, 1)
    details = resources.store.put_blob(b"what somebody wants to see published")
    change = {"$set": {"details": details}}
    resources.store.collection(DriftReport).update_one({"_id": drift_report(1).id}, change)
    air_quality = resources.pipelines["air_quality"]
    with pytest.raises(Unauthentic):
        publish_model(event, air_quality, resources.store, resources.settings)


def test_a_publisher_without_the_signing_key_pushes_nothing(resources: Resources) -> None:
    event = promoted(resources.store, 1)
    keyless = resources.settings.model_copy(update={"model_signing_key": None})
    with pytest.raises(WillNotPass, match="MODEL_SIGNING_KEY is not set"):
        publish_model(event, resources.pipelines["air_quality"], resources.store, keyless)


def test_a_dismissed_letter_is_not_opened_nor_an_open_one_hidden(store: Store) -> None:
    store.bury(dead_letter("trainer:1"))
    store.collection(DeadLetter).update_one({}, {"$set": {"state": "dismissed"}})
    with pytest.raises(Unauthentic):
        store.get(DeadLetter, "trainer:1")
    assert not store.is_settled("trainer:1")


def test_nothing_is_written_without_the_key(store: Store) -> None:
    settings = read_settings(redis_url="redis://host", mongodb_uri="mongodb://host")
    assert settings.event_key is None
    reader = Store(store.database, None)
    promoted(store, 1)
    assert reader.champion("air_quality")
    with pytest.raises(ValueError, match="EVENT_KEY is not set"):
        reader.record(model_version(2))


# Documents that the server reads in another way than we do, or that nobody can read.


def with_a_field_twice(collection: Any, query: dict[str, Any], first: dict[str, Any]) -> None:
    """Put fields before those of the same name, whose values the MAC is of."""
    raw = bytes(collection.with_options(RAW).find_one(query).raw)
    identity = bson.encode({"_id": bson.decode(raw)["_id"]})[4:-1]
    added = bson.encode(first)[4:-1]
    body = raw[4:-1]
    assert body.startswith(identity)
    made = identity + added + body[len(identity) :]
    document = (len(made) + 5).to_bytes(4, "little") + made + b"\0"
    collection.delete_one(query)
    collection.insert_one(RawBSONDocument(document))


def problems(resources: Resources) -> str:
    return " ".join(status(resources)["problems"])


def test_a_field_that_stands_twice_brings_no_older_champion_back(resources: Resources) -> None:
    store = resources.store
    for version in (1, 2):
        promoted(store, version)
    with_a_field_twice(store.collection(ModelVersion), {"version": 2}, {"decision": "rejected"})
    with pytest.raises(Unauthentic, match=r"did not write .* in this form; a field may occur"):
        store.champion("air_quality")
    sweep_all(resources)
    assert "a field may occur twice" in problems(resources)
    assert any("a field may occur twice" in letter.reason for letter in letters(store))


def test_removed_models_are_missed_although_others_are_planted(resources: Resources) -> None:
    store = resources.store
    for version in (1, 2, 3):
        promoted(store, version)
    store.collection(ModelVersion).delete_one({"version": 2})
    planted = {"_id": "planted", "pipeline": "air_quality", "version": 0.5}
    store.collection(ModelVersion).insert_one(planted)
    sweep_all(resources)
    assert "exactly one model record for each version from v1 to v3" in problems(resources)
    assert letters(store)


UNREADABLE = {
    "a date that Python has not": {"recorded_at": DatetimeMS(2**53)},
    "a field twice": RawBSONDocument(bson.encode({"_id": "x", "ab": 1}).replace(b"ab", b"_a")),
    "no text": RawBSONDocument(bson.encode({"_id": "x", "a": "AB"}).replace(b"AB", b"\xff\xfe")),
    "an id that is a document": {"_id": {"a": 1}},
    "nothing": {"_id": "nothing"},
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_stops_nothing(name: str, resources: Resources) -> None:
    """The sweep goes on and sends what is ours, and `status` says that something is wrong."""
    store = resources.store
    event = FORGED_EVENTS["a batch as the reference"].model_copy(update={"as_reference": False})
    store.record(batch(event), [event])
    document: Any = UNREADABLE[name]
    if not isinstance(document, RawBSONDocument):
        document = {
            "outbox_open": True,
            "outbox_sent_at": None,
            "pipeline": "air_quality",
        } | document
    for collection in (*COLLECTIONS.values(), "work"):
        with suppress(DuplicateKeyError):  # of an index that refuses it
            store.database[collection].insert_one(document)
    sweep_all(resources)
    assert resources.broker.queue_lengths()["drift"] == 1
    assert status(resources)["problems"]


def test_a_letter_in_the_place_of_an_alarm_stops_nothing(
    resources: Resources, stranger: Store
) -> None:
    """Its id can be known in advance."""
    event = FORGED_EVENTS["a batch as the reference"]
    stranger.record(batch(event), [event])
    sweep_all(resources)
    (letter,) = letters(resources.store)
    resources.store.collection(DeadLetter).update_one({}, {"$set": {"state": "dismissed"}})
    sweep_all(resources)
    assert letter.id in [each.id for each in letters(resources.store)]
