"""Model versions on the terminal: the list, one of them whole, two side by side."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table

from services.cli.listing import Listing, right
from services.cli.literal import Text
from services.cli.model_comparison import Comparison, Pair, event_span
from services.publisher.model_card import METRICS
from shared.records import ModelVersion, Publication
from shared.store import Store
from shared.training import Training
from shared.wording import NO_FIGURE, change, moment, percent

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


def models_table(store: Store, pipeline: str, training: Training, limit: int = 0) -> Listing:
    """Each version with its metrics and the champion's on the same rows, its state and why."""
    deciding = training.deciding_metric
    metrics = list(dict.fromkeys((deciding, _BESIDE[training.task])))
    listing = Listing(
        "model",
        right("after\nbatch"),
        "state",
        *(right(_SHORT[metric]) for metric in metrics),
        right("rows trained\n/ judged"),
        title="Models (in brackets: the champion of the time on the same rows)",
        empty="No models yet. The first batches make the first one, or `trimtab reference set "
        "FILE`.",
    )
    champion = store.champion(pipeline)
    newest_first = list(
        store.find(ModelVersion, {"pipeline": pipeline}, newest_by="version", limit=limit)
    )
    for model in reversed(newest_first):
        state = state_of(model, champion)
        restored = f"It restores v{model.restores}: " if model.restores else ""
        listing.add_row(
            f"v{model.version}",
            str(model.sequence),
            Text(state.partition(",")[0], _styled(state)[1]),
            *_figures(model, metrics),
            _rows(model),
            notes=(Text(f"{restored}{model.reason}", "dim"),),
        )
    return listing


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
    return NO_FIGURE if value is None else f"{value:.3f}"


def _figure(metric: str, value: float | None) -> str:
    return percent(value) if metric == "mape" else number(value)


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
    yield "recorded", moment(model.recorded_at, seconds=True)
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
        at = moment(datetime.fromisoformat(trained_at), seconds=True)
        yield "trained", f"{at}, fit in {metrics['fit_seconds']:.1f} s"
    yield "model", f"{model.model_bytes:,} bytes, SHA-256 {model.model}"
    yield "commit", _commit(model, publication)


def _span(part: dict[str, Any]) -> str:
    span = event_span(part)
    return f", {span}" if span else ""


def _commit(model: ModelVersion, publication: Publication | None) -> str:
    if publication:
        where = publication.url or f"{publication.commit} in {publication.repository}"
        return f"{where}, tag {publication.tag}"
    return "not published yet" if model.decision == "promoted" else "none: it was rejected"


def _metrics_table(model: ModelVersion) -> Group:
    """The model, the champion that it was judged against and the baseline, on the same rows."""
    metrics = model.metrics
    columns = {f"v{model.version}": metrics}
    if champion := metrics.get("champion"):
        columns[f"champion v{champion['version']}"] = champion
    if baseline := metrics.get("baseline"):
        columns["baseline"] = baseline
    listing = Listing("on the held-out rows", *map(right, columns))
    for key, name in METRICS.items():
        if key in metrics:
            deciding = " (decides)" if key == metrics.get("deciding_metric") else ""
            listing.add_row(
                name + deciding, *(_figure(key, figures.get(key)) for figures in columns.values())
            )
    says = f"The baseline says the {baseline['kind']}." if baseline else ""
    return Group(listing, *([Text(says, "dim")] if says else []))


def _comparison_line(model: ModelVersion) -> Text | None:
    found = model.metrics.get("comparison")
    if not found:
        return None
    low, high = found["relative_interval"]
    return Text(
        f"Difference to the champion: {change(found['relative_difference'])}, "
        f"{percent(found['confidence'])} interval {change(low)} to {change(high)} "
        f"({found['rows']:,} rows in {found['groups']:,} groups)"
    )


def _guards_table(model: ModelVersion) -> Listing | None:
    gate = model.metrics.get("gate")
    if not gate:
        return None
    listing = Listing("the gate asks", "holds", title=f"Policy {gate['policy']}")
    for guard in gate["guards"]:
        holds = Text("yes", "green") if guard["passed"] else Text("no", "bold red")
        listing.add_row(guard["name"], holds, notes=(Text(guard["finding"], "dim"),))
    return listing


def _segments_table(model: ModelVersion) -> Listing | None:
    segments = model.metrics.get("segments")
    if not segments:
        return None
    metric = model.metrics["deciding_metric"]
    listing = Listing(
        f"{METRICS[metric]} by {model.metrics['segment_column']}",
        *map(right, ("rows", "groups", f"v{model.version}", "champion", "baseline", "change")),
    )
    for each in segments:
        listing.add_row(
            str(each["segment"]),
            f"{each['rows']:,}{' (few)' if each['few'] else ''}",
            f"{each['groups']:,}",
            *(number((each[who] or {}).get(metric)) for who in _JUDGED),
            change(each["relative_difference"]),
        )
    return listing


_JUDGED: Final = ("challenger", "champion", "baseline")


def _candidates_table(model: ModelVersion) -> Listing | None:
    candidates = (model.metrics.get("window") or {}).get("candidates")
    if not candidates:
        return None
    listing = Listing("window tried", "chosen", right("error on later rows"))
    for each in candidates:
        listing.add_row(each["window"], "yes" if each["chosen"] else "", number(each["error"]))
    return listing


def _importance(model: ModelVersion) -> Text | None:
    importance: dict[str, float] = model.metrics.get("feature_importance") or {}
    if not importance:
        return None
    ranked = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    return Text("Looks at " + ", ".join(f"{name} {percent(share)}" for name, share in ranked))


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
) -> Listing:
    figures = (f"v{found.first}", f"v{found.second}", "difference", "in %")
    listing = Listing(heading, *map(right, figures), *([right("rows")] if rows else []))
    for position, pair in enumerate(pairs):
        counted = [_counts(rows[position])] if rows else []
        listing.add_row(names.get(pair.name, pair.name), *_pair(pair), *counted)
    return listing


def _pair(pair: Pair) -> tuple[str, str, str, str]:
    difference = pair.difference
    relative = difference / abs(pair.first) if difference is not None and pair.first else None
    return (
        _figure(pair.name, pair.first),
        _figure(pair.name, pair.second),
        NO_FIGURE if difference is None else f"{difference:+.3f}",
        change(relative),
    )


def _counts(rows: tuple[int | None, int | None]) -> str:
    shown = [NO_FIGURE if count is None else f"{count:,}" for count in rows]
    return shown[0] if shown[0] == shown[1] else " / ".join(shown)
