"""Every event is handled once in effect: the stage runtime and the sweep on real servers."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
import structlog
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis import Redis

from shared.events import (
    ROUTES,
    BatchIngested,
    Event,
    IngestionDue,
    ModelPromoted,
    caused_fields,
    dump_event,
    effect_id,
    first_event_fields,
)
from shared.failures import NotYet, WillNotPass, WillPass
from shared.outcome import Outcome, record_fields
from shared.records import Batch, DeadLetter
from shared.stage import Resources, StageRuntime
from shared.store import Store
from shared.sweep import sweep, unsettled
from shared.work import Work
from tests.integration.plain_records import check_of, dead_letter
from tests.keys import AUTHENTICATOR, authenticate
from tests.sweeping import sweep_all

SHA = "0" * 64


def due(hour: int = 0) -> IngestionDue:
    slot = datetime(2026, 1, 1, hour, tzinfo=UTC)
    return IngestionDue(**first_event_fields("air_quality", "slot", slot.isoformat()), slot=slot)


class Ingest:
    """A handler that counts its calls, and fails as it is told first."""

    def __init__(self, *failures: Exception, sequence: int = 1) -> None:
        self.failures = list(failures)
        self.calls = 0
        self.sequence = sequence

    def __call__(self, event: Event, _: Resources) -> Outcome:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        record = Batch(
            **record_fields(event, "ingest"),
            outcome="ingested",
            sequence=self.sequence,
            data=SHA,
            rows=5,
            rows_received=5,
            source="a test",
        )
        follower = BatchIngested(
            **caused_fields(event, "ingest", BatchIngested),
            sequence=self.sequence,
            rows=5,
            data=SHA,
        )
        return Outcome(record, (follower,))


def ingest(resources: Resources, handler: Callable[..., Outcome], event: Event) -> None:
    StageRuntime("ingest", resources).handle(dump_event(event), handler)


def letters(resources: Resources) -> list[DeadLetter]:
    return list(resources.store.find(DeadLetter, {}))


def test_event_is_recorded_and_sent_on(resources: Resources) -> None:
    ingest(resources, Ingest(), due())
    assert resources.store.newest(Batch, {}, "sequence")
    assert resources.broker.queue_lengths()["drift"] == 1
    assert resources.work.all() == []


def test_same_message_twice_is_handled_once(resources: Resources) -> None:
    handler = Ingest()
    ingest(resources, handler, due())
    ingest(resources, handler, due())
    assert handler.calls == 1
    assert resources.broker.queue_lengths()["drift"] == 1


def test_message_in_hand_is_not_handled_beside(resources: Resources) -> None:
    handler = Ingest()
    assert resources.work.begin(effect_id("ingest", due().event_id), "ingest", due())
    ingest(resources, handler, due())
    assert handler.calls == 0


def test_two_workers_with_one_message_make_one_record(resources: Resources) -> None:
    handler = Ingest()
    workers = [Thread(target=ingest, args=(resources, handler, due())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert resources.store.collection(Batch).count_documents({}) == 1
    assert resources.broker.queue_lengths()["drift"] == 1


def test_passing_failure_is_tried_again_by_the_sweep(resources: Resources) -> None:
    handler = Ingest(WillPass("the feed timed out"))
    ingest(resources, handler, due())
    (document,) = resources.work.all()
    assert document["last_error"] == "WillPass: the feed timed out"
    resources.work._documents.update_one(
        {}, {"$set": {"next_attempt_at": datetime.now(UTC) - timedelta(seconds=1)}}
    )
    sweep_all(resources)
    assert resources.broker.queue_lengths()["ingest"] == 1
    ingest(resources, handler, due())
    assert handler.calls == 2
    assert resources.store.collection(Batch).count_documents({}) == 1


def test_try_that_is_not_due_is_not_made(resources: Resources) -> None:
    handler = Ingest(WillPass("busy", retry_after=60))
    ingest(resources, handler, due())
    ingest(resources, handler, due())
    assert handler.calls == 1
    sweep_all(resources)
    assert resources.broker.queue_lengths()["ingest"] == 0


def test_last_try_ends_in_a_dead_letter_and_an_alarm(resources: Resources) -> None:
    handler = Ingest(*[WillPass("the feed timed out")] * 3)
    for _ in range(3):
        ingest(resources, handler, due())
        resources.work._documents.update_many({}, {"$unset": {"next_attempt_at": ""}})
    (letter,) = letters(resources)
    assert "the feed timed out (the last of 3 tries)" in letter.reason
    assert resources.broker.queue_lengths()["notifier"] == 1
    ingest(resources, handler, due())
    assert handler.calls == 3


def test_failure_that_cannot_pass_fails_at_once(resources: Resources) -> None:
    ingest(resources, Ingest(WillNotPass("the key is wrong")), due())
    (letter,) = letters(resources)
    assert (letter.reason, letter.attempts, letter.stage) == ("the key is wrong", 1, "ingest")


def test_bug_in_a_handler_keeps_the_event(resources: Resources) -> None:
    ingest(resources, Ingest(ZeroDivisionError("division by zero")), due())
    (letter,) = letters(resources)
    assert letter.reason == "ZeroDivisionError: division by zero"
    assert letter.message["event_id"] == due().event_id


def test_worker_that_dies_every_time_is_given_up(resources: Resources) -> None:
    effect = effect_id("ingest", due().event_id)
    for _ in range(3):
        lease = resources.work.begin(effect, "ingest", due())
        assert lease
        resources.work._documents.update_one({}, {"$unset": {"lease_until": ""}})
    handler = Ingest()
    ingest(resources, handler, due())
    assert handler.calls == 0
    assert "given up after 3 tries" in letters(resources)[0].reason


@pytest.mark.parametrize(
    "message",
    [None, "text", 7, [], {}, {"type": "Unheard"}, dump_event(due()) | {"version": 2}],
)
def test_unreadable_message_is_kept_with_its_reason(resources: Resources, message: object) -> None:
    StageRuntime("ingest", resources).handle(message, Ingest())
    (letter,) = letters(resources)
    assert letter.kind == "foreign message"
    assert letter.reason.startswith("not an event: ")


def test_event_waits_for_another_and_is_woken(resources: Resources) -> None:
    first, second = due(1), due(2)
    awaited = effect_id("ingest", first.event_id)

    def wait(_event: Event, _resources: Resources) -> Outcome:
        if not resources.store.is_settled(awaited):
            raise NotYet(awaited)
        return Ingest(sequence=2)(_event, _resources)

    ingest(resources, wait, second)
    assert resources.work.all()[0]["waiting_for"] == awaited
    sweep_all(resources)
    assert resources.broker.queue_lengths()["ingest"] == 0
    ingest(resources, Ingest(), first)
    assert resources.broker.queue_lengths()["ingest"] == 1
    ingest(resources, wait, second)
    assert resources.store.collection(Batch).count_documents({}) == 2
    assert resources.work.all() == []


def test_sweep_sends_what_was_recorded_but_not_sent(resources: Resources) -> None:
    event = due()
    outcome = Ingest()(event, resources)
    resources.store.record(outcome.record, outcome.events)
    resources.store.collection(Batch).update_one(
        {}, {"$set": {"recorded_at": datetime.now(UTC) - timedelta(minutes=1)}}
    )
    authenticate(resources.store)
    assert sweep_all(resources) == 1
    assert resources.broker.queue_lengths()["drift"] == 1


def test_sweep_replaces_what_an_emptied_broker_lost(resources: Resources) -> None:
    ingest(resources, Ingest(), due())
    Redis.from_url(resources.settings.redis_url.get_secret_value()).flushdb()
    resources.store.collection(Batch).update_one(
        {}, {"$set": {"outbox_sent_at": datetime.now(UTC) - timedelta(minutes=5)}}
    )
    sweep_all(resources)
    assert resources.broker.queue_lengths()["drift"] == 1


def test_sweep_leaves_alone_what_is_still_queued(resources: Resources) -> None:
    ingest(resources, Ingest(), due())
    resources.store.collection(Batch).update_one(
        {}, {"$set": {"outbox_sent_at": datetime.now(UTC) - timedelta(minutes=5)}}
    )
    sweep_all(resources)
    sweep_all(resources)
    assert resources.broker.queue_lengths()["drift"] == 1


def test_sweep_closes_what_is_done(resources: Resources) -> None:
    ingest(resources, Ingest(), due())
    batch = resources.store.newest(Batch, {}, "sequence")
    assert batch
    (follower,) = resources.store.events_of(batch)
    assert isinstance(follower, BatchIngested)
    resources.store.record(check_of(follower, sequence=follower.sequence))
    past = datetime.now(UTC) - timedelta(minutes=5)
    resources.store.collection(Batch).update_one({}, {"$set": {"outbox_sent_at": past}})
    sweep_all(resources)
    document = resources.store.collection(Batch).find_one({})
    assert document
    assert document["outbox_open"] is False


def test_what_the_sweep_cannot_read_holds_up_nothing_else(
    resources: Resources, capsys: pytest.CaptureFixture[str]
) -> None:
    """An event of another version, or one that was altered in the store."""
    for hour in range(3):
        outcome = Ingest(sequence=hour + 1)(due(hour), resources)
        resources.store.record(outcome.record, outcome.events)
        past = {"recorded_at": datetime.now(UTC) - timedelta(minutes=1)}
        resources.store.collection(Batch).update_one({"_id": outcome.record.id}, {"$set": past})
        authenticate(resources.store)
        effect = effect_id("ingest", due(hour + 5).event_id)
        resources.work.begin(effect, "ingest", due(hour + 5))
    ago = datetime.now(UTC) - timedelta(minutes=5)
    resources.work._documents.update_many({}, {"$set": {"lease_until": ago, "updated_at": ago}})
    altered = f"ingest:{due(1).event_id}"
    batches, work = resources.store.collection(Batch), resources.work._documents
    batches.update_one({"_id": altered}, {"$set": {"outbox.0.rows": "secret-looking text"}})
    work.update_one({"_id": f"ingest:{due(6).event_id}"}, {"$set": {"event.type": "NotOfHere"}})
    found = unsettled(resources)
    assert (len(found.events), found.unreadable) == (4, 2)
    assert sweep_all(resources) == 4
    queued = resources.broker.queue_lengths()
    assert (queued["ingest"], queued["drift"]) == (2, 2)
    kept = batches.find_one({"_id": altered})
    assert kept
    assert (kept["outbox_open"], kept["outbox_sent_at"]) == (True, None)
    said = capsys.readouterr().out
    assert altered in said
    assert said.count("was not written by this system") == 2
    assert "secret-looking" not in said


def test_sweep_takes_up_the_work_of_a_dead_worker(resources: Resources) -> None:
    event = due()
    resources.work.begin(effect_id("ingest", event.event_id), "ingest", event)
    past = datetime.now(UTC) - timedelta(minutes=5)
    resources.work._documents.update_one({}, {"$set": {"lease_until": past, "updated_at": past}})
    sweep_all(resources)
    assert resources.broker.queue_lengths()["ingest"] == 1


@pytest.mark.parametrize(
    "change",
    [{"$set": {"outbox": None}}, {"$unset": {"outbox": ""}}, {"$set": {"outbox.0": "text"}}],
)
def test_whatever_an_outbox_has_become_the_sweep_goes_on(
    change: dict[str, object], resources: Resources
) -> None:
    ingest(resources, Ingest(), due())
    ago = {"outbox_sent_at": datetime.now(UTC) - timedelta(minutes=5)}
    resources.store.collection(Batch).update_one({}, {"$set": ago})
    authenticate(resources.store)
    resources.store.collection(Batch).update_one({}, change)
    authenticate(resources.store)
    ingest(resources, Ingest(sequence=2), due(1))
    assert sweep_all(resources) == 0
    found = unsettled(resources)
    assert ([each.event.pipeline for each in found.events], found.unreadable) == (
        ["air_quality"],
        1,
    )


def test_an_outbox_stays_open_until_everyone_is_done(resources: Resources) -> None:
    """A promotion goes to three stages."""
    store, ago = resources.store, datetime.now(UTC) - timedelta(minutes=5)
    outcome = Ingest()(due(), resources)
    promoted = ModelPromoted(
        **caused_fields(due(), "ingest", ModelPromoted),
        model_version=1,
        sequence=1,
        window=SHA,
        window_rows=5,
    )
    store.record(outcome.record, (promoted,))
    store.collection(Batch).update_one({}, {"$set": {"outbox_sent_at": ago}})
    for number, stage in enumerate(ROUTES["ModelPromoted"], start=1):
        assert (store.collection(Batch).find_one({}) or {})["outbox_open"] is True
        store.bury(dead_letter(effect_id(stage, promoted.event_id)))
        sweep_all(resources)
        left = {each.stage for each in unsettled(resources).events}
        assert left == set(list(ROUTES["ModelPromoted"])[number:])
    assert (store.collection(Batch).find_one({}) or {})["outbox_open"] is False


def test_of_several_that_wait_those_whose_wait_is_over_are_sent_again(
    resources: Resources,
) -> None:
    settled = Ingest()(due(), resources).record
    resources.store.record(settled)
    awaited = {1: settled.id, 2: f"drift:{'0' * 32}", 3: settled.id}
    for hour, effect in awaited.items():
        waits = due(hour)
        lease = resources.work.begin(effect_id("ingest", waits.event_id), "ingest", waits)
        assert lease
        resources.work.wait_for(lease, effect)
    ago = {"updated_at": datetime.now(UTC) - timedelta(minutes=5)}
    resources.work._documents.update_many({}, {"$set": ago})
    assert sweep_all(resources) == 2
    sent = {event.event_id for event in resources.broker.events("ingest")}
    assert sent == {due(1).event_id, due(3).event_id}


def test_an_event_that_met_no_store_is_named(resources: Resources) -> None:
    """Celery's own line of the failure has none of the ids."""
    ids = [structlog.contextvars.merge_contextvars]
    with MongoClient("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=100) as nobody_there:
        away = replace(resources, store=Store(nobody_there["trimtab"], AUTHENTICATOR))
        with structlog.testing.capture_logs(ids) as lines, pytest.raises(PyMongoError):
            ingest(away, Ingest(), due())
    (line,) = lines
    assert line["event"] == "the store does not answer"
    assert (line["trace_id"], line["pipeline"]) == (due().trace_id, "air_quality")


def test_full_broker_only_delays(resources: Resources) -> None:
    server = Redis.from_url(resources.settings.redis_url.get_secret_value())
    limit = server.config_get("maxmemory")["maxmemory"]
    server.config_set("maxmemory", "1")
    try:
        ingest(resources, Ingest(), due())
    finally:
        server.config_set("maxmemory", limit)
    assert resources.broker.queue_lengths()["drift"] == 0
    resources.store.collection(Batch).update_one(
        {}, {"$set": {"recorded_at": datetime.now(UTC) - timedelta(minutes=1)}}
    )
    authenticate(resources.store)
    sweep_all(resources)
    assert resources.broker.queue_lengths()["drift"] == 1


def test_lease_is_renewed_while_the_work_goes_on(resources: Resources) -> None:
    event = due()
    work = Work(resources.store.database, 0.2, AUTHENTICATOR)
    lease = work.begin("ingest:x", "ingest", event)
    assert lease
    with work.kept(lease):
        time.sleep(0.5)
        assert work.begin("ingest:x", "ingest", event) is None
    time.sleep(0.3)
    assert work.begin("ingest:x", "ingest", event)


def test_a_stage_sweeps_its_own_records_and_fills_its_own_queue(resources: Resources) -> None:
    ingest(resources, Ingest(), due())
    Redis.from_url(resources.settings.redis_url.get_secret_value()).flushdb()
    ago = {"outbox_sent_at": datetime.now(UTC) - timedelta(minutes=5)}
    resources.store.collection(Batch).update_one({}, {"$set": ago})
    for stage in ("ingest", "trainer", "publisher", "notifier"):
        assert sweep(stage, resources) == 0
    assert sweep("drift", resources) == 1
    assert resources.broker.queue_lengths()["drift"] == 1


def test_what_a_stage_has_not_sent_for_long_its_successor_takes_up(resources: Resources) -> None:
    outcome = Ingest()(due(), resources)
    resources.store.record(outcome.record, outcome.events)
    batches = resources.store.collection(Batch)
    for minutes, taken_up in ((0, 0), (5, 1)):
        past = datetime.now(UTC) - timedelta(minutes=minutes)
        batches.update_one({}, {"$set": {"recorded_at": past}})
        authenticate(resources.store)
        assert sweep("drift", resources) == taken_up
