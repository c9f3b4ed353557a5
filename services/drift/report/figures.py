"""What the report's figures draw, in units of the figure: the page and the picture share it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.drift.report import wording
from services.drift.report.model import Bars, Chart, DriftReport, Histogram
from shared.drift import CellFinding

_MOST_BINS: Final = 48
_MOST_BARS: Final = 6
_OUTSIDE_WIDTH: Final = 0.09
_GAP: Final = 0.02
_THINNEST: Final = 0.005
"""A narrower bin is as high as one of this width: it would be a needle that flattens the others."""


@dataclass(frozen=True)
class Block:
    """One bin of a histogram: its place from 0 to 1, its two heights from 0 to 1."""

    left: float
    right: float
    reference: float
    current: float


@dataclass(frozen=True)
class Outline:
    """A histogram whose areas are shares, with the rows outside its edges in bars of their own."""

    blocks: tuple[Block, ...]
    below: Block | None
    above: Block | None

    @property
    def runs(self) -> tuple[tuple[Block, ...], ...]:
        """Blocks that touch, from left to right."""
        sides = [(side,) if side else () for side in (self.below, self.above)]
        return tuple(run for run in (sides[0], self.blocks, sides[1]) if run)


@dataclass(frozen=True)
class Bar:
    """The share of rows with one category, from 0 to 1."""

    label: str
    reference: float
    current: float


def outline(chart: Histogram) -> Outline:
    """The histogram as areas: a bin's height is its share divided by its width."""
    edges, reference, current = _merged(chart)
    outside = list(zip(chart.reference_outside, chart.current_outside, strict=True))
    below, above = (max(pair) > 0 for pair in outside)
    start = _OUTSIDE_WIDTH + _GAP if below else 0.0
    end = 1 - (_OUTSIDE_WIDTH + _GAP if above else 0.0)
    places = [start + (end - start) * place for place in _places(edges)]
    blocks = [
        _by_area(left, right, *shares)
        for left, right, *shares in zip(places, places[1:], reference, current, strict=False)
        if right > left
    ]
    low = _by_area(0, _OUTSIDE_WIDTH, *outside[0]) if below else None
    high = _by_area(1 - _OUTSIDE_WIDTH, 1, *outside[1]) if above else None
    drawn = [*blocks, *(side for side in (low, high) if side)]
    top = max((max(block.reference, block.current) for block in drawn), default=0.0) or 1.0
    return Outline(
        tuple(_scaled(block, top) for block in blocks),
        low and _scaled(low, top),
        high and _scaled(high, top),
    )


def value_ticks(
    chart: Histogram, drawn: Outline
) -> tuple[tuple[float, Literal["left", "center", "right"], str], ...]:
    """Place, alignment and label of the first and last edge and of the value between them."""
    if not drawn.blocks:
        return ()
    low, high = chart.edges[0], chart.edges[-1]
    middle = (drawn.blocks[0].left + drawn.blocks[-1].right) / 2
    return (
        (0.0, "left", ("< " if drawn.below else "") + wording.figure(low)),
        (middle, "center", wording.figure(low / 2 + high / 2)),
        (1.0, "right", ("> " if drawn.above else "") + wording.figure(high)),
    )


def bars(chart: Bars) -> tuple[tuple[Bar, ...], int]:
    """The categories that changed most, in the chart's order, and how many are left out."""
    every = [
        Bar(label, unit(reference), unit(current))
        for label, reference, current in zip(
            chart.labels, chart.reference, chart.current, strict=False
        )
    ]
    changes = sorted((-abs(bar.current - bar.reference), i) for i, bar in enumerate(every))
    kept = sorted(i for _, i in changes[:_MOST_BARS])
    return tuple(every[i] for i in kept), len(every) - len(kept)


def quantile(chart: Histogram, shares: Sequence[float], below: float, level: float) -> float | None:
    """The value below which `level` of the rows lie; None: it is outside the edges."""
    total = unit(below)
    if level < total:
        return None
    for left, right, share in zip(chart.edges, chart.edges[1:], map(unit, shares), strict=False):
        if share > 0 and level <= total + share:
            within = (level - total) / share
            return left * (1 - within) + right * within
        total += share
    return None


def unit(value: float) -> float:
    """A share or an effect, held between 0 and 1; not a number is 0."""
    return 0.0 if math.isnan(value) else min(max(value, 0.0), 1.0)


def chart_of(report: DriftReport, cell: CellFinding) -> Chart | None:
    """The binned shares behind a cell, if the report has them."""
    if cell.kind not in ("number", "category"):
        return None
    return next(
        (
            chart
            for chart in report.charts
            if (chart.column, chart.segment) == (cell.column, cell.segment)
        ),
        None,
    )


def _merged(chart: Histogram) -> tuple[list[float], list[float], list[float]]:
    """The bins, with neighbours joined until there are few enough to be seen."""
    step = math.ceil(len(chart.reference) / _MOST_BINS) or 1
    bins = range(0, len(chart.reference), step)
    return (
        [*chart.edges[:-1:step], *chart.edges[-1:]],
        [sum(map(unit, chart.reference[i : i + step])) for i in bins],
        [sum(map(unit, chart.current[i : i + step])) for i in bins],
    )


def _places(edges: Sequence[float]) -> list[float]:
    """The edges on a scale from 0 to 1; bins of one width if the range has none or overflows."""
    if not edges:
        return []
    span = edges[-1] - edges[0]
    if not (math.isfinite(span) and span > 0):
        return [i / max(len(edges) - 1, 1) for i in range(len(edges))]
    return [min(max((edge - edges[0]) / span, 0.0), 1.0) for edge in edges]


def _by_area(left: float, right: float, reference: float, current: float) -> Block:
    width = max(right - left, _THINNEST)
    return Block(left, right, unit(reference) / width, unit(current) / width)


def _scaled(block: Block, top: float) -> Block:
    return Block(block.left, block.right, block.reference / top, block.current / top)
