"""`trimtab status` against a store and a broker that run: what it tells, and its exit code."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Valkey
from services.cli.embedded.system import worker_command
from shared import status
from shared.events import (
    STAGES,
    BatchIngested,
    IngestionDue,
    Stage,
    caused_fields,
    dump_event,
    effect_id,
    first_event_fields,
)
from shared.failures import NotYet, WillNotPass, WillPass
from shared.outcome import Outcome, record_fields
from shared.records import Batch, DriftReport, TargetsAwaited, WaitingFile
from shared.stage import Resources, StageRuntime
from tests.conftest import AIR_QUALITY
from tests.e2e.conftest import wait_for
from tests.integration.cli.conftest import Run
from tests.keys import EVENT_KEY, authenticate


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def everybody(resources: Resources) -> None:
    """Signs of life of every part."""
    for part in (*(f"{stage}@a" for stage in STAGES), "beat", "sweep"):
        resources.broker.note_alive(part)


def state(run: Run, exit_code: int) -> Any:
    done = run("status", "--json")
    assert done.exit_code == exit_code, done.output
    assert run("status").exit_code == exit_code
    return json.loads(done.stdout)


def due(age: timedelta) -> IngestionDue:
    fields = first_event_fields("parcels", "slot", age) | {"occurred_at": now() - age}
    return IngestionDue(**fields, slot=now())


def ingested(event: IngestionDue) -> Outcome:
    batch = Batch(
        **record_fields(event, "ingest"),
        outcome="ingested",
        rows_received=5,
        source="a test",
        sequence=1,
        rows=5,
        data="0" * 64,
    )
    follower = BatchIngested(
        **caused_fields(event, "ingest", BatchIngested) | {"occurred_at": event.occurred_at},
        sequence=1,
        rows=5,
        data="0" * 64,
    )
    return Outcome(batch, (follower,))


def test_a_file_that_waits(run: Run, resources: Resources, everybody: None) -> None:
    since = datetime(2026, 1, 10, 9, 5, 7, tzinfo=UTC)
    waiting = WaitingFile(reason="no permission", since=since, tries=1, next_try_at=since)
    resources.store.record(
        Batch(
            **record_fields(due(timedelta()), "ingest"),
            outcome="nothing new",
            rows_received=0,
            source="a folder",
            files_waiting={"1.csv 5 6": waiting},
        )
    )
    said = "parcels: a file has waited since 2026-01-10 09:05 UTC: no permission"
    assert state(run, 1)["problems"] == [said]


def test_nobody_has_ever_been_there(run: Run, resources: Resources) -> None:
    found = state(run, 1)
    assert found["healthy"] is False
    assert found["parts"]["drift"] == {"alive": False, "seconds_ago": None, "workers": {}}
    assert "drift: no sign of life so far" in found["problems"]
    assert "never" in run("status").stdout


def test_one_worker_of_a_stage_is_enough(
    run: Run, resources: Resources, everybody: None, valkey: Valkey
) -> None:
    last = {"ingest@b": timedelta(minutes=5), "ingest@gone": timedelta(days=2)}
    for worker, age in last.items():
        at = (now() - age).isoformat()
        Redis.from_url(valkey.url).hset(f"{resources.settings.key_prefix}heartbeats", worker, at)
    found = state(run, 0)
    assert found["problems"] == []
    assert list(found["parts"]["ingest"]["workers"]) == ["ingest@a", "ingest@b"]
    table = run("status").stdout
    assert "ingest@b" in table
    assert "5 min ago" in table


def test_a_worker_that_is_down_is_named(
    run: Run,
    resources: Resources,
    everybody: None,
    notifier: Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def signs() -> Any:
        done = json.loads(run("status", "--json").stdout)
        return done["parts"]["notifier"], [p for p in done["problems"] if "notifier" in p]

    monkeypatch.setattr(status, "SILENT_AFTER", timedelta(seconds=4))
    assert wait_for(lambda: len(signs()[0]["workers"]) == 2, 30)  # the real one, and `everybody`
    assert wait_for(lambda: signs()[0]["seconds_ago"] < 1, 10)
    assert signs()[1] == []
    notifier.kill()
    assert wait_for(lambda: not signs()[0]["alive"], 10)
    assert signs()[1][0].startswith("notifier: silent for ")


@pytest.fixture
def notifier(resources: Resources, tmp_path: Path) -> Iterator[Process]:
    """A worker on the same servers."""
    settings = resources.settings
    environment = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "MONGODB_DATABASE": settings.mongodb_database,
        "EVENT_KEY": EVENT_KEY,
        "PIPELINES": str(AIR_QUALITY.parent),
    }
    process = Process("notifier", worker_command("notifier"), tmp_path / "log", environment)
    process.start()
    yield process
    process.stop()


def test_ticks_that_nobody_took_are_known_by_their_messages(
    run: Run, resources: Resources, everybody: None
) -> None:
    resources.broker._app.send_task("ingest.sweep", queue="ingest")  # carries no event
    for age in (timedelta(minutes=20), timedelta(minutes=10)):
        resources.broker.send_to("ingest", due(age))
    queue = state(run, 0)["queues"]["ingest"]
    assert (queue["queued"], queue["unfinished"]) == (3, 0)
    assert 1200 <= queue["oldest_seconds"] < 1260


def test_oldest_event_is_found_behind_much_housekeeping(
    resources: Resources, valkey: Valkey
) -> None:
    for _ in range(250):
        resources.broker._app.send_task("ingest.sweep", queue="ingest")
    assert resources.broker.oldest_event("ingest") is None
    event = due(timedelta(hours=1))
    resources.broker.send_to("ingest", event)
    queue = f"{resources.settings.key_prefix}ingest"
    Redis.from_url(valkey.url).lpush(queue, b"\x80 no message", b'{"body": "AA=="}', b"[]")
    assert resources.broker.oldest_event("ingest") == event


def test_an_event_that_the_broker_lost_is_known_by_the_store(
    run: Run, resources: Resources, everybody: None, valkey: Valkey
) -> None:
    event = due(timedelta(hours=25))
    StageRuntime("ingest", resources).handle(dump_event(event), lambda e, _: ingested(e))
    Redis.from_url(valkey.url).delete(f"{resources.settings.key_prefix}drift")
    found = state(run, 1)
    queue = found["queues"]["drift"]
    assert (queue["queued"], queue["unfinished"]) == (0, 1)
    assert found["problems"] == [
        "drift: its oldest event has waited for 25 h, longer than one task may take "
        "(TASK_TIME_LIMIT_SECONDS, 30 min)"
    ]


def test_what_was_begun_is_counted_by_what_it_waits_for(
    run: Run, resources: Resources, everybody: None
) -> None:
    def raising(failure: Exception) -> Any:
        def handler(_event: IngestionDue, _resources: Resources) -> Outcome:
            raise failure

        return handler

    failures = (WillPass("busy", retry_after=60), NotYet("drift:" + "0" * 32))
    for minutes, failure in enumerate(failures):
        event = due(timedelta(minutes=minutes))
        StageRuntime("ingest", resources).handle(dump_event(event), raising(failure))
    held = due(timedelta(minutes=9))
    assert resources.work.begin(effect_id("ingest", held.event_id), "ingest", held)
    left = due(timedelta(minutes=3))
    resources.work.reopen(effect_id("ingest", left.event_id), "ingest", left)
    found = state(run, 0)
    assert found["work"] == {"leases": 1, "waiting": 1, "later": 1, "left": 1}
    assert found["queues"]["ingest"]["unfinished"] == 4


def test_events_that_are_not_sent_are_told_once_the_sweep_should_have(
    run: Run, resources: Resources, everybody: None
) -> None:
    outcome = ingested(due(timedelta(0)))
    resources.store.record(outcome.record, outcome.events)
    assert state(run, 0)["unsent"]["records"] == 1
    at = now() - timedelta(minutes=5)
    resources.store.collection(Batch).update_one({}, {"$set": {"recorded_at": at}})
    authenticate(resources.store)
    (problem,) = state(run, 1)["problems"]
    assert problem.startswith("events of 1 records are not sent, the oldest for ")


def test_events_that_cannot_be_read_are_a_problem(
    run: Run, resources: Resources, everybody: None
) -> None:
    outcome = ingested(due(timedelta(0)))
    resources.store.record(outcome.record, outcome.events)
    of_later = {"outbox.0.version": 99}
    resources.store.collection(Batch).update_one({}, {"$set": of_later})
    authenticate(resources.store)
    problems = state(run, 1)["problems"]
    assert problems == ["events of 1 records cannot be read; the workers' logs say which"]


@pytest.mark.parametrize("settled_by", ["replay", "dismiss"])
def test_open_dead_letters_are_a_problem(
    run: Run, resources: Resources, everybody: None, settled_by: str
) -> None:
    def refuse(_event: IngestionDue, _resources: Resources) -> Outcome:
        raise WillNotPass("the key is wrong")

    stage: Stage = "ingest"
    event = due(timedelta(0))
    StageRuntime(stage, resources).handle(dump_event(event), refuse)
    assert state(run, 1)["problems"] == ["dead letters: 1; see `trimtab dead-letters list`"]
    assert (
        run(
            "dead-letters", settled_by, effect_id(stage, event.event_id), "--because", "a test"
        ).exit_code
        == 0
    )
    assert state(run, 0)["dead_letters"] == 0


@pytest.mark.usefixtures("everybody")
def test_a_pipeline_that_waits_for_targets_says_since_when(run: Run, resources: Resources) -> None:
    event = due(timedelta())
    awaited = TargetsAwaited(
        since=datetime(2026, 3, 1, 9, 30, tzinfo=UTC), rows=150, rows_with_target=39, needed=40
    )
    report = DriftReport(
        **record_fields(event, "drift"),
        verdict="insufficient data",
        needs_retraining=False,
        policy="calibrated",
        threshold=0.0,
        drift_score=None,
        feature_drifts={},
        feature_stats={},
        awaited=awaited,
        timestamp=now(),
        sequence=1,
        batch_id="ingest:1",
        batch_rows=150,
        reference_version=None,
        reference_rows=None,
    )
    resources.store.record(report)
    waiting = state(run, 4)["pipelines"]["parcels"]["waiting_for_targets"]
    assert (waiting["rows"], waiting["rows_with_target"]) == (150, 39)
    said = " ".join(run("status").output.split())
    assert (
        "The first model has waited for targets since 2026-03-01 09:30 UTC: 39 of 150 rows have "
        "one; at least 40 are needed."
    ) in said
