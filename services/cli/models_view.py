"""Model versions on the terminal: the list, one of them whole, two side by side."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.model_comparison import Comparison, Pair
from services.publisher.model_card import METRICS
from shared.records import ModelVersion, Publication
from shared.store import Store
from shared.training import Training

_BESIDE: Final = {"regression": "r2_score", "classification": "accuracy"}
"""Task -> the metric that is listed beside the deciding one."""
_SHORT: Final = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2_score": "R²",
    "log_loss": "log loss",
    "accuracy": "accuracy",
}
_STYLES: Final = {"champion": "bold green", "former champion": "green", "rejected": "yellow"}


def state_of(model: ModelVersion, champion: ModelVersion | None) -> str:
    """'champion', 'former champion' or 'rejected', and what it restores."""
    if model.decision == "rejected":
        return "rejected"
    in_force = champion is not None and champion.version == model.version
    state = "champion" if in_force else "former champion"
    return f"{state}, restores v{model.restores}" if model.restores else state


def models_table(store: Store, pipeline: str, training: Training, limit: int = 0) -> Table:
    """Each version with its metrics and the champion's on the same rows, its state and why."""
    deciding = training.deciding_metric
    metrics = list(dict.fromkeys((deciding, _BESIDE[training.task])))
    table = Table(
        title="Models (in brackets the champion of the time on the same rows)",
        title_justify="left",
    )
    table.add_column("model", justify="right", no_wrap=True)
    table.add_column("after\nbatch", justify="right", no_wrap=True)
    for metric in metrics:
        table.add_column(_SHORT[metric], justify="right")
    table.add_column("rows trained\n/ judged", justify="right")
    table.add_column("state, and why", min_width=22)
    champion = store.champion(pipeline)
    newest_first = list(
        store.find(ModelVersion, {"pipeline": pipeline}, newest_by="version", limit=limit)
    )
    for model in reversed(newest_first):
        table.add_row(
            f"v{model.version}",
            str(model.sequence),
            *_figures(model, metrics),
            _rows(model),
            Text.assemble(_styled(state_of(model, champion)), (f"\n{model.reason}", "dim")),
        )
    return table


def _styled(state: str) -> tuple[str, str]:
    return state, _STYLES[state.partition(",")[0]]


def _figures(model: ModelVersion, metrics: Iterable[str]) -> Iterator[str]:
    champion = {} if model.restores else model.metrics.get("champion") or {}
    for metric in metrics:
        against = champion.get(metric)
        beside = "" if against is None else f" ({number(against)})"
        yield f"{number(model.metrics.get(metric))}{beside}"


def _rows(model: ModelVersion) -> str:
    stats = model.metrics["data_stats"]
    return f"{stats['training_samples']:,} / {stats['test_samples']:,}"


def number(value: float | None) -> str:
    """Three decimals; a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def _figure(metric: str, value: float | None) -> str:
    return f"{value:.1%}" if metric == "mape" and value is not None else number(value)


def model_sheet(model: ModelVersion, state: str, publication: Publication | None) -> Group:
    """All that is recorded of one version."""
    parts: list[RenderableType | None] = [
        Text.assemble((f"{model.pipeline} v{model.version}", "bold"), ": ", _styled(state)),
        Text(model.reason),
        _facts(_facts_of(model, publication)),
        _metrics_table(model),
        _comparison_line(model),
        _guards_table(model),
        _segments_table(model),
        _candidates_table(model),
        _importance(model),
    ]
    return Group(*(part for part in parts if part is not None))


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    return table


def _facts_of(model: ModelVersion, publication: Publication | None) -> Iterator[tuple[str, str]]:
    metrics = model.metrics
    yield "after batch", str(model.sequence)
    yield "recorded", f"{model.recorded_at:%Y-%m-%d %H:%M:%S} UTC"
    if model.champion_version:
        yield "champion then", f"v{model.champion_version}"
    yield "rows trained / judged", _rows(model)
    if window := metrics.get("window"):
        yield "window", f"{window['chosen']} (policy {window['policy']}){_span(window)}"
    if held_out := metrics.get("held_out"):
        older = ", some older than rows learnt from" if held_out.get("older_than_training") else ""
        yield "held out", f"{held_out['rows']}{_span(held_out)}{older}"
    if parameters := metrics.get("parameters"):
        yield "parameters", ", ".join(f"{name} {value}" for name, value in parameters.items())
    if search := metrics.get("search"):
        yield "search", f"{search['tried']} of {search['of']} tried in {search['seconds']:.1f} s"
    if trained_at := metrics.get("trained_at"):
        yield "trained", f"{trained_at}, fit in {metrics['fit_seconds']:.1f} s"
    yield "model", f"{model.model_bytes:,} bytes, SHA-256 {model.model}"
    yield "commit", _commit(model, publication)


def _span(part: dict[str, Any]) -> str:
    ends = [part[end] for end in ("first_event_at", "last_event_at") if part.get(end)]
    return f", {' to '.join(ends)}" if ends else ""


def _commit(model: ModelVersion, publication: Publication | None) -> str:
    if publication:
        where = publication.url or f"{publication.commit} in {publication.repository}"
        return f"{where}, tag {publication.tag}"
    return "not published yet" if model.decision == "promoted" else "none: it was rejected"


def _metrics_table(model: ModelVersion) -> Table:
    """The model, the champion that it was judged against and the baseline, on the same rows."""
    metrics = model.metrics
    columns = {f"v{model.version}": metrics}
    if champion := metrics.get("champion"):
        columns[f"champion v{champion['version']}"] = champion
    if baseline := metrics.get("baseline"):
        columns["baseline"] = baseline
    table = Table("on the held-out rows")
    for name in columns:
        table.add_column(name, justify="right")
    for key, name in METRICS.items():
        if key in metrics:
            deciding = " (decides)" if key == metrics.get("deciding_metric") else ""
            table.add_row(
                name + deciding, *(_figure(key, figures.get(key)) for figures in columns.values())
            )
    if baseline:
        table.caption = f"The baseline says the {baseline['kind']}."
    return table


def _comparison_line(model: ModelVersion) -> Text | None:
    found = model.metrics.get("comparison")
    if not found:
        return None
    low, high = found["relative_interval"]
    return Text(
        f"Difference to the champion: {found['relative_difference']:+.1%}, "
        f"{found['confidence']:.0%} interval {low:+.1%} to {high:+.1%} "
        f"({found['rows']:,} rows in {found['groups']:,} groups)"
    )


def _guards_table(model: ModelVersion) -> Table | None:
    gate = model.metrics.get("gate")
    if not gate:
        return None
    table = Table("the gate asks", "holds", "found", title=f"Policy {gate['policy']}")
    for guard in gate["guards"]:
        holds = Text("yes", "green") if guard["passed"] else Text("no", "bold red")
        table.add_row(guard["name"], holds, Text(guard["finding"]))
    return table


def _segments_table(model: ModelVersion) -> Table | None:
    segments = model.metrics.get("segments")
    if not segments:
        return None
    metric = model.metrics["deciding_metric"]
    table = Table(f"{METRICS[metric]} by {model.metrics['segment_column']}")
    for heading in ("rows", "groups", f"v{model.version}", "champion", "baseline", "change"):
        table.add_column(heading, justify="right")
    for each in segments:
        change = each["relative_difference"]
        table.add_row(
            Text(str(each["segment"])),
            f"{each['rows']:,}{' (few)' if each['few'] else ''}",
            f"{each['groups']:,}",
            *(number((each[who] or {}).get(metric)) for who in _JUDGED),
            "–" if change is None else f"{change:+.1%}",
        )
    return table


_JUDGED: Final = ("challenger", "champion", "baseline")


def _candidates_table(model: ModelVersion) -> Table | None:
    candidates = (model.metrics.get("window") or {}).get("candidates")
    if not candidates:
        return None
    table = Table("window tried", "chosen")
    table.add_column("error on later rows", justify="right")
    for each in candidates:
        table.add_row(each["window"], "yes" if each["chosen"] else "", number(each["error"]))
    return table


def _importance(model: ModelVersion) -> Text | None:
    importance: dict[str, float] = model.metrics.get("feature_importance") or {}
    if not importance:
        return None
    ranked = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    return Text("Looks at " + ", ".join(f"{name} {share:.1%}" for name, share in ranked))


def comparison_sheet(found: Comparison) -> Group:
    """Two versions side by side, and whether that can be done."""
    warning = (
        Text(f"Both judged on {found.judged_on}.")
        if found.same_rows
        else Text(
            f"Judged on different rows ({found.judged_on}): the differences are those of the rows "
            "as well as of the models, and say little.",
            "yellow",
        )
    )
    parts: list[RenderableType] = [_pairs_table("metric", found, found.metrics, METRICS), warning]
    if found.segments:
        heading = f"{METRICS[found.metric]} by {found.segment_column}"
        rows = [each.rows for each in found.segments]
        pairs = [each.pair for each in found.segments]
        parts.append(_pairs_table(heading, found, pairs, {}, rows))
    return Group(*parts)


def _pairs_table(
    heading: str,
    found: Comparison,
    pairs: list[Pair],
    names: dict[str, str],
    rows: list[tuple[int | None, int | None]] | None = None,
) -> Table:
    table = Table(heading)
    for column in (f"v{found.first}", f"v{found.second}", "difference", "in %"):
        table.add_column(column, justify="right")
    if rows:
        table.add_column("rows", justify="right")
    for position, pair in enumerate(pairs):
        counted = [_counts(rows[position])] if rows else []
        table.add_row(Text(names.get(pair.name, pair.name)), *_pair(pair), *counted)
    return table


def _pair(pair: Pair) -> tuple[str, str, str, str]:
    difference = pair.difference
    change = difference / abs(pair.first) if difference is not None and pair.first else None
    return (
        _figure(pair.name, pair.first),
        _figure(pair.name, pair.second),
        "–" if difference is None else f"{difference:+.3f}",
        "–" if change is None else f"{change:+.1%}",
    )


def _counts(rows: tuple[int | None, int | None]) -> str:
    shown = ["–" if count is None else f"{count:,}" for count in rows]
    return shown[0] if shown[0] == shown[1] else " / ".join(shown)
