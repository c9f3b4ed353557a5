"""What the notifier finds: a new model, the drift that asked for it, the events."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.drift import CellFinding, FeatureStats
from shared.events import DriftFound, ModelPromoted, deterministic_id
from shared.records import DriftReport, ModelVersion

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRACE = deterministic_id("a trace")


@pytest.fixture
def base() -> dict[str, Any]:
    """The base fields of an event."""
    return {
        "event_id": deterministic_id("an event"),
        "trace_id": TRACE,
        "pipeline": "air_quality",
        "occurred_at": NOW,
    }


@pytest.fixture
def promotion(base: dict[str, Any]) -> ModelPromoted:
    """v3 takes the place of v2."""
    return ModelPromoted(
        **base,
        model_version=3,
        replaced_version=2,
        sequence=7,
        window="0" * 64,
        window_rows=13_200,
    )


@pytest.fixture
def model() -> ModelVersion:
    """v3, better than v2 in every metric."""
    return ModelVersion(
        id="trainer:model",
        pipeline="air_quality",
        trace_id=TRACE,
        recorded_at=NOW,
        version=3,
        decision="promoted",
        reason="mean absolute error 6.457, not worse than v2's 6.971",
        model="0" * 64,
        seal="",
        model_bytes=1,
        metrics={
            "mae": 6.4571,
            "mse": 112.25,
            "r2_score": 0.8125,
            "champion": {"version": 2, "mae": 6.9714, "mse": 130.5, "r2_score": None},
            "feature_importance": {"pollutant_max": 0.7},
        },
        champion_version=2,
        window="0" * 64,
        sequence=7,
        drift_report="drift:report",
        lineage={},
    )


@pytest.fixture
def report() -> DriftReport:
    """Four features: three moved, one of them by much; one is as it was."""
    drifts = {"pollutant_max": 0.61, "pollutant_avg": 0.3, "pollutant_min": 0.05, "humidity": 0.0}
    means = {
        "pollutant_min": (20.0, 21.0),
        "humidity": (55.0, 55.0),
        "pollutant_max": (82.125, 132.5),
        "pollutant_avg": (50.0, None),
    }
    return DriftReport(
        id="drift:report",
        pipeline="air_quality",
        trace_id=TRACE,
        recorded_at=NOW,
        verdict="drift",
        needs_retraining=True,
        reason="the columns' mean change 0.241 > 0.1",
        drift_score=0.24123,
        threshold=0.1,
        policy="mean_std_change",
        feature_drifts=drifts,
        feature_stats={
            name: FeatureStats(
                ref_mean=reference,
                curr_mean=current,
                ref_std=1.0,
                curr_std=1.0,
                ref_rows=100,
                curr_rows=100,
            )
            for name, (reference, current) in means.items()
        },
        timestamp=NOW,
        sequence=7,
        batch_id="ingest:batch",
        batch_rows=3_300,
        reference_version=2,
        reference_rows=9_900,
    )


def cell(**changes: Any) -> CellFinding:
    """PM2.5 rose in Delhi."""
    fields: dict[str, Any] = {
        "kind": "number",
        "column": "PM2.5",
        "segment": "Delhi",
        "p": 3.14e-8,
        "effect": 0.342,
        "speaks": True,
        "direction": "median 84 → 131",
        "reference_rows": 1_640,
        "current_rows": 1_190,
    }
    return CellFinding(**(fields | changes))


@pytest.fixture
def calibrated(report: DriftReport) -> DriftReport:
    """Four cells speak, in the sum of the last 24 batches."""
    cells = [
        cell(),
        cell(segment=None, p=1e-20, effect=0.2),
        cell(kind="missing", column="CO", segment=None, p=0.00002, direction="missing 2 % → 7 %"),
        cell(kind="pair", column="NO2", other_column="CO", segment="Agra", p=None),
    ]
    return report.model_copy(
        update={
            "reason": "PM2.5 in Delhi: median 84 → 131 (p = 3.1e-8, threshold 0.00025)",
            "policy": "calibrated",
            "p": 3.14e-8,
            "threshold": 0.00025,
            "drift_score": 0.342,
            "cells": cells,
            "window_batches": 24,
        }
    )


@pytest.fixture
def drift(base: dict[str, Any], calibrated: DriftReport) -> DriftFound:
    return DriftFound(
        **base, sequence=7, rows=3_300, report=calibrated.id, reason=calibrated.reason
    )
