"""`ingest` and `reference set` wait for what follows, and tell it; the handlers are played here."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs
from typer.testing import Result

from shared.drift import Verdict
from shared.events import (
    STAGES,
    BatchIngested,
    Event,
    ModelPromoted,
    RetrainRequested,
    Stage,
    caused_fields,
    dump_event,
    parse_event,
)
from shared.failures import WillNotPass
from shared.outcome import Outcome, record_fields
from shared.records import DriftReport, ModelVersion, Notification, Publication, Reference
from shared.stage import Resources, StageRuntime
from tests.integration.cli.conftest import PARCELS, Run
from tests.integration.publisher.promotions import model_version

SHA = "0" * 64
COMMIT = "c0ffee" + "1" * 34
REFERENCE = str(PARCELS / "reference.csv")
BATCH = str(PARCELS / "batches" / "1.csv")


def check(event: Event, verdict: Verdict, *, retrain: bool, reason: str = "") -> Outcome:
    assert isinstance(event, BatchIngested)
    record = DriftReport(
        **record_fields(event, "drift"),
        verdict=verdict,
        needs_retraining=retrain,
        reason=reason,
        p=0.34 if verdict == "no drift" else None,
        drift_score=0.02 if verdict == "no drift" else None,
        threshold=0.00025,
        policy="calibrated",
        feature_drifts={},
        feature_stats={},
        timestamp=datetime.now(UTC),
        sequence=event.sequence,
        batch_id="x",
        batch_rows=event.rows,
        reference_version=None,
        reference_rows=None,
    )
    asked = RetrainRequested(
        **caused_fields(event, "drift", RetrainRequested),
        reason="reference_set",
        sequence=event.sequence,
    )
    return Outcome(record, (asked,) if retrain else ())


def train(event: Event, decision: str, reason: str) -> Outcome:
    assert isinstance(event, RetrainRequested)
    fields = {"sequence": event.sequence, "decision": decision, "reason": reason}
    model: ModelVersion = model_version(1, **(record_fields(event, "trainer") | fields))
    promoted = ModelPromoted(
        **caused_fields(event, "trainer", ModelPromoted),
        model_version=1,
        sequence=event.sequence,
        window=SHA,
        window_rows=700,
    )
    return Outcome(model, (promoted,) if decision == "promoted" else ())


def adopt(event: Event) -> Outcome:
    fields = record_fields(event, "drift")
    return Outcome(
        Reference(**fields, version=1, data=SHA, rows=700, up_to_sequence=1, model_version=1)
    )


def publish(event: Event) -> Outcome:
    record = Publication(
        **record_fields(event, "publisher"),
        model_version=1,
        commit=COMMIT,
        branch="parcels",
        tag="parcels/v1",
        repository="/models.git",
        url=None,
    )
    return Outcome(record)


class Workers:
    """Handles what is queued whenever the command sleeps."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.sleeps = 0
        self.down: set[Stage] = set()
        self.plays: dict[tuple[Stage, str], Callable[[Event], Outcome]] = {
            ("drift", "BatchIngested"): lambda event: check(event, "no drift", retrain=False),
            ("drift", "ModelPromoted"): adopt,
            ("publisher", "ModelPromoted"): publish,
        }
        self._redis = Redis.from_url(resources.settings.redis_url.get_secret_value())

    def sleep(self, _seconds: float) -> None:
        self.sleeps += 1
        with capture_logs():  # which would be in what the command prints
            self._work()

    def _work(self) -> None:
        for stage in STAGES:
            while stage not in self.down and (message := self._redis.rpop(self._queue(stage))):
                assert isinstance(message, bytes)
                _, arguments, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
                self._handle(stage, parse_event(arguments["event"]))

    def _queue(self, stage: Stage) -> str:
        return f"{self.resources.settings.key_prefix}{stage}"

    def _handle(self, stage: Stage, event: Event) -> None:
        def told(event: Event) -> Outcome:
            fields = record_fields(event, "notifier")
            return Outcome(Notification(**fields, title="", text="", channels={}))

        play = self.plays.get((stage, event.type), told)
        StageRuntime(stage, self.resources).handle(dump_event(event), lambda e, _: play(e))


@pytest.fixture
def workers(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Workers that are alive, and work while the command waits."""
    for stage in STAGES:
        resources.broker.note_alive(f"{stage}@a")
    found = Workers(resources)
    monkeypatch.setattr("services.cli.waiting.sleep", found.sleep)
    return found


def said(done: Result, exit_code: int) -> str:
    assert done.exit_code == exit_code, done.output
    return " ".join(done.output.replace("\N{NO-BREAK SPACE}", " ").split())


def set_as_reference(workers: Workers, decision: str, reason: str) -> None:
    workers.plays["drift", "BatchIngested"] = lambda event: check(
        event, "reference set", retrain=True, reason="a person set this batch as the reference"
    )
    workers.plays["trainer", "RetrainRequested"] = lambda event: train(event, decision, reason)


def test_ingest_tells_the_verdict_of_the_check(run: Run, workers: Workers) -> None:
    told = said(run("ingest", BATCH), 0)
    assert "batch 1: 400 rows received: 400 new" in told
    assert "check: " in told
    assert "no drift" in told
    assert "0.34" in told
    assert "model" not in told


def test_ingest_of_known_rows_says_so_and_waits_for_nothing(run: Run, workers: Workers) -> None:
    run("ingest", BATCH)
    slept = workers.sleeps
    assert "nothing new: 400 rows received: 0 new, 400 taken in before" in said(
        run("ingest", BATCH), 0
    )
    assert workers.sleeps == slept


def test_reference_set_tells_the_model_its_reference_and_its_commit(
    run: Run, workers: Workers
) -> None:
    set_as_reference(workers, "promoted", "the first model")
    told = said(run("reference", "set", REFERENCE, "--because", "a test"), 0)
    assert "reference set" in told
    assert "model v1 promoted: the first model" in told
    assert "reference v1: 700 rows" in told
    assert "published: c0ffee1111 on branch parcels, tag parcels/v1" in told


def test_reference_set_whose_model_is_rejected_exits_with_1_and_says_why(
    run: Run, workers: Workers
) -> None:
    set_as_reference(workers, "rejected", "not better than the baseline")
    told = said(run("reference", "set", REFERENCE, "--because", "a test"), 1)
    assert "model v1 rejected: not better than the baseline" in told


def test_reference_set_that_is_too_small_exits_with_1_and_says_why(
    run: Run, workers: Workers
) -> None:
    workers.plays["drift", "BatchIngested"] = lambda event: check(
        event, "insufficient data", retrain=False, reason="a reference needs 100 rows"
    )
    told = said(run("reference", "set", REFERENCE, "--because", "a test"), 1)
    assert "insufficient data" in told
    assert "a reference needs 100 rows" in told


def test_a_stage_that_gives_up_is_told_with_the_command_to_look_at_it(
    run: Run, workers: Workers
) -> None:
    def refuse(_: Event) -> Outcome:
        raise WillNotPass("no row has a target")

    set_as_reference(workers, "promoted", "")
    workers.plays["trainer", "RetrainRequested"] = refuse
    told = said(run("reference", "set", REFERENCE, "--because", "a test"), 1)
    assert "The trainer stage gave up: no row has a target" in told
    assert "trimtab dead-letters show trainer:" in told


def test_silent_workers_end_the_wait_with_a_sentence(run: Run) -> None:
    told = said(run("ingest", BATCH), 5)
    assert "batch 1: 400 rows received: 400 new" in told
    assert "Not done yet: No worker of the drift stage is running. Batch 1 is stored" in told


def test_the_stage_that_is_silent_is_the_one_that_is_named(
    run: Run, resources: Resources, workers: Workers
) -> None:
    """The check is told although nobody trains."""
    redis = Redis.from_url(resources.settings.redis_url.get_secret_value())
    redis.hdel("trimtab:heartbeats", "trainer@a")
    workers.down.add("trainer")
    set_as_reference(workers, "promoted", "")
    told = said(run("reference", "set", REFERENCE, "--because", "a test"), 5)
    assert "reference set" in told
    assert "No worker of the trainer stage is running" in told


def test_the_wait_is_bounded(run: Run, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.waiting.sleep", lambda _: None)
    monkeypatch.setattr("services.cli.waiting.LONGEST_WAIT_SECONDS", 0.3)
    told = said(run("ingest", BATCH), 5)
    assert "The drift stage was not done after 0 s." in told


def test_no_wait_returns_at_once(run: Run, workers: Workers) -> None:
    told = said(run("ingest", BATCH, "--no-wait"), 0)
    assert "batch 1: 400 rows received: 400 new" in told
    assert "Not done" not in told
    assert workers.sleeps == 0
    assert said(run("reference", "set", REFERENCE, "--because", "a test", "--no-wait"), 0)


def test_json_has_the_batch_and_beside_it_what_followed(run: Run, workers: Workers) -> None:
    set_as_reference(workers, "promoted", "the first model")
    done = run("reference", "set", REFERENCE, "--because", "a test", "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["sequence"], found["as_reference"]) == (1, True)
    assert found["check"]["verdict"] == "reference set"
    assert (found["model"]["version"], found["model"]["decision"]) == (1, "promoted")
    assert found["reference"]["version"] == 1
    assert found["publication"]["commit"] == COMMIT
    assert (found["pending"], found["given_up"]) == (None, [])


def test_json_without_workers_says_what_it_waits_for(run: Run) -> None:
    done = run("ingest", BATCH, "--json")
    assert done.exit_code == 5
    found = json.loads(done.stdout)
    assert found["pending"]["stage"] == "drift"
    assert found["check"] is None
