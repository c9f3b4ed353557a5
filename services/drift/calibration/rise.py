"""Whether a mean loss has risen, when rows come in groups that are not independent of each other.

A one-sided permutation test of the studentised difference: groups, each with all its rows, change
places between before and now. When nothing has changed it is exact, whatever the losses'
distribution and the groups' sizes. When something else than the mean has, such as the spread, it
keeps its level as groups become many (Chung and Romano 2013, Annals of Statistics 41, 484-507).
"""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

if TYPE_CHECKING:
    from shared.scoring import GroupLosses

Floats = NDArray[np.float64]

LEAST_RISE: Final = 0.05
"""A rise by a smaller share is no drift, however certain it is: with enough rows every difference
becomes certain (Hodges and Lehmann 1954, JRSS B 16, 261-268)."""
CONFIDENCE: Final = 0.95
PERMUTATIONS: Final = 9_999
RESOLUTION: Final = 1 / (PERMUTATIONS + 1)
"""The smallest p-value that so many permutations can give."""
MOST_PERMUTED: Final = 5_000
"""With more groups than this on either side, the statistic's normal limit is used."""

_ENOUGH: Final = 100
_AT_ONCE: Final = 50
_ROUNDING: Final = 1e-12


def rise_p_value(before: "GroupLosses", now: "GroupLosses", seed: int) -> float:
    """How probable at least as large a rise of the mean loss is when nothing has changed.

    Permutations are drawn until 100 of them show at least as large a rise; then p is their share
    (Besag and Clifford 1991, Biometrika 78, 301-304). That is as valid as to draw all 9,999, and
    most checks, in which nothing has changed, end after a few hundred. The same losses and seed
    give the same p. It takes two groups on each side.
    """
    table = _moments(before, now)
    total, first = table.sum(axis=0), table[: len(before.rows)].sum(axis=0)
    observed = float(_statistic(total, first[None])[0])
    size = min(len(before.rows), len(now.rows))
    if size > MOST_PERMUTED:
        return float(special.ndtr(-observed))
    if np.isfinite(observed):  # sums in another order may differ in the last digits
        observed -= _ROUNDING * abs(observed)
    # The smaller side is drawn; the other one is the rest.
    rest = size < len(before.rows)
    generator = np.random.default_rng(seed)
    found = drawn = 0
    while drawn < PERMUTATIONS:
        number = min(_AT_ONCE, PERMUTATIONS - drawn)
        sums = np.stack([_drawn(table, size, generator) for _ in range(number)])
        large = _statistic(total, total - sums if rest else sums) >= observed
        counted = found + np.cumsum(large)
        if counted[-1] >= _ENOUGH:
            return float(_ENOUGH / (drawn + 1 + np.argmax(counted >= _ENOUGH)))
        found, drawn = int(counted[-1]), drawn + number
    return (found + 1) / (PERMUTATIONS + 1)


def mean_interval(losses: "GroupLosses") -> tuple[float, float]:
    """The 95 % interval of the mean loss, by Student's t and the spread between groups.

    No loss is below zero, and neither is the interval. It takes two groups.
    """
    beyond = losses.sums - losses.mean * losses.rows
    _, variance = _ratio(_powers(beyond, losses.rows).sum(axis=0)[None])
    half = special.stdtrit(len(losses.rows) - 1, (1 + CONFIDENCE) / 2) * np.sqrt(variance[0])
    return max(losses.mean - float(half), 0.0), losses.mean + float(half)


def _moments(before: "GroupLosses", now: "GroupLosses") -> Floats:
    """By group: s, r, s², s r, r² and 1; s are its losses beyond the mean of all, r its rows.

    Of shape (n_groups, 6), those before first. Their sums over a side are all that the statistic
    needs, and as the common mean is taken off, none of them cancels badly.
    """
    rows = np.concatenate([before.rows, now.rows])
    losses = np.concatenate([before.sums, now.sums])
    beyond = losses - losses.sum() / rows.sum() * rows
    scale = np.abs(beyond).max()
    if scale <= _ROUNDING * np.abs(losses).max():
        return _powers(np.zeros(len(rows)), rows)
    return _powers(beyond / scale, rows)


def _powers(losses: Floats, rows: Floats) -> Floats:
    one = np.ones(len(rows))
    return np.stack([losses, rows, losses**2, losses * rows, rows**2, one], axis=1)


def _drawn(table: Floats, size: int, generator: np.random.Generator) -> Floats:
    """The sums of so many groups, drawn without replacement."""
    chosen = generator.choice(len(table), size, replace=False, shuffle=False)
    return np.asarray(table.take(chosen, axis=0).sum(axis=0))


def _statistic(total: Floats, before: Floats) -> Floats:
    """The rise over its standard error, for n ways to choose the groups that stand for before.

    Args:
        total: the sums of all groups' moments, of shape (6,).
        before: of those chosen, of shape (n, 6).
    """
    then, variance_then = _ratio(before)
    now, variance_now = _ratio(total - before)
    rise, error = now - then, np.sqrt(variance_then + variance_now)
    certain = np.where(rise == 0, 0.0, np.copysign(np.inf, rise))
    return np.divide(rise, error, out=certain, where=error > 0)


def _ratio(sums: Floats) -> tuple[Floats, Floats]:
    """The mean loss, and its variance by the spread between groups (Cochran 1977, chapter 6)."""
    losses, rows, squares, products, row_squares, groups = sums.T
    mean = losses / rows
    spread = squares - 2 * mean * products + mean**2 * row_squares
    spread = np.where(spread > _ROUNDING * squares, spread, 0.0)
    return mean, spread * groups / (groups - 1) / rows**2
