"""A promotion as the notifier finds it: the new model, the drift that asked for it, the events."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.events import ModelPromoted, deterministic_id
from shared.records import DriftReport, FeatureStats, ModelVersion

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
    drifts = {"pollutant_min": 0.05, "humidity": 0.0, "pollutant_max": 0.61, "pollutant_avg": 0.3}
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
