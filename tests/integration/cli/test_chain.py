"""`trimtab history show`: a chain of events, wherever it stands, by what a person has of it."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from services.cli.chain_id import FEWEST_DIGITS, find_trace
from shared.broker import Broker
from shared.events import (
    NO_PIPELINE,
    BatchIngested,
    Event,
    IngestionDue,
    ModelPromoted,
    RetrainRequested,
    Stage,
    caused_fields,
    deterministic_id,
    dump_event,
    effect_id,
    first_event_fields,
)
from shared.failures import NotYet, WillNotPass, WillPass
from shared.outcome import Outcome, record_fields
from shared.records import Batch, DriftReport, ModelVersion, Publication
from shared.stage import Handler, Resources, StageRuntime
from tests.integration.cli.conftest import Run
from tests.integration.profiler import looked_at, profiled
from tests.integration.publisher.promotions import model_version
from tests.keys import authenticate
from tests.sweeping import sweep_all

SLOT = datetime(2026, 1, 10, 9, tzinfo=UTC)
SHA = "0" * 64
COMMIT = "c0ffee" + "1" * 34


def due(hour: int = 0) -> IngestionDue:
    slot = SLOT + timedelta(hours=hour)
    return IngestionDue(**first_event_fields("parcels", "slot", slot.isoformat()), slot=slot)


def handle(resources: Resources, stage: Stage, event: Event, handler: Handler) -> tuple[Event, ...]:
    """Let a stage handle an event; returns what follows from it, if anything."""
    StageRuntime(stage, resources).handle(dump_event(event), handler)
    return tuple(resources.store.outbox_of(effect_id(stage, event.event_id), event.type) or ())


def ingest(event: IngestionDue, sequence: int = 1) -> Outcome:
    record = Batch(
        **record_fields(event, "ingest"),
        outcome="ingested",
        sequence=sequence,
        data=SHA,
        rows=840,
        rows_received=900,
        source="data.gov.in resource r1",
    )
    follower = BatchIngested(
        **caused_fields(event, "ingest", BatchIngested), sequence=sequence, rows=840, data=SHA
    )
    return Outcome(record, (follower,))


def check(event: BatchIngested, _: Resources) -> Outcome:
    record = DriftReport(
        **record_fields(event, "drift"),
        verdict="drift",
        needs_retraining=True,
        reason="the air is worse",
        p=1e-9,
        drift_score=0.6,
        threshold=0.00025,
        policy="calibrated",
        feature_drifts={},
        feature_stats={},
        timestamp=datetime.now(UTC),
        sequence=event.sequence,
        batch_id="x",
        batch_rows=840,
        reference_version=1,
        reference_rows=840,
    )
    follower = RetrainRequested(
        **caused_fields(event, "drift", RetrainRequested), reason="drift", sequence=event.sequence
    )
    return Outcome(record, (follower,))


def train(event: RetrainRequested, _: Resources) -> Outcome:
    model = model_version(2, **record_fields(event, "trainer"), sequence=event.sequence)
    promoted = ModelPromoted(
        **caused_fields(event, "trainer", ModelPromoted),
        model_version=2,
        sequence=event.sequence,
        window=SHA,
        window_rows=840,
    )
    return Outcome(model, (promoted,))


def publish(event: ModelPromoted, _: Resources) -> Outcome:
    record = Publication(
        **record_fields(event, "publisher"),
        model_version=2,
        commit=COMMIT,
        branch="main",
        tag="parcels/v2",
        repository="/models.git",
        url=None,
    )
    return Outcome(record)


@pytest.fixture
def asked(resources: Resources) -> RetrainRequested:
    """A batch has drifted, and a model was asked for."""
    (ingested,) = handle(resources, "ingest", due(), lambda event, _: ingest(event))
    (asked,) = handle(resources, "drift", ingested, check)
    assert isinstance(asked, RetrainRequested)
    return asked


def shown(run: Run, wanted: str, *options: str) -> Any:
    done = run("history", "show", wanted, "--json", *options)
    assert done.exit_code == 0, done.output or done.exception
    return json.loads(done.stdout)


def text(run: Run, wanted: str) -> str:
    done = run("history", "show", wanted)
    assert done.exit_code == 0, done.output or done.exception
    return " ".join(done.stdout.replace("│", " ").split())


def refusal(run: Run, wanted: str) -> str:
    done = run("history", "show", wanted)
    assert isinstance(done.exception, WillNotPass)
    return str(done.exception)


def test_the_chain_is_whole_and_each_step_names_the_one_that_led_to_it(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    (promoted,) = handle(resources, "trainer", asked, train)
    handle(resources, "publisher", promoted, publish)
    chain = shown(run, asked.trace_id)
    assert chain["trace_id"] == due().trace_id
    assert chain["pipeline"] == "parcels"
    assert chain["origin"] == "data.gov.in resource r1, due 2026-01-10 09:00:00 UTC"
    steps = {(step["stage"], step["kind"]): step for step in chain["steps"]}
    done = [step["stage"] for step in chain["steps"] if step["state"] == "done"]
    assert done == ["ingest", "drift", "trainer", "publisher"]
    causes = [steps[key]["caused_by"] for key in steps]
    assert causes[0] is None
    assert set(causes[1:]) <= {step["id"] for step in chain["steps"]}
    assert steps["ingest", "IngestionDue"]["facts"]["rows"] == 840
    assert steps["drift", "BatchIngested"]["facts"]["verdict"] == "drift"
    assert steps["trainer", "RetrainRequested"]["facts"]["decision"] == "promoted"
    assert steps["publisher", "ModelPromoted"]["facts"]["commit"] == COMMIT
    # the other two that the promotion went to have not begun
    for stage in ("drift", "notifier"):
        assert steps[stage, "ModelPromoted"]["state"] == "queued"
    for step in chain["steps"]:
        if step["state"] == "done":
            assert (step["attempts"], step["handled_seconds"] >= 0) == (1, True)
            assert 0 <= step["waited_seconds"] < 60


def test_the_tree_tells_it_in_words(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    (promoted,) = handle(resources, "trainer", asked, train)
    handle(resources, "publisher", promoted, publish)
    said = text(run, "batch:1")
    for words in (
        f"Trace {asked.trace_id} pipeline parcels",
        "data.gov.in resource r1, due 2026-01-10 09:00:00 UTC",
        "batch 1: 840 new rows",
        "drift: p = 1e-9, threshold 0.00025 the air is worse",
        "model v2 promoted: mean absolute error 6.457",
        "model v2 is commit c0ffee1111 on main",
        "in the queue of its stage",
    ):
        assert words in said, said


@pytest.mark.parametrize(
    "of",
    [
        lambda event: event.trace_id,
        lambda event: event.trace_id[:FEWEST_DIGITS],
        lambda event: event.trace_id[:FEWEST_DIGITS].upper(),
        lambda event: event.event_id[:8],
        lambda event: f"trainer:{event.event_id}",
        lambda event: f"trainer:{event.event_id[:8]}",
        lambda _: f"drift:{deterministic_id(effect_id('ingest', due().event_id), 'BatchIngested')}",
        lambda _: "batch:1",
        lambda _: "model:2",
        lambda _: COMMIT,
        lambda _: COMMIT[:7],
    ],
    ids=[
        *("trace", "trace's beginning", "in capitals", "event", "record", "record's beginning"),
        *("record of another stage", "batch", "model", "commit", "commit's beginning"),
    ],
)
def test_whatever_a_person_has_of_it_leads_to_it(
    run: Run, resources: Resources, asked: RetrainRequested, of: Callable[[Event], str]
) -> None:
    (promoted,) = handle(resources, "trainer", asked, train)
    handle(resources, "publisher", promoted, publish)
    handle(resources, "ingest", due(1), lambda event, _: ingest(event, 2))  # and another chain
    assert shown(run, of(asked))["trace_id"] == asked.trace_id


def test_an_event_that_nobody_has_begun_leads_to_it_too(run: Run, asked: RetrainRequested) -> None:
    assert shown(run, asked.event_id[:10])["trace_id"] == asked.trace_id


def test_too_little_of_an_id_and_what_is_none_are_refused_with_what_can_be_given(run: Run) -> None:
    for wanted in (
        "01234",
        "not-an-id",
        "batch:",
        "batch:x",
        "writer:0123abcd",
        "",
        ".*",
        "0123ab$",
    ):
        said = refusal(run, wanted)
        assert "is no id: give at least 6 hexadecimal digits" in said
        assert repr(wanted) in said


def test_an_id_that_nothing_has_is_refused(run: Run, asked: RetrainRequested) -> None:
    for wanted in ("ffffffffffff", "batch:7", "model:2", "notifier:ffffffff"):
        assert f"the store has nothing with the id {wanted!r}" in refusal(run, wanted)


def test_a_beginning_that_two_chains_have_is_refused_with_both(
    run: Run, resources: Resources
) -> None:
    chains = ["abcdef" + digit * 26 for digit in "01"]
    for number, trace in enumerate(chains):
        event = due(number).model_copy(update={"event_id": trace, "trace_id": trace})
        handle(resources, "ingest", event, lambda event, _: ingest(event, event.slot.hour))
    said = refusal(run, "abcdef")
    assert "2 chains have an id that begins with 'abcdef'; give more of it" in said
    assert all(trace in said for trace in chains)
    assert shown(run, "abcdef1")["trace_id"] == chains[1]


@pytest.fixture
def twenty(resources: Resources) -> list[str]:
    """Twenty chains whose ids begin alike for longer or shorter."""
    traces = [f"{number:07b}".replace("1", "a").ljust(32, "0") for number in range(20)]
    for number, trace in enumerate(traces):
        event = due(number).model_copy(update={"event_id": trace, "trace_id": trace})
        handle(resources, "ingest", event, lambda event, _, n=number: ingest(event, n + 1))
    return traces


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 19), st.integers(FEWEST_DIGITS, 32))
def test_a_beginning_leads_to_a_chain_if_it_is_of_that_chain_alone(
    resources: Resources, twenty: list[str], number: int, length: int
) -> None:
    beginning = twenty[number][:length]
    fitting = [trace for trace in twenty if trace.startswith(beginning)]
    if len(fitting) == 1:
        assert find_trace(resources, beginning, None) == twenty[number]
    else:
        with pytest.raises(WillNotPass, match=f"^{len(fitting)} chains"):
            find_trace(resources, beginning, None)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40) | st.text("0123456789abcdef:$^.*batchmodel", max_size=40))
def test_no_text_does_more_than_to_be_refused(resources: Resources, wanted: str) -> None:
    with pytest.raises(WillNotPass):
        find_trace(resources, wanted, "air_quality")


# What is still to be done.


def state_of(run: Run, asked: Event) -> tuple[str, str, str]:
    """State and remark of the training, and what the tree says."""
    chain = shown(run, asked.trace_id)
    (step,) = (step for step in chain["steps"] if step["kind"] == "RetrainRequested")
    return step["state"], step["remark"], text(run, asked.trace_id)


def test_a_message_in_the_queue(run: Run, asked: RetrainRequested) -> None:
    assert state_of(run, asked)[:2] == ("queued", "")


def test_a_message_that_the_broker_has_lost(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    Redis.from_url(resources.settings.redis_url.get_secret_value()).flushdb()
    state, _, said = state_of(run, asked)
    assert state == "not queued"
    assert "or lost: the sweep sends it again" in said
    assert sweep_all(resources)
    assert state_of(run, asked)[0] == "queued"


def test_a_message_that_was_not_sent(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    resources.store.collection(DriftReport).update_one({}, {"$set": {"outbox_sent_at": None}})
    assert state_of(run, asked)[0] == "not sent"


def test_what_was_settled_and_has_expired_is_not_lost(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    Redis.from_url(resources.settings.redis_url.get_secret_value()).flushdb()
    resources.store.collection(DriftReport).update_many({}, {"$set": {"outbox_open": False}})
    state, _, said = state_of(run, asked)
    assert state == "not kept"
    assert "done; what came of it is no longer kept" in said


def test_what_waits_for_something_settled_is_left(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    effect = effect_id("trainer", asked.event_id)
    Redis.from_url(resources.settings.redis_url.get_secret_value()).flushdb()
    resources.work.reopen(effect, "trainer", asked)
    settled = resources.store.collection(DriftReport).find_one({}) or {}
    waits = {"$set": {"waiting_for": settled["_id"]}}
    resources.store.database["work"].update_one({"_id": effect}, waits)
    authenticate(resources.store)
    assert state_of(run, asked)[0] == "left"


def test_an_event_that_nobody_has_begun_is_found_by_its_id(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    by_effect = effect_id("trainer", asked.event_id)
    assert find_trace(resources, by_effect, None) == asked.trace_id
    assert find_trace(resources, by_effect[:16], None) == asked.trace_id


def test_an_event_in_hand(run: Run, resources: Resources, asked: RetrainRequested) -> None:
    seen = []

    def looks(event: RetrainRequested, resources: Resources) -> Outcome:
        seen.append(state_of(run, event))
        return train(event, resources)

    handle(resources, "trainer", asked, looks)
    ((state, _, said),) = seen
    assert state == "in hand"
    assert "a worker has it in hand" in said


def raising(error: Exception) -> Handler:
    def handler(_event: Event, _resources: Resources) -> Outcome:
        raise error

    return handler


def test_an_event_that_waits_for_another(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    awaited = f"publisher:{'0' * 32}"
    handle(resources, "trainer", asked, raising(NotYet(awaited)))
    assert state_of(run, asked)[:2] == ("waits", f"for {awaited}")


def test_an_event_that_is_tried_again_and_then_done(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    handle(resources, "trainer", asked, raising(WillPass("it is away", retry_after=0.2)))
    state, remark, said = state_of(run, asked)
    assert state == "tried later"
    assert remark.endswith("after WillPass: it is away")
    assert "to be tried again at " in said
    resources.work.touch([effect_id("trainer", asked.event_id)])  # as when the sweep has sent it
    handle(resources, "trainer", asked, train)
    state, _, said = state_of(run, asked)
    assert state == "done"
    assert "2 tries" in said


def test_an_event_that_a_dead_worker_has_left(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    effect = effect_id("trainer", asked.event_id)
    assert resources.work.begin(effect, "trainer", asked)
    past = datetime.now(UTC) - timedelta(seconds=1)
    resources.store.database["work"].update_one({"_id": effect}, {"$set": {"lease_until": past}})
    authenticate(resources.store)
    Redis.from_url(resources.settings.redis_url.get_secret_value()).flushdb()
    assert state_of(run, asked)[0] == "left"


def test_an_event_that_was_given_up_and_replayed(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    effect = effect_id("trainer", asked.event_id)
    handle(resources, "trainer", asked, raising(WillNotPass("too few rows")))
    state, _, said = state_of(run, asked)
    assert state == "given up"
    assert f"given up: too few rows trimtab dead-letters show {effect}" in said
    alarm = [step for step in shown(run, effect)["steps"] if step["kind"] == "WorkFailed"]
    assert [(step["stage"], step["caused_by"]) for step in alarm] == [("notifier", effect)]
    assert run("dead-letters", "dismiss", effect, "--because", "a test").exit_code == 0
    assert state_of(run, asked)[:2] == ("given up", "dismissed")
    assert run("dead-letters", "replay", effect).exit_code == 0
    assert state_of(run, asked)[0] == "queued"
    handle(resources, "trainer", asked, train)
    assert state_of(run, asked)[:2] == ("done", "its dead letter was replayed")


def test_what_is_tried_again_tells_of_its_last_failure_as_past(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    handle(resources, "trainer", asked, raising(WillPass("it is away", retry_after=0.01)))
    resources.work.touch([effect_id("trainer", asked.event_id)])
    state, remark, said = state_of(run, asked)
    assert (state, remark) == ("queued", "after WillPass: it is away")
    assert "in the queue of its stage after WillPass: it is away" in said


def test_a_reading_that_was_given_up_and_replayed_still_heads_its_chain(
    run: Run, resources: Resources
) -> None:
    handle(resources, "ingest", due(), raising(WillNotPass("no key")))
    assert run("dead-letters", "replay", effect_id("ingest", due().event_id)).exit_code == 0
    handle(resources, "ingest", due(), lambda event, _: ingest(event))
    chain = shown(run, due().trace_id)
    assert chain["origin"] == "data.gov.in resource r1, due 2026-01-10 09:00:00 UTC"
    (alarm,) = (step for step in chain["steps"] if step["kind"] == "WorkFailed")
    assert alarm["caused_by"] == effect_id("ingest", due().event_id)


def test_queues_are_read_once_however_many_steps_wait(
    run: Run, resources: Resources, asked: RetrainRequested, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle(resources, "trainer", asked, train)
    read: list[Stage] = []

    def counting(broker: Broker, stage: Stage) -> Iterator[Event]:
        read.append(stage)
        return events(broker, stage)

    events = Broker.events
    monkeypatch.setattr(Broker, "events", counting)
    sent = resources.store.collection(ModelVersion).find_one({}) or {}
    again = [event | {"event_id": "0" * 31 + digit} for event in sent["outbox"] for digit in "123"]
    resources.store.collection(ModelVersion).update_one({}, {"$set": {"outbox": again}})
    authenticate(resources.store)
    assert len(shown(run, asked.trace_id)["steps"]) == 3 + 9
    assert sorted(read) == ["drift", "notifier", "publisher"]


def test_looking_an_id_up_walks_through_no_history(
    resources: Resources, asked: RetrainRequested
) -> None:
    batches = resources.store.collection(Batch)
    (known,) = batches.find()
    batches.insert_many(
        known
        | {"_id": f"ingest:{deterministic_id('id', number)}", "sequence": number}
        | {"trace_id": deterministic_id("trace", number), "outbox_open": False}
        for number in range(2, 2000)
    )
    for wanted in (asked.trace_id, asked.event_id[:8], f"trainer:{asked.event_id}"):
        with profiled(resources.store.database) as entries:
            assert find_trace(resources, wanted, "parcels") == asked.trace_id
        seen = [documents for _, _, documents in looked_at(entries)]
        assert seen, wanted
        assert max(seen) <= 5, wanted


def test_a_foreign_message_is_a_chain_of_its_own(run: Run, resources: Resources) -> None:
    StageRuntime("drift", resources).handle({"type": "Unheard"}, check)
    (letter,) = json.loads(run("dead-letters", "list", "--json").stdout)
    chain = shown(run, letter["id"])
    assert (chain["origin"], chain["pipeline"]) == ("foreign message", NO_PIPELINE)
    assert chain["steps"][0]["state"] == "given up"
    assert "given up: not an event" in text(run, letter["trace_id"])


def test_a_record_outlives_what_led_to_it(
    run: Run, resources: Resources, asked: RetrainRequested
) -> None:
    """Models are kept for good, readings are not."""
    handle(resources, "trainer", asked, train)
    for kind in (Batch, DriftReport):
        resources.store.collection(kind).delete_many({})
    chain = shown(run, "model:2")
    assert chain["origin"] == "RetrainRequested"
    assert chain["steps"][0]["stage"] == "trainer"


def test_the_list_goes_on_as_before_and_refuses_options_in_the_wrong_place(
    run: Run, asked: RetrainRequested
) -> None:
    listed = json.loads(run("history", "--json", "--pipeline", "parcels", "--limit", "1").stdout)
    assert [report["verdict"] for report in listed["drift_reports"]] == ["drift"]
    misplaced = run("history", "--limit", "3", "show", asked.trace_id)
    assert misplaced.exit_code == 2
    assert "write options behind 'show'" in misplaced.output
