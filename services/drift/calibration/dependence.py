"""How much more counts vary than those of independent rows, because rows come in clusters.

Rows of one station in one hour resemble each other: a hundred such rows say less than a hundred
independent ones. Every variance is therefore estimated from the sums over clusters (Rao and Scott
1981), and is never taken below that of independent rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.drift.calibration.cells import DEGREES, Floats

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class ClusteredRows:
    """The rows of some cells: for each row its cluster, its cell and its bin within the cell."""

    cluster: Indices
    cell: Indices
    bin: Indices

    def design_effects(self, shares: Floats) -> Floats:
        """Σ variance of the bins' counts over clusters / Σ π(1 - π), at least 1.

        Args:
            shares: of each cell's rows in each bin, of shape (cells, bins).
        """
        cells, bins = shares.shape
        rows = np.bincount(self.cell, minlength=cells)
        together, member, sizes = self._members(cells)
        same, same_size = np.unique(
            (self.cluster * cells + self.cell) * bins + self.bin, return_counts=True
        )
        in_bin = np.bincount(same // bins % cells, same_size.astype(float) ** 2, cells)
        expected = np.bincount(self.cell, sizes[member] * shares[self.cell, self.bin], cells)
        squares = np.bincount(together % cells, sizes.astype(float) ** 2, cells)
        sum_of_squares = (shares**2).sum(1)
        variance = (in_bin - 2 * expected + squares * sum_of_squares) / np.maximum(rows, 1)
        independent = (shares * (1 - shares)).sum(1)
        return np.asarray(np.maximum(variance / np.maximum(independent, 1e-12), 1.0))

    def covariances(self, scores: Floats) -> Floats:
        """Covariance of the score components over clusters, of shape (cells, DEGREES, DEGREES).

        Args:
            scores: of shape (cells, bins, DEGREES), of mean zero.
        """
        cells = len(scores)
        rows = np.bincount(self.cell, minlength=cells)
        together, member, _ = self._members(cells)
        own = scores[self.cell, self.bin]
        sums = np.stack([np.bincount(member, own[:, d], len(together)) for d in range(DEGREES)], 1)
        covariances = np.zeros((cells, DEGREES, DEGREES))
        np.add.at(covariances, together % cells, sums[:, :, None] * sums[:, None, :])
        return covariances / np.maximum(rows, 1)[:, None, None]

    def _members(self, cells: int) -> tuple[Indices, Indices, Indices]:
        """Each cluster's part in each cell; to which of them a row belongs; their sizes."""
        return np.unique(self.cluster * cells + self.cell, return_inverse=True, return_counts=True)


def whitened(scores: Floats, degrees: NDArray[np.int64], covariances: Floats) -> Floats:
    """Scores whose components are uncorrelated and of variance 1 over clusters.

    Eigenvalues of the covariance are taken as 1 at least. Shapes as in `covariances`.
    """
    result = np.zeros_like(scores)
    for cell, (own, degree) in enumerate(zip(scores, degrees, strict=True)):
        if degree:
            values, vectors = np.linalg.eigh(covariances[cell, :degree, :degree])
            covariance = (vectors * np.maximum(values, 1.0)) @ vectors.T
            lower = np.linalg.cholesky(covariance)
            result[cell, :, :degree] = np.linalg.solve(lower, own[:, :degree].T).T
    return result
