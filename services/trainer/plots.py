"""A model's pictures for its card: what it predicts, where it errs, what it looks at.

Each is made for a light and a dark page. Only figures and names of classes, segments and columns
get into them. Matplotlib's global state is not touched; the same input gives the same bytes.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray
from PIL import Image

from shared.scoring import Floats, Predicted
from shared.training import ERROR_NAMES
from shared.wording import change, measured, percent

WIDTH: Final = 7.6
"""Inches; 1520 pixels, shown as 760."""
MOST_CLASSES: Final = 12
MOST_SEGMENTS: Final = 15
MOST_FEATURES: Final = 15

_DPI: Final = 200
_COLOURS: Final = 96
_FONT: Final = "DejaVu Sans"
_TITLE, _LABEL, _TICK, _NOTE = 13.5, 12.5, 12, 11.5
_LONGEST_NAME: Final = 40
_LEFT, _RIGHT = 0.15, WIDTH - 0.15

_MOST_DOTS: Final = 400
"""More rows than this are counted in hexagons."""
_HEXAGONS: Final = 34
_SHOWN: Final = (0.002, 0.998)
"""The axes span these quantiles; rows beyond are drawn at the edge."""
_LARGEST: Final = 1e100
"""Of a value that is drawn: the square of the span has to be a float."""

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, overrides of the reading direction, and halves of UTF-16 pairs."""


@dataclass(frozen=True)
class Theme:
    """The colours of a page, told apart by those who see no red or no green too."""

    name: str
    page: str
    ink: str
    soft: str
    line: str
    challenger: str
    champion: str
    challenger_scale: tuple[str, ...]
    """From one row to many."""
    champion_scale: tuple[str, ...]


THEMES: Final = (
    Theme(
        name="light",
        page="#ffffff",
        ink="#1f2328",
        soft="#59636e",
        line="#d1d9e0",
        challenger="#b8480a",
        champion="#41719f",
        challenger_scale=("#fbdfc9", "#ec9a55", "#b8480a", "#4f1d00"),
        champion_scale=("#d5e3f3", "#7ea6d3", "#2f669e", "#0f2747"),
    ),
    Theme(
        name="dark",
        page="#0d1117",
        ink="#f0f6fc",
        soft="#9198a1",
        line="#3d444d",
        challenger="#ffa25f",
        champion="#79b0ea",
        challenger_scale=("#54301a", "#a85f2c", "#ffa25f", "#fff3e8"),
        champion_scale=("#1d3a5c", "#43729f", "#79b0ea", "#eff7ff"),
    ),
)
"""For GitHub's backgrounds."""


def render_plots(
    target: str,
    actual: pd.Series,
    challenger: Predicted,
    champion: Predicted | None,
    metrics: Mapping[str, Any],
) -> dict[str, bytes]:
    """The pictures that the figures allow, as PNG of 1520 pixels' width, each below 120 kB.

    Args:
        target: the column that is predicted.
        actual: its values in the held-out rows, of shape (n_rows,), all known.
        challenger: its predictions of those rows (`shared.scoring.predict`).
        champion: its predictions of the same rows; none if there is no champion.
        metrics: `metrics.json`.

    Returns:
        File name -> PNG, such as `plots/feature_importance-dark.png`: the predictions (regression)
        or the confusion matrix (classification); the error by segment, if there are segments; the
        importance of features, if the estimator tells.
    """
    drawings: dict[str, Callable[[Theme], Figure]] = {}
    if isinstance(challenger, pd.DataFrame):
        matrix = count_classes(actual.astype(str).to_numpy(), challenger)
        drawings["confusion"] = lambda theme: confusion_figure(target, matrix, theme)
    else:
        panels = panels_of(challenger, champion, metrics)
        values = actual.to_numpy(dtype=np.float64)
        drawings["predictions"] = lambda theme: predictions_figure(target, values, panels, theme)
    if metrics.get("segments"):
        drawings["error_by_segment"] = lambda theme: segments_figure(metrics, theme)
    if importance := metrics.get("feature_importance"):
        drawings["feature_importance"] = lambda theme: importance_figure(importance, theme)
    return {
        f"plots/{name}-{theme.name}.png": _png(draw(theme))
        for name, draw in drawings.items()
        for theme in THEMES
    }


@dataclass(frozen=True)
class Panel:
    """One model's predictions."""

    title: str
    error: str
    predicted: Floats
    is_champion: bool

    def scale(self, theme: Theme) -> tuple[str, ...]:
        """The model's colours."""
        return theme.champion_scale if self.is_champion else theme.challenger_scale


def panels_of(
    challenger: Floats, champion: Predicted | None, metrics: Mapping[str, Any]
) -> list[Panel]:
    found = [Panel("challenger", _error_line(metrics, metrics), challenger, is_champion=False)]
    if champion is not None and not isinstance(champion, pd.DataFrame):
        title, figures = _champion(metrics), metrics.get("champion") or {}
        error = _error_line(figures, metrics)
        found.append(Panel(title, error, champion, is_champion=True))
    return found


def _champion(metrics: Mapping[str, Any]) -> str:
    return f"champion v{(metrics.get('champion') or {}).get('version', '?')}"


def _error_line(figures: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    metric = metrics.get("deciding_metric", "mae")
    value = figures.get(metric)
    return "" if value is None else f"{ERROR_NAMES[metric]} {measured(value)}"


def predictions_figure(
    target: str, actual: Floats, panels: Sequence[Panel], theme: Theme
) -> Figure:
    """Predicted against actual: a square for each model, on the same scales."""
    side = 3.05 if len(panels) > 1 else 4.2
    bottom = 1.45
    figure = _figure(bottom + side + 0.75, theme)
    limits, outside = axis_limits([actual, *(panel.predicted for panel in panels)])
    name = _name(target)
    for i, panel in enumerate(panels):
        left = 1.05 + i * (side + 0.3)
        axes = _axes(figure, left, bottom, side, side, theme)
        _square(axes, limits, i == 0)
        points = [np.clip(values, *limits) for values in (actual, panel.predicted)]
        _draw_rows(axes, points, limits, panel.scale(theme))
        axes.plot(limits, limits, color=theme.soft, linewidth=1.4, dashes=(4, 3))
        _write(figure, left, bottom + side + 0.47, panel.title, _TITLE, theme.ink, weight="bold")
        _write(figure, left, bottom + side + 0.18, panel.error, _NOTE, theme.soft, room=side)
    width = len(panels) * (side + 0.3) - 0.3
    middle = 1.05 + width / 2
    _write(
        figure, middle, bottom - 0.55, f"actual {name}", _LABEL, theme.ink, room=width, ha="center"
    )
    across: dict[str, Any] = {"rotation": 90, "ha": "center"}
    _write(
        figure, 0.2, bottom + side / 2, f"predicted {name}", _LABEL, theme.ink, room=side, **across
    )
    notes = [f"Dashed: the prediction is right. {_how_drawn(actual, theme)}"]
    if outside:
        notes.append(f"{outside:,} of {len(actual):,} rows lie outside and are drawn at the edge.")
    for i, note in enumerate(notes):
        _write(figure, _LEFT, 0.48 - 0.28 * i, note, _NOTE, theme.soft, room=WIDTH - 0.3)
    return figure


def _how_drawn(actual: Floats, theme: Theme) -> str:
    if len(actual) <= _MOST_DOTS:
        return f"Each dot is a row; {len(actual):,} in all."
    more = "Darker" if theme.name == "light" else "Brighter"
    return f"{more} hexagons hold more rows; {len(actual):,} in all."


def axis_limits(sides: Sequence[Floats]) -> tuple[tuple[float, float], int]:
    """The span of both axes, and how many rows lie outside it."""
    table = np.clip(np.stack(sides), -_LARGEST, _LARGEST)
    low, high = (float(value) for value in np.quantile(table, _SHOWN))
    # With a few odd rows only, there is room for them.
    if np.ptp(table) < 1.3 * (high - low):
        low, high = float(table.min()), float(table.max())
    least = max(1e-6 * max(abs(low), abs(high)), 1 / _LARGEST)
    pad = 0.04 * (high - low) if high - low > least else max(abs(low) / 2, 0.5)
    limits = (low - pad, high + pad)
    outside = ((table < limits[0]) | (table > limits[1])).any(axis=0)
    return limits, int(outside.sum())


def _square(axes: Axes, limits: tuple[float, float], is_first: bool) -> None:
    axes.set(xlim=limits, ylim=limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(ScalarFormatter(useMathText=False))
    axes.grid(visible=True)
    axes.tick_params(labelleft=is_first)
    axes.yaxis.get_offset_text().set_visible(is_first)


def _draw_rows(
    axes: Axes,
    points: Sequence[Floats],
    limits: tuple[float, float],
    scale: tuple[str, ...],
) -> None:
    """Dots, or for many rows hexagons in which they are counted, more rows in a stronger colour."""
    actual, predicted = points
    if len(actual) <= _MOST_DOTS:
        axes.scatter(actual, predicted, s=26, color=scale[2], alpha=0.55, linewidths=0, zorder=2)
        return
    colours = LinearSegmentedColormap.from_list("rows", scale)
    drawn = axes.hexbin(
        actual,
        predicted,
        gridsize=_HEXAGONS,
        extent=(*limits, *limits),
        mincnt=1,
        cmap=colours,
        linewidths=0.1,
        zorder=2,
    )
    counts = np.asarray(drawn.get_array())
    drawn.set_norm(LogNorm(1, max(2.0, float(counts.max()))))


@dataclass(frozen=True)
class Confusion:
    """How many rows of each actual class (rows) were predicted as each class (columns)."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]


def count_classes(actual: NDArray[Any], shares: pd.DataFrame) -> Confusion:
    """The classes with most rows come first; beyond MOST_CLASSES they are one."""
    predicted = shares.columns.astype(str).to_numpy()[shares.to_numpy().argmax(axis=1)]
    names, codes = np.unique(np.concatenate([actual, predicted]), return_inverse=True)
    rows = np.bincount(codes[: len(actual)], minlength=len(names))
    order = np.argsort(-rows, kind="stable")
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.minimum(np.arange(len(names)), MOST_CLASSES)
    size = min(len(names), MOST_CLASSES + 1)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (place[codes[: len(actual)]], place[codes[len(actual) :]]), 1)
    shown = tuple(str(names[i]) for i in order[:MOST_CLASSES])
    if len(names) > MOST_CLASSES:
        shown = (*shown, f"{len(names) - MOST_CLASSES} others")
    return Confusion(shown, counts)


def confusion_figure(target: str, matrix: Confusion, theme: Theme) -> Figure:
    """The challenger's confusion matrix: shares of each actual class, and numbers of rows."""
    size = len(matrix.names)
    cell = min(5.2 / size, 1.1)
    is_wide = cell > 0.7
    left, bottom, side = 2.3, 0.8 if is_wide else 1.75, size * cell
    below: dict[str, Any] = {"ha": "center", "va": "top", "room": cell - 0.1 if is_wide else 1.1}
    if not is_wide:
        below["rotation"] = 90
    figure = _figure(bottom + side + 0.55, theme)
    axes = _axes(figure, left, bottom, side, side, theme)
    rows = matrix.counts.sum(axis=1, keepdims=True)
    shares = np.divide(matrix.counts, rows, out=np.zeros(matrix.counts.shape), where=rows > 0)
    scale = LinearSegmentedColormap.from_list("share", (theme.page, *theme.challenger_scale[:3]))
    axes.pcolormesh(
        np.arange(size + 1),
        np.arange(size + 1),
        shares,
        cmap=scale,
        vmin=0,
        vmax=1,
        edgecolors=theme.line,
        linewidth=0.8,
    )
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_axis_off()
    top = bottom + side
    for i, name in enumerate(matrix.names):
        y = top - (i + 0.5) * cell
        _write(figure, _LEFT, y, _name(name), _TICK, theme.ink, room=1.35)
        number = f"{int(rows[i, 0]):,}"
        _write(figure, left - 0.12, y, number, _TICK, theme.soft, ha="right")
        x = left + (i + 0.5) * cell
        _write(figure, x, bottom - 0.12, _name(name), _TICK, theme.ink, **below)
        for j in range(size):
            _write_share(figure, matrix, shares, (i, j), (left, top, cell), theme)
    title = f"actual {_name(target)} down, with its rows; predicted across"
    _write(figure, _LEFT, top + 0.3, title, _LABEL, theme.ink, room=WIDTH - 0.3, weight="bold")
    note = "In a cell: the percentage of the actual class"
    note += ", and the number of rows. Empty: none." if is_wide else ". Empty: none."
    _write(figure, _LEFT, 0.25, note, _NOTE, theme.soft, room=WIDTH - 0.3)
    return figure


def _write_share(
    figure: Figure,
    matrix: Confusion,
    shares: Floats,
    place: tuple[int, int],
    corner: tuple[float, float, float],
    theme: Theme,
) -> None:
    """A cell's share, and its number of rows where there is room."""
    (i, j), (left, top, cell) = place, corner
    if not matrix.counts[i, j]:
        return
    x, y = left + (j + 0.5) * cell, top - (i + 0.5) * cell
    # The page's own colour is what stands out from a strong one, in both themes.
    color = theme.page if shares[i, j] > 0.6 else theme.ink
    share = f"{100 * shares[i, j]:.0f}" if shares[i, j] >= 0.005 else "<1"
    if cell <= 0.7:
        _write(figure, x, y, share, 10.5, color, ha="center")
        return
    _write(figure, x, y + 0.13, f"{share} %", _LABEL, color, ha="center")
    _write(figure, x, y - 0.16, f"{matrix.counts[i, j]:,}", _NOTE, color, ha="center")


def segments_figure(metrics: Mapping[str, Any], theme: Theme) -> Figure:
    """Each segment's errors on one line: the challenger's, and the champion's or the baseline's."""
    metric = metrics["deciding_metric"]
    segments = metrics["segments"][:MOST_SEGMENTS]
    has_champion = segments[0]["champion"] is not None
    rival = "champion" if has_champion else "baseline"
    colour = theme.champion if has_champion else theme.soft
    step, bottom, left, width = 0.4, 1.2, 2.35, 3.05 if has_champion else 4.0
    height = step * len(segments)
    figure = _figure(bottom + height + 0.85, theme)
    axes = _axes(figure, left, bottom, width, height, theme)
    ours = [_error(segment["challenger"], metric) for segment in segments]
    theirs = [_error(segment[rival], metric) for segment in segments]
    axes.set(xlim=(0, 1.06 * max(*ours, *theirs, 1 / _LARGEST)), ylim=(len(segments) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(ScalarFormatter(useMathText=False))
    axes.yaxis.set_visible(False)
    axes.grid(visible=True, axis="x")
    for i, segment in enumerate(segments):
        _draw_pair(axes, i, ours[i], theirs[i], 0.45 if segment["few"] else 1.0, theme, colour)
        y = bottom + height - (i + 0.5) * step
        _write_segment(figure, y, segment, left, theme)
    top = bottom + height + 0.22
    _write(figure, _LEFT, top, _name(metrics["segment_column"]), _NOTE, theme.soft, room=2.0)
    change = WIDTH - 1.3 if has_champion else _RIGHT
    _write(figure, change, top, "rows", _NOTE, theme.soft, ha="right")
    if has_champion:
        _write(figure, _RIGHT, top, "change", _NOTE, theme.soft, ha="right")
    _key(figure, top + 0.36, _champion(metrics) if has_champion else "baseline", colour, theme)
    middle = left + width / 2
    _write(figure, middle, bottom - 0.52, ERROR_NAMES[metric], _LABEL, theme.ink, ha="center")
    _write(figure, _LEFT, 0.25, _segments_note(metrics), _NOTE, theme.soft, room=WIDTH - 0.3)
    return figure


def _error(figures: Mapping[str, Any], metric: str) -> float:
    value = float(figures[metric])
    return min(1 - value if metric == "accuracy" else value, _LARGEST)


def _draw_pair(
    axes: Axes,
    y: int,
    ours: float,
    theirs: float,
    alpha: float,
    theme: Theme,
    colour: str,
) -> None:
    """A filled dot for the challenger, a ring for the other, a line between them."""
    axes.plot([ours, theirs], [y, y], color=theme.soft, linewidth=2, alpha=alpha, zorder=2)
    axes.scatter(
        [theirs],
        [y],
        s=95,
        facecolors=theme.page,
        edgecolors=colour,
        linewidths=2.4,
        alpha=alpha,
        zorder=3,
    )
    axes.scatter([ours], [y], s=80, color=theme.challenger, alpha=alpha, zorder=4)


def _write_segment(
    figure: Figure, y: float, segment: Mapping[str, Any], left: float, theme: Theme
) -> None:
    ink = theme.soft if segment["few"] else theme.ink
    name, rows = _name(segment["segment"]), f"{segment['rows']:,}"
    _write(figure, _LEFT, y, name, _LABEL, ink, room=left - 0.3)
    rows = f"few: {rows}" if segment["few"] else rows
    has_champion = segment["champion"] is not None
    end = WIDTH - 1.3 if has_champion else _RIGHT
    _write(figure, end, y, rows, _TICK, ink, ha="right")
    change = segment["relative_difference"]
    if change is not None:
        _write(figure, _RIGHT, y, _change(change), _TICK, ink, ha="right")


def _change(share: float) -> str:
    """'−3.1 %', '+1,250 %'."""
    if share > 999.99:
        return "> 99,999 %"
    return change(share).replace("-", "\N{MINUS SIGN}")


def _key(figure: Figure, y: float, rival: str, colour: str, theme: Theme) -> None:
    axes = _axes(figure, _LEFT, y - 0.15, WIDTH - 2 * _LEFT, 0.3, theme)
    axes.set(xlim=(0, WIDTH - 2 * _LEFT), ylim=(-1, 1))
    axes.set_axis_off()
    axes.scatter([0.1], [0], s=80, color=theme.challenger)
    axes.scatter([1.75], [0], s=95, facecolors=theme.page, edgecolors=colour, linewidths=2.4)
    _write(figure, _LEFT + 0.26, y, "challenger", _LABEL, theme.ink)
    _write(figure, _LEFT + 1.91, y, rival, _LABEL, theme.ink)


def _segments_note(metrics: Mapping[str, Any]) -> str:
    segments = metrics["segments"]
    notes = ["Further left is better."]
    if len(segments) > MOST_SEGMENTS:
        notes.append(f"{MOST_SEGMENTS} of {len(segments):,}, those with most rows.")
    if any(segment["few"] for segment in segments[:MOST_SEGMENTS]):
        notes.append("Few: too few rows to decide.")
    return " ".join(notes)


def importance_figure(importance: Mapping[str, float], theme: Theme) -> Figure:
    """The features with the largest shares as bars."""
    ranked = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    shown = ranked[:MOST_FEATURES]
    step, left, width = 0.42, 2.75, 3.7
    rest = len(ranked) - len(shown)
    bottom = 0.6 if rest else 0.15
    height = step * len(shown)
    figure = _figure(bottom + height + 0.15, theme)
    axes = _axes(figure, left, bottom, width, height, theme)
    axes.set_axis_off()
    longest = shown[0][1] or 1.0
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5))
    axes.barh(
        range(len(shown)), [share / longest for _, share in shown], 0.62, color=theme.challenger
    )
    axes.axvline(0, color=theme.soft, linewidth=1.5)
    for i, (feature, share) in enumerate(shown):
        y = bottom + height - (i + 0.5) * step
        name = _name(feature)
        _write(figure, left - 0.12, y, name, _LABEL, theme.ink, room=left - 0.3, ha="right")
        end = left + width * share / longest + 0.1
        _write(figure, end, y, percent(share), _LABEL, theme.ink)
    if rest:
        note = f"The {MOST_FEATURES} largest of {len(ranked):,}."
        _write(figure, _LEFT, 0.28, note, _NOTE, theme.soft)
    return figure


def _figure(height: float, theme: Theme) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=_DPI, facecolor=theme.page)
    FigureCanvasAgg(figure)
    return figure


def _axes(
    figure: Figure, left: float, bottom: float, width: float, height: float, theme: Theme
) -> Axes:
    """Axes at a place in inches, with the theme's lines and nothing on them."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.set_facecolor(theme.page)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelsize=_TICK, labelcolor=theme.soft, labelfontfamily=_FONT)
    axes.tick_params(grid_color=theme.line, grid_linewidth=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_offset_text().set(color=theme.soft, family=_FONT, size=_TICK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.soft)
    return axes


def _write(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    size: float,
    color: str,
    *,
    room: float = WIDTH,
    **style: Any,
) -> None:
    """Text as it stands, a dollar sign being no formula, at a place and in a room in inches."""
    style.setdefault("va", "center_baseline" if "rotation" not in style else "center")
    across, up = figure.get_size_inches()
    style |= {"size": size, "color": color, "family": _FONT, "parse_math": False}
    artist = figure.text(x / across, y / up, text, **style)
    letters = len(text)
    while letters > 1 and (length := _length(artist)) > room:
        letters = max(1, int(letters * min(room / length, 0.95)))
        artist.set_text(_cut(text, letters))


def _length(artist: Text) -> float:
    """The length of a line in inches, whichever way it runs."""
    box = artist.get_window_extent()
    return max(box.width, box.height) / _DPI


def _name(text: object) -> str:
    """A name from the data, on one line, with a box for each letter that the font does not have."""
    line = " ".join(_UNPRINTABLE.sub("\N{WHITE SQUARE}", str(text)).split())
    known = _letters()
    line = "".join(letter if ord(letter) in known else "\N{WHITE SQUARE}" for letter in line)
    return _cut(line, _LONGEST_NAME) or "(empty)"


def _cut(text: str, longest: int) -> str:
    """A long text without its middle, since names often differ at their ends."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 1]}…{text[len(text) - end :]}"


@cache
def _letters() -> frozenset[int]:
    """The code points of the font, which Matplotlib brings along."""
    return frozenset(get_font(findfont(_FONT)).get_charmap())


def _png(figure: Figure) -> bytes:
    """The picture in few colours, a quarter as large and, seen with the eye, the same."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB")
    few = picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    file = io.BytesIO()
    few.save(file, format="png", optimize=True, dpi=(_DPI, _DPI))
    return file.getvalue()
