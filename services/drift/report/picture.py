"""The drift report as one picture, for a message: the verdict and the three most telling cells."""

import io
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from services.drift.report import figures, wording
from services.drift.report.model import Bars, DriftReport, Histogram
from shared.drift import CellFinding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

WIDTH, HEIGHT = 1000, 420
"""In pixels."""
MOST_CELLS: Final = 3

_DPI: Final = 100
_PAGE, _INK, _SOFT, _LINE = "#fdfdfb", "#1b1e22", "#575e67", "#d9d9d2"
_REFERENCE, _CURRENT, _TINT = "#7397c3", "#b8480a", "#b8480a24"
_TONES: Final = {"Drift": "#a8400a", "Performance drift": "#a8400a", "No drift": "#1c6b52"}
_OTHER_TONE: Final = "#46566a"
_LEFT, _RIGHT, _GAP = 0.035, 0.965, 0.035
_WIDEST_PANEL: Final = 0.45


def render_png(report: DriftReport) -> bytes:
    """A PNG of 1000 × 420 pixels with its own background, below 100 kB.

    The cells are those that speak, or those that come nearest if none does. The same report gives
    the same bytes. Matplotlib is imported here and its global state is not touched, so that
    threads may draw at the same time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor=_PAGE)
    FigureCanvasAgg(figure)
    cells = ([cell for cell in report.cells if cell.speaks] or report.cells)[:MOST_CELLS]
    _headline(figure, report, alone=not cells)
    width = min((_RIGHT - _LEFT + _GAP) / max(len(cells), 1) - _GAP, _WIDEST_PANEL)
    compared = [
        _panel(figure, report, cell, _LEFT + i * (width + _GAP), width)
        for i, cell in enumerate(cells)
    ]
    if any(compared):
        _key(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _headline(figure: "Figure", report: DriftReport, alone: bool) -> None:
    """The verdict and its reason; larger if there is nothing else to show."""
    headline = wording.headline(report)
    tone = _TONES.get(headline, _OTHER_TONE)
    _box(figure, 0, 0, 0.008, 1, color=tone)
    name = wording.name(report.name)
    _write(figure, _LEFT, 0.905, headline, size=25, weight="bold", color=tone)
    _write(figure, _RIGHT, 0.93, name, size=12, weight="bold", ha="right", room=0.55)
    _write(figure, _RIGHT, 0.87, wording.decision(report), size=11, color=_SOFT, ha="right")
    lines, size, top = (6, 15, 0.74) if alone else (2, 11.5, 0.805)
    room = _RIGHT - _LEFT
    _write(figure, _LEFT, top, report.reason, size=size, va="top", room=room, lines=lines)


def _panel(
    figure: "Figure", report: DriftReport, cell: CellFinding, left: float, width: float
) -> bool:
    """One cell: name, direction, effect and p; whether reference and current are drawn."""
    title, direction = wording.cell_title(cell), wording.direction(cell.direction)
    named = _write(
        figure, left, 0.665, title, size=11.5, weight="bold", va="top", room=width, lines=2
    )
    top, lines = (0.6, 2) if "\n" not in named.get_text() else (0.553, 1)
    _write(figure, left, top, direction, size=10, color=_SOFT, va="top", room=width, lines=lines)
    figures_line = f"effect {wording.size(cell.effect)}, {wording.p_equals(cell.p)}"
    _write(figure, left, 0.09, figures_line, size=9.5, color=_SOFT)
    axes = figure.add_axes((left, 0.175, width, 0.3))
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    chart = figures.chart_of(report, cell)
    rate = report.missing_rates.get(cell.column) if cell.segment is None else None
    if isinstance(chart, Histogram):
        _draw_histogram(axes, chart)
    elif isinstance(chart, Bars):
        _draw_bars(axes, figures.bars(chart)[0])
    elif cell.kind == "missing" and rate is not None:
        _draw_bars(axes, (figures.Bar("missing", rate.reference, rate.current),))
    else:
        _draw_effect(axes, cell.effect)
        return False
    return True


def _draw_histogram(axes: "Axes", chart: Histogram) -> None:
    outline = figures.outline(chart)
    for run in outline.runs:
        edges = [run[0].left, *(block.right for block in run)]
        axes.stairs([block.reference for block in run], edges, fill=True, color=_REFERENCE)
        current = [block.current for block in run]
        axes.stairs(current, edges, fill=True, color=_TINT)
        axes.stairs(current, edges, color=_CURRENT, linewidth=1.6)
    axes.axhline(0, color=_LINE, linewidth=1)
    for x, align, label in figures.value_ticks(chart, outline):
        _write(axes, x, -0.05, label, size=9, color=_SOFT, ha=align, va="top")


def _draw_bars(axes: "Axes", bars: tuple[figures.Bar, ...]) -> None:
    """Categories from the top down, two bars each, the name before and the shares behind."""
    start, room = 0.34, 0.3
    longest = max((max(bar.reference, bar.current) for bar in bars), default=0) or 1
    height = min(1 / max(len(bars), 1), 0.34)
    for i, bar in enumerate(bars):
        top = 1 - i * height
        reference, current = room * bar.reference / longest, room * bar.current / longest
        axes.barh(top - 0.27 * height, reference, 0.36 * height, start, color=_REFERENCE)
        outlined = axes.barh(top - 0.66 * height, current, 0.34 * height, start, color=_TINT)
        outlined[0].set(edgecolor=_CURRENT, linewidth=1.4)
        shares = f"{wording.percent(bar.reference)} → {wording.percent(bar.current)}"
        _write(axes, 0, top - height / 2, wording.short(bar.label), size=9)
        _write(axes, 1, top - height / 2, shares, size=9, color=_SOFT, ha="right")


def _draw_effect(axes: "Axes", effect: float) -> None:
    """The effect on its scale, for a cell without binned shares."""
    axes.barh(0.55, 1, 0.1, color=_LINE)
    axes.barh(0.55, figures.unit(effect), 0.1, color=_CURRENT)
    for x, label, align in ((0, "0: no change", "left"), (1, "1: the largest", "right")):
        _write(axes, x, 0.42, label, size=9, color=_SOFT, ha=align, va="top")


def _key(figure: "Figure") -> None:
    _box(figure, 0.775, 0.027, 0.018, 0.028, color=_REFERENCE)
    _write(figure, 0.8, 0.04, "reference", size=9.5, color=_SOFT)
    _box(figure, 0.892, 0.027, 0.018, 0.028, facecolor=_TINT, edgecolor=_CURRENT, linewidth=1.5)
    _write(figure, _RIGHT, 0.04, "current", size=9.5, color=_SOFT, ha="right")


def _box(figure: "Figure", x: float, y: float, width: float, height: float, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    figure.add_artist(Rectangle((x, y), width, height, **style))


def _write(
    on: "Figure | Axes",
    x: float,
    y: float,
    text: str,
    *,
    room: float = 1.0,
    lines: int = 1,
    color: str = _INK,
    **style: Any,
) -> "Text":
    """Text as it stands, a dollar sign being no formula, cut to lines of a share of the width."""
    style.setdefault("va", "center")
    text = _with_glyphs(wording.printable(text))
    artist = on.text(x, y, text, color=color, family="DejaVu Sans", parse_math=False, **style)
    letters = len(text)
    while letters > 1 and (width := artist.get_window_extent().width) > room * WIDTH:
        letters = int(letters * min(room * WIDTH / width, 0.97))
        artist.set_text(_wrapped(text, letters, lines))
    return artist


def _wrapped(text: str, letters: int, lines: int) -> str:
    wrapped = textwrap.wrap(text, letters)
    if len(wrapped) > lines:
        wrapped[lines - 1 :] = [wrapped[lines - 1][: letters - 1].rstrip() + "…"]
    return "\n".join(wrapped)


def _with_glyphs(text: str) -> str:
    """The text with a box for each letter that the font does not have."""
    known = _letters()
    return "".join(letter if ord(letter) in known else "\N{WHITE SQUARE}" for letter in text)


@cache
def _letters() -> frozenset[int]:
    """The code points of DejaVu Sans, the font that Matplotlib brings along."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
