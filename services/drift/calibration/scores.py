"""Scores of bins: what a bin says about location, spread and shape, and about rank."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.drift.calibration.cells import DEGREES, RANKS_CUT

Floats = NDArray[np.float64]

_LARGEST_SCORE: Final = 5.0
"""Rare bins at the end of a skewed cell must not outweigh all others."""
_SCORE_UNIT: Final = 1 / 1024
"""Normal scores are multiples of this, so that sums of their products are exact in any order."""


def mid_ranks(shares: Floats) -> Floats:
    """F - π/2: the share of rows below a bin and half of its own; shape (…, bins)."""
    return np.cumsum(shares, -1) - shares / 2


def smooth_scores(shares: Floats) -> tuple[Floats, int]:
    """Polynomials in the mid-rank of degree 1 to DEGREES, orthonormal under the shares.

    Args:
        shares: of the rows in each bin, of shape (bins,); bins without any score like the nearest
            bin with some.

    Returns:
        The scores, of shape (bins, DEGREES), and how many degrees the cell has: one less than its
        bins, at most DEGREES. Further columns are zero.
    """
    filled = np.flatnonzero(shares > 0)
    degrees = max(min(DEGREES, len(filled) - 1), 0)
    scores = np.zeros((len(shares), DEGREES))
    if degrees:
        weights = shares[filled]
        powers = np.vander(2 * mid_ranks(shares)[filled] - 1, degrees + 1, increasing=True)
        bounded = np.clip(_orthonormal(powers, weights), 1 - _LARGEST_SCORE, _LARGEST_SCORE - 1)
        again = _orthonormal(np.column_stack([np.ones(len(filled)), bounded]), weights)
        bounded = np.clip(again, -_LARGEST_SCORE, _LARGEST_SCORE)
        bounded -= weights @ bounded
        nearest = np.abs(np.arange(len(shares))[:, None] - filled).argmin(1)
        scores[:, :degrees] = bounded[nearest]
    return scores, degrees


def _orthonormal(columns: Floats, weights: Floats) -> Floats:
    """Gram and Schmidt's columns but the first, under weights."""
    root = np.sqrt(weights)[:, None]
    basis, _ = np.linalg.qr(columns * root)
    return np.asarray(basis[:, 1:] / root)


def normal_scores(shares: Floats, rows: float) -> Floats:
    """Standard normal quantiles of the mid-ranks, of mean 0 and variance 1, cut off; (bins,)."""
    margin = 0.5 / max(rows, 2)
    scores = special.ndtri(np.clip(mid_ranks(shares), margin, 1 - margin))
    scores -= scores @ shares
    spread = np.sqrt(scores**2 @ shares)
    if spread == 0:
        return np.zeros_like(scores)
    cut = np.clip(scores / spread, -RANKS_CUT, RANKS_CUT)
    return np.asarray(np.round(cut / _SCORE_UNIT) * _SCORE_UNIT)
