"""How the mean, the spread and the distribution of each number column changed.

Everything here is defined for every input: a ratio whose denominator is zero is 0 where nothing
changed and 1 (a change of 100 %) where something did, and no result is ever NaN or infinite.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.drift.calibration.binning import Binning, Counts
from services.drift.calibration.cells import Floats
from services.drift.calibration.profile import Profile
from services.drift.tables.frame import Numbers
from shared.drift import FeatureStats

LARGEST_CHANGE: Final = 1e9
"""Relative changes are cut off here, so that a denominator near zero cannot outweigh everything."""

_ROUNDING: Final = 1e-12
"""A figure below this share of a column's size is zero but for its last digits."""
_SINGLE_PRECISION: Final = 2.0**-22
"""As 32-bit and as 64-bit floats, the same values differ by this share of the column's size."""
_LARGEST_FLOAT: Final = float(np.finfo(np.float64).max)


def relative_change(reference: float, current: float, *, unit: float, size: float = 0.0) -> float:
    """|current - reference| / |unit|; 0 or 1 where the unit is zero.

    Args:
        size: of the column's values. What is zero but for the last digits of such values is zero.
    """
    difference = abs(current - reference)
    if difference <= _ROUNDING * size:
        return 0.0
    if abs(unit) <= _ROUNDING * size:
        return 0.0 if difference <= _SINGLE_PRECISION * size else 1.0
    return float(min(difference / abs(unit), LARGEST_CHANGE))


@dataclass(frozen=True)
class _Moments:
    """Of one column on one side, in its unit; mean and std are 0 where there is no value."""

    rows: int
    mean: float = 0.0
    std: float = 0.0


@dataclass(frozen=True)
class _Unit:
    """A column's unit, from the standard units in which moments are counted."""

    centre: float
    scale: float

    def moments(self, counted: Floats) -> _Moments:
        """Mean and standard deviation from a count, a sum and a sum of squares."""
        rows, total, squares = (float(figure) for figure in counted[:3])
        if not rows:
            return _Moments(0)
        mean = total / rows
        variance = max(squares - rows * mean**2, 0.0) / (rows - 1) if rows > 1 else 0.0
        return _Moments(
            int(rows), self._in_unit(mean, self.centre), self._in_unit(variance**0.5, 0.0)
        )

    def _in_unit(self, figure: float, centre: float) -> float:
        """A figure too large for a float is the largest float."""
        value = np.longdouble(figure) * np.longdouble(self.scale) + np.longdouble(centre)
        return float(np.clip(value, -_LARGEST_FLOAT, _LARGEST_FLOAT))


def feature_stats(profile: Profile, counts: Counts) -> dict[str, FeatureStats]:
    """Mean, standard deviation (n - 1) and Wasserstein distance of every number column.

    Figures are in the column's own unit, changes relative to the reference, and the Wasserstein
    distance in reference standard deviations. Where a side has no value at all the changes are None
    and `note` says so.
    """
    binning = profile.binning
    layout = binning.layout
    sides = [
        layout.numbers_of(side.stacked.flat)[0, :: binning.groups]
        for side in (profile.reference, counts)
    ]
    stats = {}
    for column, name in enumerate(binning.numbers):
        reference, current = (side[column] for side in sides)
        unit = _Unit(float(binning.centre[column]), float(binning.scale[column]))
        stats[name] = _stats(
            unit.moments(profile.reference.moments[column]),
            unit.moments(counts.moments[column]),
            _distance(binning, column, reference, current, counts.moments[column]),
        )
    return stats


def _distance(
    binning: Binning, column: int, reference: Floats, current: Floats, moments: Floats
) -> float:
    """The Wasserstein distance in standard units; exact beyond the reference's extremes."""
    edges = binning.standard(column, binning.edges[column][0].at)
    width = len(edges) + 1
    within = wasserstein(edges, reference[:width], current[:width])
    return float(within + moments[3:].sum() / max(moments[0], 1))


def _stats(reference: _Moments, current: _Moments, distance: float) -> FeatureStats:
    if not reference.rows or not current.rows:
        return FeatureStats(
            ref_mean=reference.mean if reference.rows else None,
            curr_mean=current.mean if current.rows else None,
            ref_std=reference.std if reference.rows else None,
            curr_std=current.std if current.rows else None,
            ref_rows=reference.rows,
            curr_rows=current.rows,
            note=_absence(reference.rows, current.rows),
        )
    size = max(max(abs(side.mean), side.std) for side in (reference, current))
    return FeatureStats(
        ref_mean=reference.mean,
        curr_mean=current.mean,
        ref_std=reference.std,
        curr_std=current.std,
        mean_change=relative_change(reference.mean, current.mean, unit=reference.mean, size=size),
        std_change=relative_change(reference.std, current.std, unit=reference.std, size=size),
        wasserstein=_in_deviations(distance, reference, current),
        ref_rows=reference.rows,
        curr_rows=current.rows,
        note=_zero_denominators(reference.mean, reference.std),
    )


def _in_deviations(distance: float, reference: _Moments, current: _Moments) -> float:
    """A distance in standard units; where the reference does not vary, 1 if anything changed."""
    if reference.std:
        return float(min(distance, LARGEST_CHANGE))
    return relative_change(reference.mean, current.mean, unit=0.0)


def wasserstein(edges: Numbers, reference: Floats, current: Floats) -> float:
    """The area between two distribution functions that are straight between a cell's edges.

    What lies beyond the outermost edges is taken to lie at them.

    Args:
        edges: of shape (bins - 1,).
        reference: counts of shape (bins,).
        current: likewise.
    """
    if len(edges) < 2 or not reference.sum() or not current.sum():
        return 0.0
    before, after = (np.cumsum(side)[:-1] / side.sum() for side in (reference, current))
    gap = after - before
    start, end = gap[:-1], gap[1:]
    apart = np.abs(start) + np.abs(end)
    crossing = np.divide(start**2 + end**2, 2 * apart, out=np.zeros_like(apart), where=apart > 0)
    heights = np.where(start * end < 0, crossing, apart / 2)
    with np.errstate(over="ignore"):
        return float(min((heights * np.diff(edges)).sum(), _LARGEST_FLOAT))


def _absence(ref_rows: int, curr_rows: int) -> str:
    if not ref_rows and not curr_rows:
        return "no value in the reference, none in the batch"
    return "no value in the reference" if not ref_rows else "no value in the batch"


def _zero_denominators(ref_mean: float, ref_std: float) -> str | None:
    zeros = [name for name, value in (("mean", ref_mean), ("std", ref_std)) if value == 0]
    return f"reference {' and '.join(zeros)} zero: any change counts as 1" if zeros else None
