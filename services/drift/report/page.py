"""The drift report as one HTML file: no script, nothing from elsewhere, bounded in size."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from services.drift.calibration.rise import LEAST_RISE
from services.drift.report import figures, wording
from services.drift.report.figures import Bar
from services.drift.report.model import Chart, DriftReport, Histogram, PastCheck
from shared.drift import CellFinding
from shared.wording import moment

if TYPE_CHECKING:
    from jinja2 import Environment

# What fits into the page; drift_report.json has the rest, and the page says so.
MOST_FINDINGS: Final = 16
MOST_NEAREST: Final = 5
MOST_CHARTS: Final = 12
MOST_SEGMENTS: Final = 20
MOST_HEAT_COLUMNS: Final = 12
MOST_ROWS: Final = 25
MOST_CATEGORIES: Final = 4
MOST_ASSUMPTIONS: Final = 12
MOST_CHECKS: Final = 168
MOST_LISTED_CHECKS: Final = 24

_WIDTH, _HEIGHT = 320.0, 112.0
"""Of a histogram, in units of its drawing."""
_SHADES: Final = (0.05, 0.1, 0.2, 0.4)
"""Effects from which a cell of the heat map is one shade deeper."""
_LOWEST_P: Final = 1e-16


@dataclass(frozen=True)
class ChartCard:
    """One small multiple: reference against current in one cell."""

    title: str
    cell: CellFinding | None
    description: str
    """The figures in words."""
    histogram: "HistogramPaths | None" = None
    bars: tuple[Bar, ...] = ()
    bars_left_out: int = 0


@dataclass(frozen=True)
class HistogramPaths:
    reference: str
    current: str
    ticks: tuple[tuple[float, str, str], ...]
    """Place from 0 to 1, alignment and label of the values under the axis."""


@dataclass(frozen=True)
class HeatRow:
    segment: str | None
    """None: all rows."""
    cells: tuple[CellFinding | None, ...]


@dataclass(frozen=True)
class HeatMap:
    """Segments × columns, the strongest first."""

    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    columns_left_out: int
    segments_left_out: int


@dataclass(frozen=True)
class Panel:
    """One line over the past checks, in percent of the panel's width and height."""

    title: str
    description: str
    line: str
    points: tuple[tuple[float, float, bool], ...]
    """x, y, and whether the check found drift."""
    threshold: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class History:
    checks: tuple[PastCheck, ...]
    panels: tuple[Panel, ...]
    left_out: int


def render_html(report: DriftReport, history: Sequence[PastCheck] = ()) -> str:
    """The report as an HTML document of less than 300 kB.

    `history` are the pipeline's checks to be drawn, this one among them if it shall be seen there;
    their order does not matter.
    """
    speaking = [cell for cell in report.cells if cell.speaks]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            speaking=speaking[:MOST_FINDINGS],
            speaking_left_out=max(len(speaking) - MOST_FINDINGS, 0),
            nearest=() if speaking else report.cells[:MOST_NEAREST],
            cards=[
                _card(chart, report.cells, report.charts) for chart in report.charts[:MOST_CHARTS]
            ],
            heat_map=_heat_map(report.cells),
            history=_history(history),
            missing=_most_changed(report),
            least_rise=LEAST_RISE,
            most_rows=MOST_ROWS,
            most_categories=MOST_CATEGORIES,
            most_assumptions=MOST_ASSUMPTIONS,
            most_listed_checks=MOST_LISTED_CHECKS,
        )
    )


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("services.drift.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {
        "cell_title": wording.cell_title,
        "chance": wording.chance,
        "clock": moment,
        "count": wording.count,
        "direction": wording.direction,
        "error_name": wording.error_name,
        "false_alarms": wording.false_alarms,
        "figure": wording.figure,
        "headline": wording.headline,
        "name": wording.name,
        "p_equals": wording.p_equals,
        "note": wording.note,
        "numbers": wording.batch_numbers,
        "percent": wording.percent,
        "probability": wording.probability,
        "rows": wording.cell_rows,
        "shade": _shade,
        "short": wording.short,
        "size": wording.size,
        "unit": figures.unit,
        "window_span": wording.window_span,
    }
    return environment


def _printable(value: Any) -> Any:
    """Every string that the template writes; what is marked as safe (paths) stays as it is."""
    return wording.printable(value) if type(value) is str else value


def _shade(effect: float) -> int:
    return sum(effect >= step for step in _SHADES)


def _most_changed(report: DriftReport) -> list[tuple[str, float, float]]:
    """Columns with missing values in either sample, the largest change first."""
    rates = [
        (column, rate.reference, rate.current)
        for column, rate in report.missing_rates.items()
        if rate.reference > 0 or rate.current > 0
    ]
    return sorted(rates, key=lambda row: (-abs(row[2] - row[1]), row[0]))


def _card(chart: Chart, cells: Sequence[CellFinding], charts: Sequence[Chart]) -> ChartCard:
    place = (chart.column, chart.segment)
    cell = next(
        (
            cell
            for cell in cells
            if cell.kind in ("number", "category") and (cell.column, cell.segment) == place
        ),
        None,
    )
    title = wording.name(chart.column)
    if chart.segment is not None:
        title = f"{title} in {wording.name(chart.segment)}"
    elif any(other.segment is not None for other in charts):
        title = f"{title}, all rows"
    if isinstance(chart, Histogram):
        return ChartCard(title, cell, _histogram_in_words(chart), histogram=_paths(chart))
    bars, left_out = figures.bars(chart)
    return ChartCard(title, cell, _bars_in_words(bars, left_out), bars=bars, bars_left_out=left_out)


def _paths(chart: Histogram) -> HistogramPaths:
    outline = figures.outline(chart)
    runs = outline.runs
    reference = " ".join(_area([(b.left, b.right, b.reference) for b in run]) for run in runs)
    current = " ".join(_area([(b.left, b.right, b.current) for b in run]) for run in runs)
    return HistogramPaths(reference, current, figures.value_ticks(chart, outline))


def _area(steps: Sequence[tuple[float, float, float]]) -> str:
    """A closed path over steps of (left, right, height)."""
    path = [f"M{_x(steps[0][0])} {_y(0)}"]
    path += [f"V{_y(height)}H{_x(right)}" for _, right, height in steps]
    return "".join([*path, f"V{_y(0)}Z"])


def _x(place: float) -> str:
    return f"{place * _WIDTH:.1f}"


def _y(height: float) -> str:
    return f"{4 + (1 - height) * (_HEIGHT - 4):.1f}"


def _histogram_in_words(chart: Histogram) -> str:
    return f"Reference: {_spread(chart, 'reference')}. Current: {_spread(chart, 'current')}."


def _spread(chart: Histogram, sample: str) -> str:
    shares, outside = chart.reference, chart.reference_outside
    if sample == "current":
        shares, outside = chart.current, chart.current_outside
    low, middle, high = (figures.quantile(chart, shares, outside[0], q) for q in (0.25, 0.5, 0.75))
    parts = []
    if low is not None and high is not None:
        parts.append(f"half of the rows from {wording.figure(low)} to {wording.figure(high)}")
    if middle is not None:
        parts.append(f"median about {wording.figure(middle)}")
    if chart.edges:
        parts.append(f"{wording.percent(outside[0])} below {wording.figure(chart.edges[0])}")
        parts.append(f"{wording.percent(outside[1])} above {wording.figure(chart.edges[-1])}")
    return ", ".join(parts) or "no rows"


def _bars_in_words(bars: Iterable[Bar], left_out: int) -> str:
    parts = [
        f"{wording.name(bar.label)}: {wording.percent(bar.reference)} → "
        f"{wording.percent(bar.current)}"
        for bar in bars
    ]
    if left_out:
        parts.append(f"{wording.count(left_out, 'category', 'categories')} changed less")
    return "Shares of rows, reference → current. " + "; ".join(parts) + "."


def _heat_map(cells: Sequence[CellFinding]) -> HeatMap | None:
    """The cells of values, by segment and column; None without segments."""
    values = [cell for cell in cells if cell.kind in ("number", "category")]
    if all(cell.segment is None for cell in values):
        return None
    found = {(cell.segment, cell.column): cell for cell in reversed(values)}
    ranked = sorted(values, key=lambda cell: (not cell.speaks, -cell.effect))
    columns = list(dict.fromkeys(cell.column for cell in ranked))
    segments = list(dict.fromkeys(cell.segment for cell in ranked if cell.segment is not None))
    shown = columns[:MOST_HEAT_COLUMNS]
    rows = [None, *segments[:MOST_SEGMENTS]]
    return HeatMap(
        columns=tuple(shown),
        rows=tuple(
            HeatRow(segment, tuple(found.get((segment, column)) for column in shown))
            for segment in rows
        ),
        columns_left_out=len(columns) - len(shown),
        segments_left_out=max(len(segments) - MOST_SEGMENTS, 0),
    )


def _history(history: Sequence[PastCheck]) -> History | None:
    if not history:
        return None
    checks = sorted(history, key=lambda check: check.sequence)[-MOST_CHECKS:]
    with_p = any(check.p is not None for check in checks)
    panels = [_p_panel(checks)] if with_p else []
    if any(check.effect is not None for check in checks):
        panels.append(_effect_panel(checks, with_threshold=not with_p))
    return History(tuple(checks), tuple(panels), len(history) - len(checks))


def _p_panel(checks: Sequence[PastCheck]) -> Panel:
    lowest = min(min(_finite(check.p) or 1, _positive(check.threshold)) for check in checks)
    decades = max(1, math.ceil(-math.log10(max(lowest, _LOWEST_P)) - 1e-9))

    def height(p: float) -> float:
        return 100 * min(math.log10(1 / min(_positive(p), 1)) / decades, 1)

    step = math.ceil(decades / 4)
    ticks = tuple(
        (100 * d / decades, "1" if d == 0 else f"1e-{d}") for d in range(0, decades + 1, step)
    )
    return _panel("p", checks, [check.p for check in checks], height, ticks, with_threshold=True)


def _effect_panel(checks: Sequence[PastCheck], with_threshold: bool) -> Panel:
    values = [check.effect for check in checks]
    largest = max(_finite(value) for value in values)
    if with_threshold:
        largest = max(largest, *(_finite(check.threshold) for check in checks))
    top = _round_up(largest)

    def height(effect: float) -> float:
        return 100 * (1 - min(max(_finite(effect) / top, 0), 1))

    ticks = tuple((100 * (1 - part), wording.figure(top * part)) for part in (0, 0.5, 1))
    title = "Drift score" if with_threshold else "Effect"
    return _panel(title, checks, values, height, ticks, with_threshold)


def _panel(
    title: str,
    checks: Sequence[PastCheck],
    values: Sequence[float | None],
    height: Callable[[float], float],
    ticks: tuple[tuple[float, str], ...],
    with_threshold: bool,
) -> Panel:
    step = 100 / len(checks)
    places = [(i + 0.5) * step for i in range(len(checks))]
    line, pen = [], "M"
    points = []
    for x, check, value in zip(places, checks, values, strict=True):
        if value is None:
            pen = "M"
            continue
        y = round(height(value), 2)
        points.append((round(x, 2), y, check.verdict == "drift"))
        line.append(f"{pen}{x:.2f} {y}")
        pen = "L"
    threshold = f"M0 {height(checks[0].threshold):.2f}" + "".join(
        f"V{height(check.threshold):.2f}H{x + step / 2:.2f}"
        for x, check in zip(places, checks, strict=True)
    )
    return Panel(
        title=title,
        description=_panel_in_words(title, checks, [v for v in values if v is not None]),
        line="".join(line),
        points=tuple(points),
        threshold=threshold if with_threshold else "",
        ticks=ticks,
    )


def _panel_in_words(title: str, checks: Sequence[PastCheck], values: Sequence[float]) -> str:
    shown = wording.probability if title == "p" else wording.size
    drifts = sum(check.verdict == "drift" for check in checks)
    return (
        f"{title} in {wording.count(len(checks), 'check')}, numbers {checks[0].sequence} to "
        f"{checks[-1].sequence}: from {shown(min(values))} to {shown(max(values))}, last "
        f"{shown(values[-1])}; drift in {drifts}."
    )


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


def _positive(p: float) -> float:
    return max(_finite(p), _LOWEST_P)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, and at least 0.1."""
    if value <= 0.1:
        return 0.1
    unit = 10.0 ** math.floor(math.log10(value))
    return next((unit * n for n in (1, 2, 5, 10) if value <= unit * n), value)
