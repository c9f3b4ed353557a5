"""The model card: what a person finds first on the model repository."""

import re
from typing import Any, Final

from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion

_METRICS: Final = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "mse": "mean squared error",
    "r2_score": "R²",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~])")

_LOADING: Final = """```python
import hashlib, json, joblib

data = open("model.joblib", "rb").read()
manifest = json.load(open("manifest.json"))
assert hashlib.sha256(data).hexdigest() == manifest["files"]["model.joblib"]["sha256"]
predictions = joblib.load("model.joblib").predict(rows)  # rows: a DataFrame as the source gives it
```"""


def model_card(model: ModelVersion, report: DriftReport | None, pipeline: Pipeline) -> str:
    """The card as Markdown."""
    parts = [
        f"# {_plain(model.pipeline)}: model v{model.version}",
        _purpose(pipeline),
        _why(model, report),
        "## How good it is",
        _metrics_table(model),
        "## What it looks at",
        _importance_table(model),
        "## How to use it",
        _LOADING,
        "Loading a joblib file runs code: load only what you trust. `manifest.json` has the "
        "SHA-256 of each file and the versions that the model was made with.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _purpose(pipeline: Pipeline) -> str:
    training = pipeline.training
    features = ", ".join(f"`{name}`" for name in (*training.features, *training.time_parts))
    return (
        f"Predicts `{training.target}` ({training.task}) from {features} with a "
        f"{_plain(training.estimator.replace('_', ' '))}."
    )


def _why(model: ModelVersion, report: DriftReport | None) -> str:
    decision = f"Promoted: {_plain(model.reason)}."
    if report is None or report.drift_score is None:
        return decision
    moved = sorted(report.feature_drifts.items(), key=lambda item: -item[1])[:3]
    names = ", ".join(f"`{name}` ({drift:.2f})" for name, drift in moved)
    return (
        f"{decision} It was trained because batch {report.sequence} had a drift score of "
        f"{report.drift_score:.3f}, above {report.threshold:g}; moved most: {names}."
    )


def _metrics_table(model: ModelVersion) -> str:
    champion: dict[str, Any] = model.metrics.get("champion") or {}
    before = f"v{champion['version']}" if champion else "none before"
    lines = [f"| on held-out rows | v{model.version} | {before} |", "| --- | ---: | ---: |"]
    for key, name in _METRICS.items():
        if key in model.metrics:
            new, old = _number(model.metrics[key]), _number(champion.get(key))
            lines.append(f"| {name} | {new} | {old} |")
    stats = model.metrics.get("data_stats", {})
    rows = (
        f"Trained on {stats.get('training_samples', 0):,} rows, judged on "
        f"{stats.get('test_samples', 0):,} newer ones that it has not seen."
    )
    return "\n".join(lines) + "\n\n" + rows


def _importance_table(model: ModelVersion) -> str:
    importance: dict[str, float] = model.metrics.get("feature_importance", {})
    if not importance:
        return "The estimator does not tell."
    ranked = sorted(importance.items(), key=lambda item: -item[1])
    lines = ["| feature | share |", "| --- | ---: |"]
    return "\n".join([*lines, *(f"| `{name}` | {share:.1%} |" for name, share in ranked)])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    """The text without effect as Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
