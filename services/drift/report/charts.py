"""Charts of a check: reference against current as shares of rows in a few bins."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import numpy as np

from services.drift.calibration.binning import Binning, Counts
from services.drift.calibration.cells import Floats
from services.drift.calibration.profile import Profile
from services.drift.report.model import Bars, Chart, Histogram
from services.drift.tables.frame import Numbers
from shared.drift import CellFinding

MOST_CHARTS: Final = 60

_BINS: Final = 24
_MOST_BARS: Final = 12
_WIDEST: Final = 1e300
"""No axis is drawn over a wider span, or one narrower than its inverse: floats do not suffice."""
_SHOWN: Final = (0.005, 0.995)
"""A histogram spans these quantiles of both sides; what lies outside is said in figures."""


def charts(profile: Profile, counts: Counts, cells: Iterable[CellFinding]) -> list[Chart]:
    """Charts of the number and category cells, in the order of the cells, at most MOST_CHARTS."""
    return list(islice(_drawn(profile, counts, cells), MOST_CHARTS))


def _drawn(profile: Profile, counts: Counts, cells: Iterable[CellFinding]) -> Iterator[Chart]:
    binning = profile.binning
    flats = (profile.reference.stacked.flat, counts.stacked.flat)
    numbers = [binning.layout.numbers_of(flat)[0] for flat in flats]
    categories = [binning.layout.categories_of(flat)[0] for flat in flats]
    for cell in cells:
        if cell.kind == "number":
            place, edges = _place(binning, cell)
            sides = [side[place, : binning.widths[place]] for side in numbers]
            if len(edges) > 1 and _drawable(edges) and sides[1].sum():
                yield _histogram(cell, edges, *sides)
        if cell.kind == "category":
            place = binning.categories.index(cell.column)
            labels = binning.level_names(place)
            yield _bars(cell, labels, *(side[place, : len(labels)] for side in categories))


def _drawable(edges: Numbers) -> bool:
    return bool(1 / _WIDEST < edges[-1] / 4 - edges[0] / 4 < _WIDEST)


def _place(binning: Binning, cell: CellFinding) -> tuple[int, Numbers]:
    column = binning.numbers.index(cell.column)
    group = 0 if cell.segment is None else 1 + binning.segments.index(cell.segment)
    return column * binning.groups + group, binning.edges[column][group].at


def _histogram(cell: CellFinding, edges: Numbers, reference: Floats, current: Floats) -> Histogram:
    """Equally wide bins, the rows spread evenly within the bins that were counted."""
    functions = [np.cumsum(side)[:-1] / side.sum() for side in (reference, current)]
    low, high = (
        pick(np.interp(share, function, edges) for function in functions)
        for share, pick in zip(_SHOWN, (min, max), strict=True)
    )
    if not low < high:
        low, high = edges[0], edges[-1]
    grid = np.linspace(low, high, _BINS + 1)
    at = [np.interp(grid, edges, function) for function in functions]
    return Histogram(
        column=cell.column,
        segment=cell.segment,
        edges=grid.tolist(),
        reference=np.diff(at[0]).tolist(),
        current=np.diff(at[1]).tolist(),
        reference_outside=(float(at[0][0]), float(1 - at[0][-1])),
        current_outside=(float(at[1][0]), float(1 - at[1][-1])),
    )


def _bars(cell: CellFinding, labels: list[str], reference: Floats, current: Floats) -> Bars:
    """The categories with the largest shares; all others in one bar."""
    before, after = reference / max(reference.sum(), 1), current / max(current.sum(), 1)
    largest = np.argsort(-np.maximum(before, after), kind="stable")
    shown = [bin_ for bin_ in largest[:_MOST_BARS] if before[bin_] + after[bin_] > 0]
    rest = largest[len(shown) :]
    others = [float(side[rest].sum()) for side in (before, after)]
    named = [labels[bin_] for bin_ in shown]
    sides = [side[shown].tolist() for side in (before, after)]
    if any(others):
        named.append("all others")
        sides = [[*side, other] for side, other in zip(sides, others, strict=True)]
    return Bars(column=cell.column, labels=named, reference=sides[0], current=sides[1])
