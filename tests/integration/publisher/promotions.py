"""Promoted models as the trainer leaves them in the store; the model's bytes are opaque."""

from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from shared.artifacts import sealed, sha256
from shared.events import ModelPromoted, deterministic_id
from shared.records import DriftReport, FeatureStats, ModelVersion
from shared.store import Store

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
KEY = SecretStr("a signing key for tests only")


def model_bytes(version: int) -> bytes:
    """Bytes that no text encoding, line ending or filter leaves as they are."""
    return b"\x78\x9c\x00\xff\r\n" * 200 + f"model {version}\n\n".encode()


def model_version(version: int, **changes: Any) -> ModelVersion:
    """A promoted model that is better than the version before."""
    data = model_bytes(version)
    fields: dict[str, Any] = {
        "id": f"trainer:{version}",
        "pipeline": "air_quality",
        "trace_id": deterministic_id("trace", version),
        "recorded_at": NOW,
        "version": version,
        "decision": "promoted",
        "reason": "mean absolute error 6.457, not worse than before",
        "model": sha256(data),
        "seal": "",
        "model_bytes": len(data),
        "metrics": {
            "mae": 6.4571,
            "mse": 112.25,
            "r2_score": 0.8125,
            "feature_importance": {"pollutant_max": 0.7, "pollutant_min": 0.3},
            "data_stats": {"total_samples": 500, "training_samples": 400, "test_samples": 100},
            "champion": {"version": version - 1, "mae": 6.9714, "mse": 130.5, "r2_score": None},
        },
        "champion_version": version - 1,
        "window": sha256(b"window"),
        "sequence": version,
        "drift_report": f"drift:{version}",
        "lineage": {
            "reason": "drift",
            "sequences": [1, 2, 3],
            "reference_version": 1,
            "training": {"parameters": {"n_estimators": 100}, "seed": 42},
            "versions": {"python": "3.11.2", "scikit-learn": "1.7.0"},
        },
    }
    model = ModelVersion(**(fields | changes))
    return model if "seal" in changes else sealed(model, KEY)


def promotion(model: ModelVersion) -> ModelPromoted:
    """The event of a promoted model."""
    return ModelPromoted(
        event_id=deterministic_id("promotion", model.pipeline, model.version),
        trace_id=model.trace_id,
        pipeline=model.pipeline,
        occurred_at=NOW,
        model_version=model.version,
        replaced_version=model.champion_version,
        sequence=model.sequence,
        window=model.window,
        window_rows=500,
    )


def drift_report(version: int, **changes: Any) -> DriftReport:
    """The report that asked for a version: one feature moved far, one little."""
    drifts = {"pollutant_max": 0.61, "pollutant_min": 0.05}
    figures = {"ref_mean": 82.125, "curr_mean": 132.5, "ref_std": 10.0, "curr_std": None}
    fields: dict[str, Any] = {
        "id": f"drift:{version}",
        "pipeline": "air_quality",
        "trace_id": deterministic_id("trace", version),
        "recorded_at": NOW,
        "verdict": "drift",
        "needs_retraining": True,
        "drift_score": 0.33,
        "threshold": 0.1,
        "policy": "mean_std_change",
        "feature_drifts": drifts,
        "feature_stats": {
            name: FeatureStats(**figures, ref_rows=100, curr_rows=100) for name in drifts
        },
        "timestamp": NOW,
        "sequence": version,
        "batch_id": f"ingest:{version}",
        "batch_rows": 3_300,
        "reference_version": 1,
        "reference_rows": 9_900,
    }
    return DriftReport(**(fields | changes))


def promoted(store: Store, version: int, **changes: Any) -> ModelPromoted:
    """Put a promotion into the store as the trainer would, and return its event."""
    model = model_version(version, **changes)
    store.put_blob(model_bytes(version))
    store.record(drift_report(version))
    event = promotion(model)
    store.record(model, [event])
    return event
