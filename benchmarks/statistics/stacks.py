"""Many batches at once: the same counts and tests as in a check, without the report."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.drift.calibration.cells import CellCounts
from services.drift.calibration.profile import Profile
from services.drift.tables.frame import Frame, Tabular

_CHUNK = 100


def encoded(profile: Profile, rows: Tabular) -> NDArray[np.intp]:
    """The bins of each row, in the order of the rows."""
    codes, order = profile.binning.encode(Frame.of(rows))
    restored = np.empty_like(codes)
    restored[order] = codes
    return restored


def stacked(profile: Profile, codes: NDArray[np.intp], batches: NDArray[np.intp]) -> CellCounts:
    """The counts of batches; `batches` holds indices of rows, of shape (batches, rows)."""
    binning, normal = profile.binning, profile.normal_scores
    detailed = binning.detailed(codes)
    present = (detailed < len(normal)).astype(float)
    scores = normal.take(detailed, mode="clip") * present
    size, pairs = binning.layout.size, binning.pairs
    flat = np.empty((len(batches), size))
    sums, both = (np.empty((len(batches), len(pairs[0]))) for _ in range(2))
    for batch, rows in enumerate(batches):
        flat[batch] = np.bincount(codes[rows].ravel(), minlength=size + 1)[:size]
        sums[batch] = (scores[rows].T @ scores[rows])[pairs]
        both[batch] = (present[rows].T @ present[rows])[pairs]
    return CellCounts(flat, sums, both)


@dataclass(frozen=True)
class Checked:
    """The figures of many checks."""

    p: NDArray[np.float64]
    """Shape (batches,)."""
    cells: NDArray[np.float64]
    """p-values of shape (batches, cells)."""
    effects: NDArray[np.float64]


def checked(profile: Profile, stack: CellCounts, rows: int) -> Checked:
    """Check batches of so many rows each."""
    reference, tests = profile.reference.stacked, profile.tests
    chunks = [stack[start : start + _CHUNK] for start in range(0, len(stack.flat), _CHUNK)]
    cells = np.concatenate([tests.p_values(reference, chunk) for chunk in chunks])
    effects = np.concatenate([tests.effects(reference, chunk) for chunk in chunks])
    statistic = tests.combined(cells)
    p = np.array([profile.p(float(figure), rows) for figure in statistic])
    return Checked(p, cells, effects)


def summed(stack: CellCounts, window: int) -> CellCounts:
    """The sums of consecutive batches."""
    number = len(stack.flat) // window

    def sums(part: NDArray[np.float64]) -> NDArray[np.float64]:
        return part[: number * window].reshape(number, window, -1).sum(1)

    return CellCounts(sums(stack.flat), sums(stack.pair_sums), sums(stack.pair_rows))
