"""The model card: what a person finds first on the model repository."""

import html
import posixpath
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from services.publisher.signing import Signer
from shared.drift import CellFinding
from shared.git_names import model_tag
from shared.pipeline import Pipeline
from shared.plain_text import without_addresses, without_references
from shared.records import DriftReport, ModelVersion
from shared.wording import NO_BREAK, change, measured, moment, p_equals, percent, probability

METRICS: Final = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "mse": "mean squared error",
    "r2_score": "R²",
    "mape": "mean absolute percentage error",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "area under the ROC curve",
}
"""Key in `metrics.json` -> name, in the order in which they are shown."""

PLOT_FILES: Final = tuple(
    f"plots/{plot}-{theme}.png"
    for plot in ("predictions", "confusion", "error_by_segment", "feature_importance")
    for theme in ("light", "dark")
)
"""The pictures that a card may show."""

_MOST_MOVED: Final = 5
_MOST_SEGMENTS: Final = 20
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_ORDINARY_NAME: Final = re.compile(r"[\w .,:%/()-]+")

_UNSIGNED: Final = """\
**This model is not signed.** Its hashes stand in `manifest.json`, and whoever may push here can
replace both together. Load it only if you trust all who may push.

```python
import hashlib, io, json, pathlib, joblib

data = pathlib.Path("model.joblib").read_bytes()
manifest = json.loads(pathlib.Path("manifest.json").read_text())
if hashlib.sha256(data).hexdigest() != manifest["files"]["model.joblib"]["sha256"]:
    raise ValueError("model.joblib is not the file that manifest.json names")
model = joblib.load(io.BytesIO(data))
predictions = model.predict(rows)  # rows: a DataFrame with the columns named above
```"""

_SIGNED: Final = """\
The tag `@TAG@` is signed with the key @FINGERPRINT@. `trimtab.signers` below is a file with one
line, which you have from those who run Trimtab and not from this repository:
`@PRINCIPAL@ namespaces="git" ssh-ed25519 AAAA…`. The lines read what the signed tag holds, whatever
the branch holds now. They need Git 2.34 and OpenSSH 8.2 or newer. Run them in a clone.

```python
import hashlib, io, json, subprocess, joblib

def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True).stdout

signers = "gpg.ssh.allowedSignersFile=trimtab.signers"
tag = git("-c", signers, "verify-tag", "--format=%(object) %(tag)", "refs/tags/@TAG@").decode()
commit, _, name = tag.strip().partition(" ")
if name != "@TAG@":
    raise ValueError(f"the signature is that of {name}")
data = git("cat-file", "blob", f"{commit}:@FOLDER@model.joblib")
manifest = json.loads(git("cat-file", "blob", f"{commit}:@FOLDER@manifest.json"))
if hashlib.sha256(data).hexdigest() != manifest["files"]["model.joblib"]["sha256"]:
    raise ValueError("model.joblib is not the file that manifest.json names")
model = joblib.load(io.BytesIO(data))
predictions = model.predict(rows)  # rows: a DataFrame with the columns named above
```"""

_LOADING: Final = """\
Loading a joblib file runs code: load only what you trust. `manifest.json` has the SHA-256 of each
file and the versions of the libraries that the model was made with."""


def model_card(
    model: ModelVersion,
    report: DriftReport | None,
    pipeline: Pipeline,
    plots: Collection[str] = (),
    signer: Signer | None = None,
) -> str:
    """The card as Markdown. Texts from data and from definitions stand in it as plain text.

    Args:
        plots: the names of those PLOT_FILES that are published with it.
        signer: whose signature the model's tag has; without one the card says so.
    """
    sections = (
        _head(model, pipeline),
        _reason(model, report),
        _quality(model, pipeline, plots),
        _segments(model, plots),
        _gate(model),
        _importance(model, plots),
        _training(model),
        _lineage(model),
        f"## How to use it\n\n{_use(model, pipeline, signer)}\n\n{_LOADING}",
    )
    card = "\n\n".join(section for section in sections if section) + "\n"
    return card.replace(NO_BREAK, " ")


def _use(model: ModelVersion, pipeline: Pipeline, signer: Signer | None) -> str:
    """The lines that verify and load the model."""
    if signer is None:
        return _UNSIGNED
    folder = posixpath.normpath(pipeline.publish.directory)
    return (
        _SIGNED.replace("@TAG@", model_tag(model.pipeline, model.version))
        .replace("@FOLDER@", "" if folder == "." else f"{folder}/")
        .replace("@FINGERPRINT@", f"`{signer.fingerprint}`")
        .replace("@PRINCIPAL@", signer.principal.replace("`", ""))
    )


def _head(model: ModelVersion, pipeline: Pipeline) -> str:
    training = pipeline.training
    columns = ", ".join(map(_name, training.features))
    used = model.metrics.get("features", {}).get("time_parts", training.time_parts)
    if used:
        parts = ", ".join(used)
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
        f"threshold of {measured(report.threshold)} (policy {_name(report.policy)}). Moved most:"
    )
    return f"{said}\n\n{trigger}\n\n{_movements(report)}"


def _test(report: DriftReport) -> str:
    return (
        f"Batch {report.sequence} would differ so much from the reference by chance with a "
        f"probability of {p_equals(report.p)}; drift is p ≤ {probability(report.threshold)} "
        f"(policy {_name(report.policy)}). What says so:"
    )


def _cells(report: DriftReport) -> str:
    rows = [
        (_name(_place(cell)), _plain(cell.direction), f"{cell.effect:.2f}", probability(cell.p))
        for cell in report.cells[:_MOST_MOVED]
    ]
    return _table(("what", "reference → batch", "effect", "p"), rows)


def _place(cell: CellFinding) -> str:
    column = f"{cell.column}, {cell.other_column}" if cell.other_column else cell.column
    return f"{column} in {cell.segment}" if cell.segment else column


def _movements(report: DriftReport) -> str:
    most = islice(report.feature_drifts.items(), _MOST_MOVED)
    rows = [_movement(name, drift, report) for name, drift in most]
    heading = ("feature", "drift", "mean before", "mean now", "std before", "std now")
    return _table(heading, rows)


def _movement(name: str, drift: float, report: DriftReport) -> tuple[str, ...]:
    stats = report.feature_stats.get(name)  # a category has none
    means = (stats.ref_mean, stats.curr_mean) if stats else (None, None)
    spreads = (stats.ref_std, stats.curr_std) if stats else (None, None)
    return (_name(name), *map(measured, (drift, *means, *spreads)))


def _quality(model: ModelVersion, pipeline: Pipeline, plots: Collection[str]) -> str:
    target = pipeline.training.target
    rival = f" and of {_champion(model)}" if model.metrics.get("champion") else ""
    parts = (
        _comparison(model),
        _metrics(model),
        _data_stats(model),
        f"In the pictures v{model.version} is the challenger." if plots else "",
        _picture(
            "predictions", f"Predicted against actual {target}, of v{model.version}{rival}", plots
        ),
        _picture("confusion", f"Actual and predicted {target} of v{model.version}", plots),
    )
    return "## How good it is\n\n" + "\n\n".join(part for part in parts if part)


def _comparison(model: ModelVersion) -> str:
    """The paired difference in words, with how sure it is; empty if nothing was compared."""
    found: dict[str, Any] | None = model.metrics.get("comparison")
    if not found:
        return ""
    name, (low, high) = f"v{model.version}", found["relative_interval"]
    error, champion = _error_name(found["metric"]), _champion(model)
    share, by = found["relative_difference"], measured(abs(found["difference"]))
    size = "equal to" if share == 0 else f"{_apart(share)} than"
    return (
        f"The {error} of {name} is **{size} that of {champion}** on the same held-out rows"
        f"{f', by {by}' if share else ''}. {_certainty(low, high, name, champion)}\n\n"
        f"How sure that is: the {found['groups']:,} groups of these {found['rows']:,} rows were "
        f"drawn {found['resamples']:,} times at random, some left out and some taken more than "
        f"once. In {percent(found['confidence'])} of the draws the error of {name} was between "
        f"{_apart(low)} and {_apart(high)} than that of {champion}."
    )


def _certainty(low: float, high: float, name: str, champion: str) -> str:
    if high < 0:
        return f"{name} is better, by more than the choice of rows explains."
    if low > 0:
        return f"{name} is worse, by more than the choice of rows explains."
    return f"These rows do not tell {name} and {champion} apart for sure: it may be chance."


def _apart(share: float) -> str:
    """'4.8 % lower', '1.2 % higher'."""
    return f"{percent(abs(share))} {'lower' if share < 0 else 'higher'}"


def _metrics(model: ModelVersion) -> str:
    """The same metrics of the model, of the champion, and of the baseline if there was one."""
    metrics = model.metrics
    champion: dict[str, Any] = metrics.get("champion") or {}
    baseline: dict[str, Any] = metrics.get("baseline") or {}
    before = _champion(model) if champion else "no champion before"
    columns = {f"v{model.version}": metrics, before: champion}
    if baseline:
        columns["baseline"] = baseline
    rows = [
        (name, *(_figure(key, figures) for figures in columns.values()))
        for key, name in METRICS.items()
        if key in metrics
    ]
    table = _table(("on the same held-out rows", *columns), rows)
    if not baseline:
        return table
    return f"{table}\n\nThe baseline always says the {_plain(str(baseline.get('kind', '')))}."


def _figure(metric: str, figures: dict[str, Any]) -> str:
    value = figures.get(metric)
    return percent(value) if metric == "mape" else measured(value)


def _data_stats(model: ModelVersion) -> str:
    stats: dict[str, int] = model.metrics.get("data_stats") or {}
    held_out: dict[str, Any] = model.metrics.get("held_out") or {}
    counts = (
        f"{stats.get('total_samples', 0):,} rows: {stats.get('training_samples', 0):,} to learn "
        f"from, {stats.get('test_samples', 0):,} held out to judge on"
    )
    known = (held_out.get("rows"), _span(held_out))
    said = "; ".join(_plain(part) for part in known if part)
    older = (
        " Some of the rows held out are older than rows learnt from, so the figures may flatter."
        if held_out.get("older_than_training")
        else ""
    )
    return f"{counts} ({said}).{older}" if said else f"{counts}.{older}"


def _span(of: dict[str, Any]) -> str:
    ends = (of.get("first_event_at"), of.get("last_event_at"))
    return " to ".join(moment(datetime.fromisoformat(end)) for end in ends if end)


def _segments(model: ModelVersion, plots: Collection[str]) -> str:
    """The deciding metric within each segment, those with most rows first."""
    segments: list[dict[str, Any]] = model.metrics.get("segments") or []
    if not segments:
        return ""
    column = str(model.metrics.get("segment_column"))
    metric = model.metrics["deciding_metric"]
    has_champion = any(segment["champion"] for segment in segments)
    rival = _champion(model) if has_champion else "baseline"
    models = ("challenger", "champion", "baseline") if has_champion else ("challenger", "baseline")
    rows = [_segment(segment, metric, models) for segment in segments[:_MOST_SEGMENTS]]
    names = (f"v{model.version}", rival, "baseline")[: len(models)]
    changed = ("change of the error",) if has_champion else ()
    table = _table((_name(column), "rows", "groups", *names, *changed), rows)
    alt = f"{_error_name(metric)} by {column}, v{model.version} against {rival}"
    notes = [f"The {METRICS.get(metric, metric)} within each value of {_name(column)}."]
    if len(segments) > _MOST_SEGMENTS:
        notes.append("Those with most rows; all are in `metrics.json`.")
    if any(segment["few"] for segment in segments):
        notes.append("Few: too few rows to decide anything.")
    parts = (" ".join(notes), table, _picture("error_by_segment", alt, plots))
    return "## Where it errs\n\n" + "\n\n".join(part for part in parts if part)


def _segment(segment: dict[str, Any], metric: str, models: Sequence[str]) -> tuple[str, ...]:
    rows = f"{segment['rows']:,}{' (few)' if segment['few'] else ''}"
    figures = (measured((segment[each] or {}).get(metric)) for each in models)
    cells = (_name(segment["segment"]), rows, f"{segment['groups']:,}", *figures)
    if "champion" not in models:
        return cells
    return (*cells, change(segment["relative_difference"]))


_POLICIES: Final = {
    "better": "the whole range of draws is lower",
    "not_worse": "the upper end of the range of draws is at most {margin} higher",
    "always": "the file can be used, whatever its error",
}
"""Policy of the gate -> when a new model passes."""


def _gate(model: ModelVersion) -> str:
    """What the gate asked beside the comparison, and what it found."""
    gate: dict[str, Any] = model.metrics.get("gate") or {}
    guards: list[dict[str, Any]] = gate.get("guards") or []
    if not guards:
        return ""
    when = _POLICIES.get(gate["policy"], "").format(margin=percent(gate.get("margin", 0)))
    rows = [
        (_plain(guard["name"]), "yes" if guard["passed"] else "**no**", _plain(guard["finding"]))
        for guard in guards
    ]
    table = _table(("asked of every new model", "holds", "found"), rows, align="---")
    said = f"Policy {_name(gate['policy'])}: against a champion a new model passes if {when}."
    return f"## What it had to pass\n\n{said}\n\n{table}"


def _importance(model: ModelVersion, plots: Collection[str]) -> str:
    importance: dict[str, float] = model.metrics.get("feature_importance") or {}
    if not importance:
        return "## What it looks at\n\nThe estimator does not tell."
    ranked = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    rows = [(_name(name), percent(share)) for name, share in ranked]
    picture = _picture("feature_importance", "The features with the largest shares", plots)
    table = _table(("feature", "share"), rows)
    return "\n\n".join(part for part in ("## What it looks at", table, picture) if part)


def _training(model: ModelVersion) -> str:
    """The window that it learnt from and what else it was chosen from; empty for old records."""
    parts = (_window(model.metrics.get("window")), _search(model.metrics.get("search")))
    said = [part for part in parts if part]
    return "\n\n".join(("## What it learnt from", *said)) if said else ""


def _window(window: dict[str, Any] | None) -> str:
    if not window:
        return ""
    span = _span(window)
    said = (
        f"Window {_name(str(window['chosen']))} (policy {_name(str(window['policy']))}): "
        f"{window['rows']:,} rows{f', {_plain(span)}' if span else ''}."
    )
    candidates = window.get("candidates") or []
    if not candidates:
        return said
    rows = [
        (_name(str(each["window"])), measured(each["error"]), "yes" if each["chosen"] else "")
        for each in candidates
    ]
    table = _table(("window", "error on later rows", "chosen"), rows)
    return f"{said} Chosen on later rows of the training rows, in the order of time:\n\n{table}"


def _search(search: dict[str, Any] | None) -> str:
    if not search:
        return ""
    return (
        f"Parameters: the best of {search['tried']:,} combinations tried, of {search['of']:,}, in "
        f"{search['seconds']:,.1f} seconds, with an error of {measured(search['error'])} on folds "
        "in the order of time."
    )


def _lineage(model: ModelVersion) -> str:
    lineage = model.lineage
    training = lineage.get("training", {})
    sequences = lineage.get("sequences", ())
    reference = lineage.get("reference_version")
    facts = {
        "batches": ", ".join(map(str, sequences)),
        "reference": f"v{reference}" if reference else "",
        "parameters": _pairs(model.metrics.get("parameters") or training.get("parameters", {})),
        "seed": str(training.get("seed", "")),
        "versions": _pairs(lineage.get("versions", {})),
        "training window (SHA-256)": model.window,
        "run": model.trace_id,
    }
    lines = [f"- {name}: {_plain(fact)}" for name, fact in facts.items() if fact]
    return "## Where it comes from\n\n" + "\n".join(lines)


def _picture(plot: str, alt: str, plots: Collection[str]) -> str:
    """A picture for both of GitHub's themes; empty if it is not published."""
    light, dark = (f"plots/{plot}-{theme}.png" for theme in ("light", "dark"))
    if light not in plots or dark not in plots:
        return ""
    text = html.escape(" ".join(alt.split()))
    return (
        "<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
        f'  <source media="(prefers-color-scheme: light)" srcset="{light}">\n'
        f'  <img alt="{text}" src="{light}" width="760">\n'
        "</picture>"
    )


def _champion(model: ModelVersion) -> str:
    return f"champion v{(model.metrics.get('champion') or {}).get('version', '?')}"


def _error_name(metric: str) -> str:
    """What is smaller for a better model."""
    return "share of wrong classes" if metric == "accuracy" else METRICS.get(metric, metric)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]], align: str = "---:") -> str:
    """A table of names, with figures to their right."""
    rule = ("---", *(align for _ in heading[1:]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows))


def _name(text: str) -> str:
    return f"`{text}`" if _ORDINARY_NAME.fullmatch(text) and text.strip() == text else _plain(text)


def _plain(text: str) -> str:
    """The text on one line, without effect as Markdown: no person, page or picture is named."""
    line = without_references(without_addresses(" ".join(text.split())))
    return _SPECIAL.sub(r"\\\1", line)
