"""The model card: what a person finds first on the model repository."""

import re
from collections.abc import Sequence
from typing import Any, Final

from shared.drift import CellFinding
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion

METRICS: Final = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "mse": "mean squared error",
    "r2_score": "R²",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
"""Key in `metrics.json` -> name, in the order in which they are shown."""

_MOST_MOVED: Final = 5
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_ORDINARY_NAME: Final = re.compile(r"[\w .%/()-]+")

_LOADING: Final = """```python
import hashlib, json, pathlib, joblib

expected = json.loads(pathlib.Path("manifest.json").read_text())["files"]["model.joblib"]["sha256"]
assert hashlib.sha256(pathlib.Path("model.joblib").read_bytes()).hexdigest() == expected
model = joblib.load("model.joblib")
predictions = model.predict(rows)  # rows: a DataFrame with the columns named above
```

Loading a joblib file runs code: load only what you trust. `manifest.json` has the SHA-256 of each
file and the versions of the libraries that the model was made with."""


def model_card(model: ModelVersion, report: DriftReport | None, pipeline: Pipeline) -> str:
    """The card as Markdown. Texts from data and from definitions stand in it as plain text."""
    sections = (
        _head(model, pipeline),
        _reason(model, report),
        _quality(model),
        _importance(model),
        f"## How to use it\n\n{_LOADING}",
        _lineage(model),
    )
    return "\n\n".join(sections) + "\n"


def _head(model: ModelVersion, pipeline: Pipeline) -> str:
    training = pipeline.training
    columns = ", ".join(map(_name, training.features))
    if training.time_parts:
        parts = ", ".join(training.time_parts)
        columns += f" and the {parts} of {_name(pipeline.data.event_time or '')}"
    estimator = _plain(training.estimator.replace("_", " "))
    return (
        f"# {_plain(model.pipeline)}: model v{model.version}\n\n"
        f"Predicts {_name(training.target)} ({training.task}, {estimator}) from {columns}."
    )


def _reason(model: ModelVersion, report: DriftReport | None) -> str:
    said = f"## Why it was trained\n\nPromoted: {_plain(model.reason).rstrip('.')}."
    if report is None:
        return said
    if report.drift_score is None:
        return f"{said} Batch {report.sequence}: {report.verdict}."
    if report.p is not None:
        return f"{said}\n\n{_test(report)}\n\n{_cells(report)}"
    trigger = (
        f"Batch {report.sequence} has a drift score of {report.drift_score:.3f} against a "
        f"threshold of {report.threshold:g} (policy {_name(report.policy)}). Moved most:"
    )
    return f"{said}\n\n{trigger}\n\n{_movements(report)}"


def _test(report: DriftReport) -> str:
    return (
        f"Batch {report.sequence} would differ so much from the reference by chance with a "
        f"probability of p = {report.p:.2g}; drift is p ≤ {report.threshold:g} "
        f"(policy {_name(report.policy)}). What says so:"
    )


def _cells(report: DriftReport) -> str:
    rows = [
        (_name(_place(cell)), _plain(cell.direction), f"{cell.effect:.2f}", f"{cell.p or 0:.1e}")
        for cell in report.cells[:_MOST_MOVED]
    ]
    return _table(("what", "reference → batch", "effect", "p"), rows)


def _place(cell: CellFinding) -> str:
    column = f"{cell.column}, {cell.other_column}" if cell.other_column else cell.column
    return f"{column} in {cell.segment}" if cell.segment else column


def _movements(report: DriftReport) -> str:
    ranked = sorted(report.feature_drifts.items(), key=lambda item: (-item[1], item[0]))
    rows = [_movement(name, drift, report) for name, drift in ranked[:_MOST_MOVED]]
    heading = ("feature", "drift", "mean before", "mean now", "std before", "std now")
    return _table(heading, rows)


def _movement(name: str, drift: float, report: DriftReport) -> tuple[str, ...]:
    stats = report.feature_stats.get(name)  # a category has none
    means = (stats.ref_mean, stats.curr_mean) if stats else (None, None)
    spreads = (stats.ref_std, stats.curr_std) if stats else (None, None)
    return (_name(name), *map(_number, (drift, *means, *spreads)))


def _quality(model: ModelVersion) -> str:
    champion: dict[str, Any] = model.metrics.get("champion") or {}
    before = f"champion v{champion.get('version', '?')}" if champion else "no champion before"
    rows = [
        (name, _number(model.metrics[key]), _number(champion.get(key)))
        for key, name in METRICS.items()
        if key in model.metrics
    ]
    table = _table(("on the same held-out rows", f"v{model.version}", before), rows)
    return f"## How good it is\n\n{table}\n\n{_data_stats(model)}"


def _data_stats(model: ModelVersion) -> str:
    stats: dict[str, int] = model.metrics.get("data_stats") or {}
    held_out: dict[str, Any] = model.metrics.get("held_out") or {}
    counts = (
        f"{stats.get('total_samples', 0):,} rows: {stats.get('training_samples', 0):,} to learn "
        f"from, {stats.get('test_samples', 0):,} held out to judge on"
    )
    span = [held_out[end] for end in ("first_event_at", "last_event_at") if held_out.get(end)]
    return f"{counts} ({_plain(' to '.join(map(str, span)))})." if span else f"{counts}."


def _importance(model: ModelVersion) -> str:
    importance: dict[str, float] = model.metrics.get("feature_importance") or {}
    if not importance:
        return "## What it looks at\n\nThe estimator does not tell."
    ranked = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    rows = [(_name(name), f"{share:.1%}") for name, share in ranked]
    return f"## What it looks at\n\n{_table(('feature', 'share'), rows)}"


def _lineage(model: ModelVersion) -> str:
    lineage = model.lineage
    training = lineage.get("training", {})
    sequences = lineage.get("sequences", ())
    reference = lineage.get("reference_version")
    facts = {
        "batches": ", ".join(map(str, sequences)),
        "reference": f"v{reference}" if reference else "",
        "parameters": _pairs(training.get("parameters", {})),
        "seed": str(training.get("seed", "")),
        "versions": _pairs(lineage.get("versions", {})),
        "training window (SHA-256)": model.window,
        "run": model.trace_id,
    }
    lines = [f"- {name}: {_plain(fact)}" for name, fact in facts.items() if fact]
    return "## Where it comes from\n\n" + "\n".join(lines)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of names, with figures to their right."""
    rule = ("---", *("---:" for _ in heading[1:]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def _name(text: str) -> str:
    return f"`{text}`" if _ORDINARY_NAME.fullmatch(text) and text.strip() == text else _plain(text)


def _plain(text: str) -> str:
    """The text on one line, without effect as Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
