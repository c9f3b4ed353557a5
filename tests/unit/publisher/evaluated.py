"""`metrics.json` as the trainer writes it for a challenger that was compared with a champion."""

from typing import Any


def errors(mae: float) -> dict[str, float | None]:
    """A regression's metrics, made of one of them."""
    return {"mae": mae, "mse": mae**2, "rmse": mae * 1.25, "r2_score": None, "mape": mae / 100}


def segment(name: str, rows: int, change: float | None = -0.0425) -> dict[str, Any]:
    """One value of the segment column; few below 30 rows; without a change no champion."""
    return {
        "segment": name,
        "rows": rows,
        "groups": rows // 2,
        "few": rows < 30,
        "challenger": errors(6.25),
        "champion": None if change is None else errors(6.5),
        "baseline": errors(14.5),
        "relative_difference": change,
    }


def evaluated(**changes: Any) -> dict[str, Any]:
    """A challenger that is better than champion v2 by 7.25 %."""
    metrics: dict[str, Any] = {
        **errors(6.4571),
        "feature_importance": {"pollutant_max": 0.7, "pollutant_min": 0.3},
        "data_stats": {"total_samples": 500, "training_samples": 400, "test_samples": 100},
        "deciding_metric": "mae",
        "champion": {"version": 2, **errors(6.9714)},
        "baseline": {"kind": "median of the training rows by pollutant_id", **errors(14.9)},
        "comparison": {
            "metric": "mae",
            "difference": -0.5143,
            "interval": [-0.8, -0.1],
            "relative_difference": -0.0725,
            "relative_interval": [-0.1175, -0.0125],
            "confidence": 0.95,
            "rows": 100,
            "groups": 62,
            "resamples": 4000,
            "seed": 42,
        },
        "segment_column": "pollutant_id",
        "segments": [segment("PM2.5", 84), segment("NH3", 16, 0.125)],
        "gate": {
            "policy": "not_worse",
            "margin": 0.01,
            "decision": "promoted",
            "reason": "mean absolute error 6.457",
            "guards": [
                {"name": "better than the baseline", "passed": True, "finding": "6.457 to 14.9"}
            ],
        },
        "held_out": {
            "rows": "the newest, whole groups",
            "first_event_at": "2026-01-01T00:00",
            "last_event_at": "2026-01-02T00:00",
            "older_than_training": False,
        },
        "window": {
            "policy": "auto",
            "chosen": "half_life: 30d",
            "rows": 400,
            "first_event_at": "2025-12-01T00:00",
            "last_event_at": "2026-01-01T00:00",
            "candidates": [
                {"window": "all", "error": 6.875, "chosen": False},
                {"window": "half_life: 30d", "error": 6.625, "chosen": True},
            ],
        },
        "parameters": {"n_estimators": 200},
        "search": {"tried": 12, "of": 24, "seconds": 61.25, "error": 6.125},
    }
    return metrics | changes
