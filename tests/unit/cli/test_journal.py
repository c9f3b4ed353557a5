"""Records and work under way, in words."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, cast

import pytest
from rich.console import Console

from services.cli.journal import Line, activities, decision, line
from services.cli.view import LiveView
from shared.events import ROUTES, STAGES, Stage
from shared.records import (
    Batch,
    DeadLetter,
    DriftReport,
    ModelVersion,
    Notification,
    Publication,
    Record,
    Reference,
    RetiredReference,
    SetAside,
)
from shared.wording import NO_BREAK

SHA = "0" * 64
NOW = datetime(2026, 1, 1, 10, tzinfo=UTC)
BASE: dict[str, Any] = {
    "id": "drift:x",
    "pipeline": "air_quality",
    "trace_id": "0" * 32,
    "recorded_at": NOW,
}
REPORT = DriftReport(
    **BASE,
    verdict="drift",
    needs_retraining=True,
    reason="the largest is pollutant_max's",
    drift_score=0.612,
    threshold=0.1,
    policy="mean_std_change",
    feature_drifts={},
    feature_stats={},
    timestamp=NOW,
    sequence=6,
    batch_id="b",
    batch_rows=840,
    reference_version=1,
    reference_rows=840,
)
BATCH = Batch(
    **BASE,
    outcome="ingested",
    sequence=3,
    data=SHA,
    rows=840,
    rows_received=900,
    source="a test",
    last_event_at=NOW,
    set_aside=SetAside(rows=7, reasons={"a: missing": 7}),
)
MODEL = ModelVersion(
    **BASE,
    version=2,
    decision="rejected",
    reason="worse",
    model=SHA,
    seal="",
    model_bytes=1,
    metrics={},
    champion_version=1,
    window=SHA,
    sequence=6,
    drift_report="",
    lineage={},
)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (BATCH, "batch 3: 840 new rows, 7 set aside, 2026-01-01 10:00 UTC"),
        (
            BATCH.model_copy(update={"rows": 0, "labelled_rows": 12}),
            "batch 3: 0 new rows, 12 late targets, 7 set aside, 2026-01-01 10:00 UTC",
        ),
        (REPORT, "batch 6: drift: score 0.612, threshold 0.1"),
        (
            REPORT.model_copy(update={"drift_score": None, "verdict": "no reference"}),
            "batch 6: no reference",
        ),
        (MODEL, "model v2 rejected: worse"),
        (
            MODEL.model_copy(
                update={"version": 6, "decision": "promoted", "restores": 2, "reason": "a person"}
            ),
            "model v6 is v2 again: a person",
        ),
        (
            Reference(**BASE, version=2, data=SHA, rows=1680, up_to_sequence=6, model_version=2),
            "reference v2: the 1,680 rows of model v2",
        ),
        (
            Publication(
                **BASE,
                model_version=2,
                commit="a" * 40,
                branch="main",
                tag="t",
                repository="r",
                url=None,
            ),
            "model v2 is commit aaaaaaaaaa on main",
        ),
        (
            Notification(**BASE, title="v2 is the champion", text="", channels={"Discord": "sent"}),
            "v2 is the champion (Discord: sent)",
        ),
        (
            DeadLetter(**BASE, stage="drift", kind="k", reason="why", message={}, attempts=1),
            "given up: why",
        ),
    ],
)
def test_record_in_one_line(record: Record, says: str) -> None:
    said = line(record)
    assert said
    assert said.text == says


CALIBRATED = REPORT.model_copy(
    update={"policy": "calibrated", "p": 3.14e-8, "threshold": 0.00025, "drift_score": 0.34}
)


@pytest.mark.parametrize(
    ("report", "changes", "says"),
    [
        (CALIBRATED, {}, "drift: p = 3.1e-8, threshold 0.00025"),
        (CALIBRATED, {"p": 0.34, "verdict": "no drift"}, "no drift: p = 0.34, threshold 0.00025"),
        (CALIBRATED, {"verdict": "no drift"}, "no drift: p = 3.1e-8, threshold 0.00025"),
        (CALIBRATED, {"p": 0.0}, "drift: p < 1e-16, threshold 0.00025"),
        (CALIBRATED, {"p": None, "drift_score": None, "verdict": "no data"}, "no data"),
        (
            REPORT,
            {"drift_score": 0.1, "verdict": "no drift"},
            "no drift: score 0.100, threshold 0.1",
        ),
        (
            REPORT,
            {"policy": "columns", "drift_score": 0.5, "threshold": 0.5},
            "drift: score 0.500, threshold 0.5",
        ),
        (
            REPORT,
            {"policy": "columns", "drift_score": 0.4, "threshold": 0.5, "verdict": "no drift"},
            "no drift: score 0.400, threshold 0.5",
        ),
    ],
)
def test_decision_shows_the_figures_of_its_policy(
    report: DriftReport, changes: dict[str, Any], says: str
) -> None:
    assert decision(report.model_copy(update=changes)).replace(NO_BREAK, " ") == says


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"verdict": "insufficient data", "p": None, "drift_score": None}, True),
        ({"verdict": "no drift", "p": 1e-9}, True),  # certain, and too small to matter
        ({"verdict": "no drift", "p": 0.34}, False),
        ({"verdict": "no drift", "p": None, "drift_score": 0.01}, False),
    ],
)
def test_reason_is_told_where_the_figures_do_not_say_it(
    changes: dict[str, Any], told: bool
) -> None:
    said = line(CALIBRATED.model_copy(update=changes))
    assert said
    assert said.detail == (REPORT.reason if told else "")


def test_line_is_printed_with_its_detail_below() -> None:
    console = Console(file=StringIO(), width=60)
    LiveView(console).say(Line("drift", "batch 6: [drift]", "yellow", "[red] " + "why " * 20))
    first, *below = cast("StringIO", console.file).getvalue().splitlines()
    assert first == "    drift  batch 6: [drift]"
    assert below[0].startswith(f"{' ' * 11}[red] why")
    assert all(shown.startswith(" " * 11) for shown in below)


@pytest.mark.parametrize("stage", STAGES)
def test_every_event_that_a_stage_handles_has_its_words(stage: Stage) -> None:
    fields = {"sequence": 6, "model_version": 2}
    soon = datetime.now(UTC) + timedelta(seconds=9)
    for kind, consumers in ROUTES.items():
        if stage in consumers:
            work = {"_id": "a", "stage": stage, "event": {"type": kind} | fields}
            assert activities([work | {"lease_until": soon}])["a"].startswith(f"{stage} ")


def test_reading_without_news_is_not_worth_a_line() -> None:
    assert line(BATCH.model_copy(update={"sequence": None, "outcome": "nothing new"})) is None


def test_record_of_the_past_is_not_worth_a_line() -> None:
    retired = RetiredReference(
        **BASE,
        version=1,
        data=SHA,
        rows=1,
        timestamp=NOW,
        drift_score=None,
        feature_drifts={},
    )
    assert line(retired) is None


def test_activities_are_those_with_a_living_lease() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=9)
    event = {"type": "RetrainRequested", "sequence": 6}
    held = {"_id": "a", "stage": "trainer", "event": event, "lease_until": soon}
    lost = held | {"_id": "b", "lease_until": soon - timedelta(minutes=1)}
    waiting = {"_id": "c", "stage": "trainer", "event": event}
    assert activities([held, lost, waiting]) == {"a": "trainer trains a model after batch 6"}
