"""A replay's results: as a table, as JSON, and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType

from services.cli.listing import Listing, right
from services.cli.literal import Text
from services.cli.replay.play import Played, Replayed
from shared.training import ERROR_NAMES
from shared.wording import NO_FIGURE

_BESIDE: Final = 5
"""At most this many policies are shown beside each other."""
_MEGABYTE: Final = 1e6
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which colour-blind readers can tell apart."""
_MARKERS: Final = "osD^vP*"


def summary_table(replayed: Sequence[Replayed]) -> Listing:
    """A line a policy: its error on rows before it learnt from them, and what that took."""
    best = min((each.error for each in replayed if each.error is not None), default=None)
    figures = ("mean error", "trained", "promoted", "rejected", "published")
    listing = Listing("policy", *map(right, figures))
    for each in replayed:
        style = "bold green" if each.error is not None and each.error == best else ""
        listing.add_row(
            each.policy,
            Text(_figure(each.error), style=style),
            str(each.trainings),
            str(each.promotions),
            str(each.trainings - each.promotions),
            f"{each.published_bytes / _MEGABYTE:.1f} MB",
        )
    return listing


def batches_table(replayed: Sequence[Replayed]) -> Group:
    """A line a batch, a column a policy: the champion's error on it before it was learnt from.

    Behind each error stands what the policy did then: P promoted a model, r rejected one. Policies
    that do not fit beside each other are shown below each other.
    """
    tables: list[RenderableType] = []
    for first in range(0, len(replayed), _BESIDE):
        some = replayed[first : first + _BESIDE]
        listing = Listing("batch", right("rows"), *(right(each.policy) for each in some))
        for batches in zip(*(each.batches for each in some), strict=True):
            cells = [f"{_figure(batch.error)} {_mark(batch)}" for batch in batches]
            listing.add_row(_short(batches[0].file), f"{batches[0].rows:,}", *cells)
        tables += [listing, ""]
    caption = Text("P: a model was promoted then; r: one was rejected; -: none was trained", "dim")
    return Group(*tables, caption, "")


def _figure(error: float | None) -> str:
    return NO_FIGURE if error is None else f"{error:.3f}"


def _mark(batch: Played) -> str:
    return "P" if batch.promoted else "r" if batch.trained else "-"


def as_json(replayed: Sequence[Replayed]) -> list[dict[str, Any]]:
    """All figures as JSON types."""
    return [
        {
            "policy": each.policy,
            "metric": each.metric,
            "mean_error": each.error,
            "trained": each.trainings,
            "promoted": each.promotions,
            "rejected": each.trainings - each.promotions,
            "published_bytes": each.published_bytes,
            "batches": [asdict(batch) for batch in each.batches],
        }
        for each in replayed
    ]


def plot(replayed: Sequence[Replayed], file: Path) -> None:
    """Draw the errors by batch, a line a policy, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [batch.file for batch in replayed[0].batches]
    figure = Figure(figsize=(max(7.6, 0.5 * len(names) + 3), 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, each in enumerate(replayed):
        mean = _figure(each.error)
        axes.plot(
            range(len(names)),
            [float("nan") if batch.error is None else batch.error for batch in each.batches],
            marker=_MARKERS[number % len(_MARKERS)],
            color=_COLOURS[number % len(_COLOURS)],
            label=f"{each.policy}: {mean}",
        )
    labels = [_short(name).replace("$", r"\$") for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=35, ha="right")
    axes.set_ylabel(f"{ERROR_NAMES[replayed[0].metric]},\nbefore it was learnt from")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#d9d9d2", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", title="policy: mean", frameon=False)
    figure.savefig(file, format="png", metadata={"Software": None})


def _short(name: str) -> str:
    """Without what says how the table is written."""
    return name.partition(".")[0]
