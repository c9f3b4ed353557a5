"""What changed in a cell, in plain words."""

from typing import Final

import numpy as np

from services.drift.calibration.binning import Edges
from services.drift.calibration.cells import TAIL_SHARE, Floats
from services.drift.calibration.scores import mid_ranks
from services.drift.report.wording import figure, name, percent

_TELLING_TAIL: Final = 0.03
"""A 1 % tail that holds this share of the rows is worth a word."""
_MIDDLE: Final = (0.25, 0.5, 0.75)
_MIN_SHARE_CHANGE: Final = 0.005


def number_direction(edges: Edges, reference: Floats, current: Floats) -> str:
    """'median 84 → 131, 27 % of rows above the reference's 99th percentile'.

    Args:
        edges: of the cell's bins, one fewer than those.
        reference: rows in each bin, of shape (bins,).
        current: likewise, of the batch.
    """
    if not current.sum():
        return "no value in the batch"
    if not reference.sum() or not len(edges):
        return "too few values in the reference to compare"
    parts = [_middle(edges, reference, current), *_tails(reference, current)]
    return ", ".join(parts)


def _middle(edges: Edges, reference: Floats, current: Floats) -> str:
    before, after = (_quartiles(edges, side) for side in (reference, current))
    if before[1] != after[1]:
        return f"median {before[1]} → {after[1]}"
    if before != after:
        return (
            f"median {before[1]} as before, middle half {before[0]} to {before[2]} → "
            f"{after[0]} to {after[2]}"
        )
    return f"median {before[1]} as before"


def _quartiles(edges: Edges, counts: Floats) -> tuple[str, str, str]:
    """Quartiles as the largest value of the reference in their bin."""
    share = np.cumsum(counts) / counts.sum()
    first, second, third = (int(np.searchsorted(share, at - 1e-12)) for at in _MIDDLE)
    return _largest_value(edges, first), _largest_value(edges, second), _largest_value(edges, third)


def _largest_value(edges: Edges, bin_: int) -> str:
    if bin_ == 0:
        return f"below {figure(edges.values[0])}"
    if bin_ == len(edges):
        return f"above {figure(edges.values[-1])}"
    return figure(edges.values[bin_])


def _tails(reference: Floats, current: Floats) -> list[str]:
    """The tails that hold far more rows than the reference's 1 %."""
    shares = reference / reference.sum()
    ranks = mid_ranks(shares)
    sides = (
        ("above", "99th percentile", "largest value", ranks >= 1 - TAIL_SHARE, len(reference) - 1),
        ("below", "1st percentile", "smallest value", ranks <= TAIL_SHARE, 0),
    )
    said = []
    for word, percentile, extreme, bins, outermost in sides:
        tail = current[bins].sum() / current.sum()
        outside = current[outermost] / current.sum()
        if outside >= _TELLING_TAIL:
            said.append(f"{percent(outside)} of rows {word} the reference's {extreme}")
        elif tail >= _TELLING_TAIL and tail > 2 * shares[bins].sum():
            said.append(f"{percent(tail)} of rows {word} the reference's {percentile}")
    return said


def missing_direction(reference: float, current: float) -> str:
    """'missing in 2 % → 7 % of rows', from shares."""
    return f"missing in {percent(reference)} → {percent(current)} of rows"


def category_direction(labels: list[str], reference: Floats, current: Floats) -> str:
    """'Delhi 12 % → 30 % of rows, Agra 9 % → 2 %': the two largest changes.

    Args:
        labels: what the bins are called, as many as bins.
        reference: rows in each bin.
    """
    if not current.sum():
        return "no row in the batch"
    before, after = reference / max(reference.sum(), 1), current / current.sum()
    largest = np.argsort(-np.abs(after - before), kind="stable")[:2]
    changes = [
        f"{name(labels[bin_])} {percent(before[bin_])} → {percent(after[bin_])}"
        for bin_ in largest
        if abs(after[bin_] - before[bin_]) >= _MIN_SHARE_CHANGE
    ]
    return ", ".join(changes) + " of rows" if changes else "shares as before"


def pair_direction(reference: float, current: float) -> str:
    """'correlation 0.62 → -0.1'."""
    before, after = (f"{max(min(value, 1), -1):.2f}" for value in (reference, current))
    return (
        f"correlation {before} → {after}" if before != after else f"correlation {before} as before"
    )
