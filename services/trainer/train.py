"""The training of one model: window, fit, judgement, record."""

import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

import joblib
import pandas as pd
from pydantic import SecretStr
from sklearn.pipeline import Pipeline as Steps

from services.trainer.artifact import dump_model, load_model
from services.trainer.estimators import build_model, feature_names
from services.trainer.evaluation import Metrics, evaluate, feature_importance
from services.trainer.gate import Verdict, decide
from services.trainer.window import Split, Window, split, training_window
from shared.artifacts import TamperedArtifact, seal, sha256
from shared.events import ModelPromoted, ModelRejected, RetrainRequested, caused_fields
from shared.failures import WillNotPass
from shared.frames import to_parquet
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion
from shared.settings import Settings
from shared.store import Store

_LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "joblib", "trimtab")


@dataclass(frozen=True)
class Challenger:
    """A fitted model and its bytes."""

    model: Steps
    data: bytes
    metrics: Metrics
    fit_seconds: float


def train_model(
    event: RetrainRequested, pipeline: Pipeline, store: Store, settings: Settings
) -> Outcome:
    """Train a challenger on the window, and promote it if it is not worse than the champion.

    Raises:
        WillNotPass: there is nothing to train on, a parameter is wrong, or the champion's bytes are
            not those that were sealed.
    """
    key = _signing_key(settings)
    window = training_window(event, pipeline, store)
    parts = split(window.rows, pipeline)
    challenger = _fit(parts, pipeline)
    champion = store.champion(event.pipeline)
    champion_metrics = _judge_champion(champion, parts, pipeline, store, key) if champion else None
    verdict = decide(
        event,
        pipeline.training.task,
        challenger.metrics,
        champion_metrics,
        champion.version if champion else None,
        len(parts.held_out),
    )
    window_data = store.put_blob(to_parquet(window.rows))
    record = ModelVersion(
        **record_fields(event, "trainer"),
        version=_next_version(event.pipeline, store),
        decision=verdict.decision,
        reason=verdict.reason,
        model=store.put_blob(challenger.data),
        seal=seal(challenger.data, key),
        model_bytes=len(challenger.data),
        metrics=_metrics(challenger, parts, pipeline, champion, champion_metrics),
        champion_version=champion.version if champion else None,
        window=window_data,
        sequence=event.sequence,
        drift_report=_drift_report(event, store),
        lineage=_lineage(event, window, pipeline),
    )
    return Outcome(record, (_decision(event, record, verdict, len(window.rows)),))


def _signing_key(settings: Settings) -> SecretStr:
    if settings.model_signing_key is None:
        raise WillNotPass("MODEL_SIGNING_KEY is not set: models cannot be sealed or checked")
    return settings.model_signing_key


def _fit(parts: Split, pipeline: Pipeline) -> Challenger:
    """Fit on the training rows with all cores, and judge on the held-out ones."""
    model = build_model(pipeline)
    estimator = model.named_steps["estimator"]
    spreads = "n_jobs" in estimator.get_params()
    if spreads:
        estimator.set_params(n_jobs=joblib.cpu_count())
    started = time.perf_counter()
    model.fit(parts.training, parts.training[pipeline.training.target])
    seconds = time.perf_counter() - started
    if spreads:
        # How many cores the trainer had is not part of the model: it would change its bytes.
        estimator.set_params(n_jobs=None)
    metrics = evaluate(model, parts.held_out, pipeline)
    return Challenger(model, dump_model(model), metrics, seconds)


def _judge_champion(
    champion: ModelVersion, parts: Split, pipeline: Pipeline, store: Store, key: SecretStr
) -> Metrics:
    try:
        model = _champion(store.cached_blob(champion.model), champion.model, champion.seal, key)
        return evaluate(model, parts.held_out, pipeline)
    except TamperedArtifact as error:
        raise WillNotPass(f"champion v{champion.version} is not to be trusted: {error}") from None
    except (KeyError, ValueError) as error:
        raise WillNotPass(
            f"champion v{champion.version} cannot predict the new rows ({error}); if the "
            "pipeline's columns have changed, begin anew with `trimtab reference set FILE`"
        ) from None


@lru_cache(maxsize=2)
def _champion(data: bytes, digest: str, sealed: str, key: SecretStr) -> Steps:
    return load_model(data, digest=digest, sealed=sealed, key=key)


def _next_version(pipeline: str, store: Store) -> int:
    newest = store.newest(ModelVersion, {"pipeline": pipeline}, "version")
    return newest.version + 1 if newest else 1


def _drift_report(event: RetrainRequested, store: Store) -> str:
    query = {"pipeline": event.pipeline, "sequence": event.sequence}
    report = store.newest(DriftReport, query, "recorded_at")
    return report.id if report else ""


def _metrics(
    challenger: Challenger,
    parts: Split,
    pipeline: Pipeline,
    champion: ModelVersion | None,
    champion_metrics: Metrics | None,
) -> dict[str, Any]:
    """`metrics.json`: the original workflow's keys, and more."""
    training, held_out = len(parts.training), len(parts.held_out)
    metrics: dict[str, Any] = dict(challenger.metrics)
    metrics["feature_importance"] = feature_importance(challenger.model, feature_names(pipeline))
    metrics["data_stats"] = {
        "total_samples": training + held_out,
        "training_samples": training,
        "test_samples": held_out,
    }
    metrics["champion"] = (
        {"version": champion.version, **(champion_metrics or {})} if champion else None
    )
    metrics["held_out"] = _held_out_span(parts.held_out, pipeline)
    metrics["versions"] = library_versions()
    metrics["model_sha256"] = sha256(challenger.data)
    metrics["trained_at"] = datetime.now(UTC).isoformat()
    metrics["fit_seconds"] = round(challenger.fit_seconds, 3)
    return metrics


def _held_out_span(rows: pd.DataFrame, pipeline: Pipeline) -> dict[str, Any]:
    time = pipeline.data.event_time
    if not time:
        return {"policy": "rows chosen by a hash of their values"}
    return {
        "policy": "the newest rows, whole groups",
        "first_event_at": rows[time].min().isoformat(),
        "last_event_at": rows[time].max().isoformat(),
    }


def library_versions() -> dict[str, str]:
    """The versions that a loaded model depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def _lineage(event: RetrainRequested, window: Window, pipeline: Pipeline) -> dict[str, Any]:
    """What it takes to train the same model again."""
    return {
        "reason": event.reason,
        "batches": [batch.id for batch in window.batches],
        "sequences": [batch.sequence for batch in window.batches],
        "reference_version": window.reference.version if window.reference else None,
        "training": pipeline.training.model_dump(mode="json"),
        "versions": library_versions(),
    }


def _decision(
    event: RetrainRequested, record: ModelVersion, verdict: Verdict, window_rows: int
) -> ModelPromoted | ModelRejected:
    if verdict.decision == "promoted" or record.champion_version is None:
        return ModelPromoted(
            **caused_fields(event, "trainer", ModelPromoted),
            model_version=record.version,
            replaced_version=record.champion_version,
            sequence=event.sequence,
            window=record.window,
            window_rows=window_rows,
        )
    return ModelRejected(
        **caused_fields(event, "trainer", ModelRejected),
        model_version=record.version,
        champion_version=record.champion_version,
        sequence=event.sequence,
        reason=verdict.reason,
    )
