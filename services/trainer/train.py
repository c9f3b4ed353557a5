"""The training of one model: window, fit, judgement, record."""

import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version
from pickle import UnpicklingError
from typing import Any, Final

import joblib
import pandas as pd
from pydantic import SecretStr
from sklearn.pipeline import Pipeline as Steps

from services.trainer.artifact import dump_model, load_model
from services.trainer.estimators import build_model, input_columns
from services.trainer.evaluation import Metrics, evaluate, feature_importance
from services.trainer.gate import Judged, decide
from services.trainer.window import Split, Window, split, training_window
from shared.artifacts import TamperedArtifact, seal
from shared.events import ModelPromoted, ModelRejected, RetrainRequested, Sha256, caused_fields
from shared.failures import WillNotPass
from shared.frames import to_parquet
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline, Training
from shared.records import DriftReport, ModelVersion
from shared.settings import Settings
from shared.store import Store

_LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "joblib", "trimtab")
_CANNOT_PREDICT: Final = (
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    TypeError,
    UnpicklingError,
    ValueError,
)
"""What a model of other library versions or other columns raises when it is loaded or asked."""


@dataclass(frozen=True)
class Challenger:
    """A fitted model, its bytes, and what it took."""

    model: Steps
    data: bytes
    fit_seconds: float
    trained_at: datetime


def train_model(
    event: RetrainRequested, pipeline: Pipeline, store: Store, settings: Settings
) -> Outcome:
    """Train a challenger on the window, and promote it if it is not worse than the champion.

    Raises:
        WillNotPass: the rows are not there or too few, the estimator or a parameter is wrong,
            MODEL_SIGNING_KEY is not set, or the champion cannot be trusted or cannot predict.
    """
    key = _signing_key(settings)
    window = training_window(event, pipeline, store)
    parts = split(window.rows, pipeline, window.batches[-1].rows)
    champion = _champion(event, parts.held_out, pipeline, store, key)
    challenger = fit_challenger(parts.training, pipeline)
    metrics = evaluate(challenger.model, parts.held_out, pipeline.training)
    verdict = decide(event, pipeline.training.task, metrics, champion, len(parts.held_out))
    model_sha256 = store.put_blob(challenger.data)
    window_sha256 = store.put_blob(to_parquet(window.rows))
    hashes = {"model_sha256": model_sha256, "window_sha256": window_sha256}
    record = ModelVersion(
        **record_fields(event, "trainer"),
        version=_next_version(event.pipeline, store),
        decision=verdict.decision,
        reason=verdict.reason,
        model=model_sha256,
        seal=seal(challenger.data, key),
        model_bytes=len(challenger.data),
        metrics=metrics | _context(challenger, parts, pipeline, champion) | hashes,
        champion_version=champion.version if champion else None,
        window=window_sha256,
        sequence=event.sequence,
        drift_report=_drift_report(event, store),
        lineage=_lineage(event, window, challenger, pipeline.training),
    )
    return Outcome(record, (_decision(event, record, champion, len(window.rows)),))


def _signing_key(settings: Settings) -> SecretStr:
    if settings.model_signing_key is None:
        raise WillNotPass("MODEL_SIGNING_KEY is not set: without it no model can be sealed")
    return settings.model_signing_key


def _champion(
    event: RetrainRequested,
    held_out: pd.DataFrame,
    pipeline: Pipeline,
    store: Store,
    key: SecretStr,
) -> Judged | None:
    champion = store.champion(event.pipeline)
    if champion is None:
        return None
    if event.reason == "reference_set":
        # Decided by a person: the way on where the champion cannot be loaded any more.
        return Judged(champion.version, {})
    return Judged(champion.version, _judge(champion, held_out, pipeline.training, store, key))


def _judge(
    champion: ModelVersion,
    held_out: pd.DataFrame,
    training: Training,
    store: Store,
    key: SecretStr,
) -> Metrics:
    data = store.cached_blob(champion.model)
    begin_anew = "to begin anew, set a reference: trimtab reference set FILE"
    try:
        model = _load_champion(data, champion.model, champion.seal, key)
        return evaluate(model, held_out, training)
    except TamperedArtifact as error:
        raise WillNotPass(
            f"the champion, v{champion.version}, is not to be trusted: {error}; {begin_anew}"
        ) from None
    except _CANNOT_PREDICT as error:
        raise WillNotPass(
            f"the champion, v{champion.version}, cannot predict the held-out rows "
            f"({type(error).__name__}: {error}); {begin_anew}"
        ) from error


@lru_cache(maxsize=2)
def _load_champion(data: bytes, digest: Sha256, sealed: str, key: SecretStr) -> Steps:
    return load_model(data, digest=digest, sealed=sealed, key=key)


def fit_challenger(rows: pd.DataFrame, pipeline: Pipeline) -> Challenger:
    """Fit on all cores that this process may use."""
    model = build_model(pipeline)
    estimator = model.named_steps["estimator"]
    cores_are_open = estimator.get_params().get("n_jobs", "no such parameter") is None
    started_at, started = datetime.now(UTC), time.perf_counter()
    if cores_are_open:
        estimator.set_params(n_jobs=joblib.cpu_count())
    model.fit(rows[input_columns(pipeline)], rows[pipeline.training.target].to_numpy())
    if cores_are_open:
        # The trainer's cores are no part of the model, and would be part of its bytes.
        estimator.set_params(n_jobs=None)
    seconds = time.perf_counter() - started
    return Challenger(model, dump_model(model), seconds, started_at)


def _next_version(pipeline: str, store: Store) -> int:
    newest = store.newest(ModelVersion, {"pipeline": pipeline}, "version")
    return newest.version + 1 if newest else 1


def _drift_report(event: RetrainRequested, store: Store) -> str:
    query = {"pipeline": event.pipeline, "sequence": event.sequence}
    report = store.newest(DriftReport, query, "recorded_at")
    return report.id if report else ""


def _context(
    challenger: Challenger, parts: Split, pipeline: Pipeline, champion: Judged | None
) -> dict[str, Any]:
    """What `metrics.json` says beside the model's own figures."""
    training, held_out = len(parts.training), len(parts.held_out)
    return {
        "feature_importance": feature_importance(challenger.model),
        "data_stats": {
            "total_samples": training + held_out,
            "training_samples": training,
            "test_samples": held_out,
        },
        "champion": {"version": champion.version, **champion.metrics} if champion else None,
        "held_out": _held_out(parts.held_out, pipeline.data.event_time),
        "versions": _versions(),
        "trained_at": challenger.trained_at.isoformat(),
        "fit_seconds": round(challenger.fit_seconds, 3),
    }


def _held_out(rows: pd.DataFrame, event_time: str | None) -> dict[str, str]:
    if event_time is None:
        return {"rows": "chosen by a hash of their group"}
    return {
        "rows": "the newest, whole groups",
        "first_event_at": rows[event_time].min().isoformat(),
        "last_event_at": rows[event_time].max().isoformat(),
    }


@cache
def _versions() -> dict[str, str]:
    """Of what a loaded model depends on, and of this code."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def _lineage(
    event: RetrainRequested, window: Window, challenger: Challenger, training: Training
) -> dict[str, Any]:
    """What it takes, with the window, to train the same model again."""
    return {
        "reason": event.reason,
        "batches": [batch.id for batch in window.batches],
        "sequences": [batch.sequence for batch in window.batches],
        "reference_version": window.reference.version if window.reference else None,
        "training": training.model_dump(mode="json"),
        "hyper_parameters": challenger.model.named_steps["estimator"].get_params(),
        "versions": _versions(),
    }


def _decision(
    event: RetrainRequested, record: ModelVersion, champion: Judged | None, window_rows: int
) -> ModelPromoted | ModelRejected:
    if champion and record.decision == "rejected":
        return ModelRejected(
            **caused_fields(event, "trainer", ModelRejected),
            model_version=record.version,
            champion_version=champion.version,
            sequence=event.sequence,
            window_rows=window_rows,
            reason=record.reason,
        )
    return ModelPromoted(
        **caused_fields(event, "trainer", ModelPromoted),
        model_version=record.version,
        replaced_version=champion.version if champion else None,
        sequence=event.sequence,
        window=record.window,
        window_rows=window_rows,
    )
