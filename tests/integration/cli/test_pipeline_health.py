"""What `trimtab status` says of a pipeline's data and model, from the records in a store."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from services.cli.pipeline_health import PipelineHealth, pipeline_health
from shared.drift import PerformanceFinding
from shared.events import STAGES
from shared.frames import to_parquet
from shared.pipeline import Pipeline, load_pipeline
from shared.records import Batch, DriftReport, Reference, TargetsAwaited
from shared.stage import Resources
from shared.store import Store
from tests.integration.cli.conftest import PARCELS, Run
from tests.integration.publisher.promotions import model_version

SHA = "0" * 64
AT = datetime(2026, 1, 10, 9, tzinfo=UTC)
NOW = AT + timedelta(days=1)


@pytest.fixture
def parcels() -> Pipeline:
    return load_pipeline(PARCELS / "parcels.yaml")


def fields(stage: str, number: int) -> dict[str, Any]:
    return {
        "_id": f"{stage}:{number}",
        "pipeline": "parcels",
        "trace_id": f"{number:032}",
        "recorded_at": AT + timedelta(hours=number),
    }


def batch(store: Store, number: int, targets: list[str | None]) -> None:
    data = store.put_blob(to_parquet(pd.DataFrame({"outcome": pd.Series(targets, dtype=object)})))
    store.record(
        Batch(
            **fields("ingest", number),
            outcome="ingested",
            sequence=number,
            data=data,
            rows=len(targets),
            rows_received=len(targets),
            source="a test",
        )
    )


def check(
    store: Store,
    number: int,
    incident: int | None = None,
    performance: PerformanceFinding | None = None,
    reference: int = 1,
    awaited: TargetsAwaited | None = None,
) -> None:
    store.record(
        DriftReport(
            **fields("drift", number),
            awaited=awaited,
            verdict="drift" if incident else "no drift",
            needs_retraining=False,
            threshold=0.00025,
            policy="calibrated",
            drift_score=0.1,
            feature_drifts={},
            feature_stats={},
            timestamp=AT + timedelta(hours=number),
            sequence=number,
            batch_id="x",
            batch_rows=400,
            reference_version=reference,
            reference_rows=800,
            incident=incident,
            performance=performance,
        )
    )


def reference(store: Store, version: int) -> None:
    store.record(
        Reference(
            **fields("reference", version),
            version=version,
            data=SHA,
            rows=800,
            up_to_sequence=version,
            model_version=version,
        )
    )


def model(store: Store, version: int, decision: str = "promoted", reason: str = "") -> None:
    changes = {"id": f"trainer:{version}", "pipeline": "parcels"}
    store.record(model_version(version, decision=decision, reason=reason, **changes))


def measured(**changes: Any) -> PerformanceFinding:
    found: dict[str, Any] = {
        "model_version": 1,
        "metric": "log_loss",
        "error": 0.51234,
        "error_at_promotion": 0.5,
        "rows": 400,
        "groups": 400,
        "p": 0.3,
        "threshold": 0.001,
        "drift": False,
        "reason": "the champion is as good as before",
    }
    return PerformanceFinding(**(found | changes))


def said(health: PipelineHealth) -> list[tuple[str, bool]]:
    return [
        (sentence.text.replace("\N{NO-BREAK SPACE}", " "), sentence.look)
        for sentence in health.sentences()
    ]


def test_a_pipeline_without_anything_has_nothing_to_say(store: Store, parcels: Pipeline) -> None:
    assert said(pipeline_health(parcels, store, NOW)) == []


def test_open_drift_is_told_with_its_beginning(store: Store, parcels: Pipeline) -> None:
    reference(store, 1)
    check(store, 5)
    check(store, 6, incident=6)
    check(store, 7, incident=6)
    assert said(pipeline_health(parcels, store, NOW)) == [
        ("Drift has been open since batch 6 (2026-01-10 15:00 UTC); "
         "batches checked since then: 2.", True),
    ]  # fmt: skip


def test_a_new_reference_ends_the_drift(store: Store, parcels: Pipeline) -> None:
    reference(store, 1)
    check(store, 6, incident=6)
    reference(store, 2)
    assert pipeline_health(parcels, store, NOW).drift is None


def test_the_champions_error_is_told_with_the_verdict_of_the_test(
    store: Store, parcels: Pipeline
) -> None:
    model(store, 1)
    check(store, 2, performance=measured())
    assert said(pipeline_health(parcels, store, NOW)) == [
        ("The champion v1 has log loss 0.512 on batch 2, and 0.5 at its promotion: "
         "not worse (p = 0.3, threshold 0.001).", False),
    ]  # fmt: skip


def test_a_champion_that_has_become_worse_needs_a_look(store: Store, parcels: Pipeline) -> None:
    model(store, 1)
    check(store, 2, performance=measured(error=0.9, p=1e-20, drift=True))
    ((text, look),) = said(pipeline_health(parcels, store, NOW))
    assert text.endswith(
        "on batch 2, and 0.5 at its promotion: worse (p < 1e-16, threshold 0.001)."
    )
    assert look


def test_a_batch_too_small_for_a_test_does_not_hide_the_one_before(
    store: Store, parcels: Pipeline
) -> None:
    model(store, 1)
    check(store, 2, performance=measured())
    check(store, 3, performance=measured(p=None, rows=4, groups=4))
    assert "on batch 2" in said(pipeline_health(parcels, store, NOW))[0][0]


def test_a_champion_that_cannot_predict_needs_a_look(store: Store, parcels: Pipeline) -> None:
    model(store, 1)
    check(store, 2, performance=measured())
    reason = "the champion, v1, cannot predict these rows"
    check(store, 3, performance=measured(error=None, p=None, reason=reason))
    assert said(pipeline_health(parcels, store, NOW)) == [
        (f"The champion v1 was not measured on batch 3: {reason}.", True)
    ]


def test_the_error_of_an_earlier_champion_is_not_told(store: Store, parcels: Pipeline) -> None:
    model(store, 1)
    check(store, 2, performance=measured(drift=True))
    model(store, 2)
    assert said(pipeline_health(parcels, store, NOW)) == []


def test_rejections_in_a_row_are_counted_from_the_last_promotion(
    store: Store, parcels: Pipeline
) -> None:
    model(store, 1, "rejected")
    model(store, 2)
    model(store, 3, "rejected")
    model(store, 4, "rejected", "worse in every segment")
    assert said(pipeline_health(parcels, store, NOW)) == [
        ("Rejected models since the last promotion: 2. The newest is v4: worse in every segment",
         True),
    ]  # fmt: skip


def test_a_promotion_ends_the_rejections(store: Store, parcels: Pipeline) -> None:
    model(store, 1, "rejected")
    model(store, 2)
    health = pipeline_health(parcels, store, NOW)
    assert (health.rejections, health.rejected) == (0, None)


def test_a_pipeline_waits_for_targets_until_a_check_says_otherwise(
    store: Store, parcels: Pipeline
) -> None:
    waiting = TargetsAwaited(since=AT, rows=400, rows_with_target=30, needed=40)
    check(store, 1, awaited=waiting)
    assert said(pipeline_health(parcels, store, NOW)) == [
        ("The first model has waited for targets since 2026-01-10 09:00 UTC: 30 of 400 rows have "
         "one; at least 40 are needed.", True),
    ]  # fmt: skip
    check(store, 2)
    assert pipeline_health(parcels, store, NOW).waiting_for_targets is None


def scheduled(pipeline: Pipeline, schedule: str) -> Pipeline:
    definition = pipeline.model_dump(by_alias=True) | {
        "schedule": schedule,
        "source": {"kind": "files", "path": "/somewhere"},
    }
    return Pipeline.model_validate(definition)


def test_the_next_reading_is_told(store: Store, parcels: Pipeline) -> None:
    hourly = scheduled(parcels, "5 * * * *")
    assert said(pipeline_health(hourly, store, NOW)) == [
        ("The next reading is due at 2026-01-11 09:05:00 UTC.", False)
    ]
    assert pipeline_health(parcels, store, NOW).next_due is None


def test_readings_that_do_not_come_need_a_look(store: Store, parcels: Pipeline) -> None:
    batch(store, 1, ["late"] * 100)  # at 10:00
    hourly = scheduled(parcels, "5 * * * *")
    read_at = AT + timedelta(hours=1)
    assert pipeline_health(hourly, store, read_at + timedelta(minutes=7)).missed_slots == 1
    late = pipeline_health(hourly, store, read_at + timedelta(minutes=67))
    assert said(late)[0] == (
        "The source was last read at 2026-01-10 10:00 UTC; slots of the schedule that have passed "
        "since then: 2.",
        True,
    )


def test_status_exits_with_4_where_all_works_and_something_needs_a_look(
    run: Run, resources: Resources
) -> None:
    for part in (*(f"{stage}@a" for stage in STAGES), "beat", "sweep"):
        resources.broker.note_alive(part)
    assert run("status").exit_code == 0
    model(resources.store, 1, "rejected", "worse in every segment")
    done = run("status", "--json")
    assert done.exit_code == 4
    found = json.loads(done.stdout)
    assert (found["healthy"], found["problems"], found["exit_code"]) == (True, [], 4)
    sentence = (
        "Rejected models since the last promotion: 1. The newest is v1: worse in every segment"
    )
    assert found["attention"] == [f"parcels: {sentence}"]
    parcels = found["pipelines"]["parcels"]
    assert (parcels["rejections"], parcels["rejected"]) == (1, 1)
    assert parcels["attention"] == [sentence]
    assert f"! {sentence}" in " ".join(run("status").stdout.split())


def test_where_nothing_was_ever_started_it_says_how(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from services.cli.main import app

    for name in ("REDIS_URL", "MONGODB_URI", "REDIS_URL_FILE", "MONGODB_URI_FILE"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(app, ["status", "--home", str(tmp_path / "new")])
    assert done.exit_code == 1
    said = " ".join(done.stdout.split())
    assert "nothing was ever started in" in said
    assert "`trimtab up --wait` starts the system" in said
    listed = CliRunner().invoke(app, ["history", "--home", str(tmp_path / "new")])
    assert "nothing was ever started" in str(listed.exception)
