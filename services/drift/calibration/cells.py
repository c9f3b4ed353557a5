"""The cells of a check: what is compared, and how probable each difference is under no change.

A cell is one thing compared: a number column, its share of missing values, a category column, or
the correlation of two number columns; the first two over all rows and within each segment. Every
test here is a two-sample test of counts: `reference` and `current` are stacks of counts of shape
(b, …), b being 1 for a check and many for the simulation of the null, and nothing else is needed.
All figures are therefore sums over rows, and counts of chunks, workers and past batches add up.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

SMALLEST_CELL: Final = 10
"""A cell with fewer reference rows is not tested."""
DEGREES: Final = 4
"""Degrees of the smooth components of a number cell: location, spread, skew, peakedness."""
RANKS_CUT: Final = 2.5
"""Normal scores are cut off here, so that two outliers cannot make a correlation."""

_SMALLEST_P: Final = 1e-300
HEAVINESS: Final = {1: 0.0, 2: 0.05, DEGREES: 0.14}
"""By number of components, how much heavier their tail is than that of χ²."""
PAIR_HEAVINESS: Final = 0.18
_ROOT: Final = 2 / np.sqrt(np.pi)
_TRIES: Final = 4
"""The smallest of a number cell's six p-values is about as small as of four independent ones."""
_NUMBER_WEIGHT: Final = 4.0
_MISSING_WEIGHT: Final = 3.0
_CATEGORY_WEIGHT: Final = 3.0
_PAIRS_WEIGHT: Final = 0.2
TAIL_SHARE: Final = 0.0105
"""Bins whose mid-rank is within this of an end make its 1 % tail."""
_RARE_SHARE: Final = 0.025
"""A category's value is rare if the reference has it in at most this share of its rows."""
_MEAN_ABSOLUTE: Final = np.sqrt(2 / np.pi)
"""The mean absolute value of a standard normal variable."""
_TAIL_WEIGHT: Final = 5
"""An excess of 1 % of the rows in a 1 % tail, or in a rare value, weighs as a change of 5 % of the
rows elsewhere."""


@dataclass(frozen=True)
class Layout:
    """Where the counts of each cell stand in one flat vector."""

    numbers: int
    """Number cells; as many cells of missing values."""
    bins: int
    """Bins of a number cell, the longest one's."""
    categories: int
    levels: int
    """Bins in which a category column is shown, the longest one's."""
    buckets: int
    """Bins in which a category column is tested; one more is for missing values."""

    @property
    def size(self) -> int:
        return self.buckets_start + self.categories * (self.buckets + 1)

    @property
    def missing_start(self) -> int:
        return self.numbers * self.bins

    @property
    def categories_start(self) -> int:
        return self.missing_start + self.numbers

    @property
    def buckets_start(self) -> int:
        return self.categories_start + self.categories * self.levels

    def numbers_of(self, flat: Floats) -> Floats:
        """Shape (b, numbers, bins)."""
        return flat[:, : self.missing_start].reshape(len(flat), self.numbers, self.bins)

    def missing_of(self, flat: Floats) -> Floats:
        """Shape (b, numbers)."""
        return flat[:, self.missing_start : self.categories_start]

    def categories_of(self, flat: Floats) -> Floats:
        """What is shown of category columns, shape (b, categories, levels)."""
        shown = flat[:, self.categories_start : self.buckets_start]
        return shown.reshape(len(flat), self.categories, self.levels)

    def buckets_of(self, flat: Floats) -> Floats:
        """What is tested of category columns, shape (b, categories, buckets + 1)."""
        tested = flat[:, self.buckets_start :]
        return tested.reshape(len(flat), self.categories, self.buckets + 1)


@dataclass(frozen=True)
class CellCounts:
    """A stack of counts: `flat` of shape (b, layout.size), the pairs' of shape (b, pairs)."""

    flat: Floats
    pair_sums: Floats
    """Sums of products of normal scores."""
    pair_rows: Floats
    """Rows with a value in both columns."""

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> "CellCounts":
        return CellCounts(self.flat[rows], self.pair_sums[rows], self.pair_rows[rows])


def upper_tail(current: Floats, reference: Floats, n: Floats, m: Floats) -> Floats:
    """P(C ≥ current) given current + reference events, when rows of both samples are alike.

    The exact conditional test of two binomial counts (Przyborowski and Wilenski 1940), continued to
    counts that a design effect has divided (Rao and Scott 1981): a binomial tail as an incomplete
    beta function.
    """
    share = n / (n + m)
    tail = special.betainc(np.maximum(current, 1e-9), np.maximum(reference, 0) + 1, share)
    return np.where(current > 0, tail, 1.0)


def middle_tail(current: Floats, reference: Floats, n: Floats, m: Floats) -> Floats:
    """P(C > current) + P(C = current) / 2, or the same below if that is smaller; events as above.

    A tail without the loss that discreteness brings (Lancaster 1961): both halves add up to 1.
    """
    lower = current * m < reference * n
    more, fewer = np.where(lower, reference, current), np.where(lower, current, reference)
    share = np.where(lower, m, n) / (n + m)
    some, others = np.maximum(more, 1e-9), np.maximum(fewer, 1e-9)
    at_least = special.betainc(some, fewer + 1, share, out=np.ones_like(more), where=more > 0)
    above = special.betainc(more + 1, others, share, out=np.zeros_like(more), where=fewer > 0)
    tail = (at_least + above) / 2
    return np.asarray(np.minimum(tail, 1 - tail))


def bounded(statistic: Floats, heaviness: float, effective_rows: Floats) -> Floats:
    """A χ² statistic brought down to what few rows can bear.

    A sum of squared means of a few bounded but heavy-tailed scores exceeds the far quantiles of χ²
    more often than χ² says. T / (1 + γ T / n) does not, for 5 rows and more; γ was fitted by
    simulation (`python -m benchmarks.statistics small-samples`).
    """
    return statistic / (1 + heaviness * statistic / np.maximum(effective_rows, 1e-9))


def _chi_square_tail(degrees: NDArray[np.int64], statistic: Floats) -> Floats:
    """P(χ² ≥ statistic) for 1 to 4 degrees of freedom, in closed form: many times faster."""
    half = statistic / 2
    decay = np.exp(-half)
    even = np.where(degrees == DEGREES, decay * (1 + half), decay)
    if not (degrees % 2).any():
        return np.asarray(even)
    odd = special.erfc(np.sqrt(half)) + np.where(degrees == 3, _ROOT * np.sqrt(half) * decay, 0)
    return np.where(degrees % 2, odd, even)


def _fullest(reference: Floats, current: Floats, design_effect: Floats) -> Floats:
    """The upper tail of the bin with the largest excess; times the tries, a p-value."""
    n, m = (np.maximum(side.sum(-1), 1) for side in (current, reference))
    expected = reference * (n / m)[..., None]
    bin_ = ((current - expected) / np.sqrt(expected + 1)).argmax(-1)[..., None]
    found, before = (
        np.take_along_axis(side, bin_, -1)[..., 0] / design_effect
        for side in np.broadcast_arrays(current, reference)
    )
    return upper_tail(found, before, n, m)


def _p_where_tested(p: Floats, n: Floats, m: Floats) -> Floats:
    """The p-values of cells with rows in the batch and enough in the reference; 1 elsewhere."""
    return np.where((n > 0) & (m >= SMALLEST_CELL), np.clip(p, _SMALLEST_P, 1), 1.0)


@dataclass(frozen=True)
class NumberTest:
    """Neyman's smooth test on ranks, both 1 % tails, and the most over-full bin.

    Neyman 1937; Rayner and Best 1989. The smooth components are scores of the reference's
    mid-ranks, orthonormal under the reference and whitened by their covariance over clusters.
    """

    scores: Floats
    """Shape (cells, bins, DEGREES)."""
    degrees: NDArray[np.int64]
    """Components that a cell has: fewer than DEGREES if it has few distinct values."""
    low: Floats
    """Shape (cells, bins): 1 for bins in the reference's lowest 1 %."""
    high: Floats
    bins: Floats
    """Bins that a cell has, the padding left out."""
    design_effect: Floats
    """Shape (cells,): how much more counts vary than those of independent rows."""

    def p_values(self, reference: Floats, current: Floats) -> Floats:
        """The cells' p-values, of shape (b, cells)."""
        m, n = reference.sum(-1), current.sum(-1)
        m1, n1 = np.maximum(m, 1), np.maximum(n, 1)
        difference = current / n1[..., None] - reference / m1[..., None]
        smooth = self._smooth(difference, 1 / (1 / n1 + 1 / m1))
        deff = self.design_effect
        tails = [
            upper_tail((current * side).sum(-1) / deff, (reference * side).sum(-1) / deff, n1, m1)
            for side in (self.low, self.high)
        ]
        fullest = self.bins / 4 * _fullest(reference, current, deff)
        return _p_where_tested(_TRIES * np.minimum.reduce([smooth, *tails, fullest]), n, m)

    def _smooth(self, difference: Floats, effective_rows: Floats) -> Floats:
        """The smallest of the χ² tests on the first, the first two and all components."""
        components = np.matmul(difference.swapaxes(0, 1), self.scores).swapaxes(0, 1)
        statistic = np.cumsum(components**2, -1) * effective_rows[..., None]
        p = np.ones(effective_rows.shape)
        for degree, heaviness in HEAVINESS.items():
            has = np.clip(self.degrees, 1, degree)
            own = bounded(
                statistic[..., degree - 1], heaviness, effective_rows / self.design_effect
            )
            p = np.minimum(p, _chi_square_tail(has, own))
        return np.where(self.degrees > 0, p, 1.0)

    def effects(self, reference: Floats, current: Floats) -> Floats:
        """The largest difference of the distribution functions, or five times a tail's excess."""
        m, n = reference.sum(-1, keepdims=True), current.sum(-1, keepdims=True)
        difference = current / np.maximum(n, 1) - reference / np.maximum(m, 1)
        shift = np.abs(np.cumsum(difference, -1)).max(-1)
        tails = [(difference * side).sum(-1) for side in (self.low, self.high)]
        effect = np.maximum(shift, _TAIL_WEIGHT * np.maximum(*tails))
        return np.where((n > 0) & (m > 0), effect[..., None], 0.0)[..., 0].clip(0, 1)


@dataclass(frozen=True)
class MissingTest:
    """The share of missing values: both tails of the binomial test of the rarer side."""

    design_effect: Floats

    def p_values(self, reference: tuple[Floats, Floats], current: tuple[Floats, Floats]) -> Floats:
        """Each side is (present, missing), of shape (b, cells)."""
        (was, lacked), (is_, lacks) = (
            (side / self.design_effect for side in sides) for sides in (reference, current)
        )
        m, n = reference[0] + reference[1], current[0] + current[1]
        m1, n1 = np.maximum(m, 1), np.maximum(n, 1)
        missing_is_rarer = lacked + lacks <= was + is_
        events = np.where(missing_is_rarer, lacks, is_)
        events_before = np.where(missing_is_rarer, lacked, was)
        return _p_where_tested(2 * middle_tail(events, events_before, n1, m1), n, m)

    def effects(self, reference: tuple[Floats, Floats], current: tuple[Floats, Floats]) -> Floats:
        """|Δ share of missing values|."""
        shares = [lacks / np.maximum(has + lacks, 1) for has, lacks in (reference, current)]
        return np.where(current[0] + current[1] > 0, np.abs(shares[1] - shares[0]), 0.0)


@dataclass(frozen=True)
class CategoryTest:
    """The two-sample χ² over the buckets of values, and the most over-full bucket."""

    design_effect: Floats

    def p_values(self, reference: Floats, current: Floats) -> Floats:
        """Counts of shape (b, cells, buckets); the result has shape (b, cells)."""
        m, n = reference.sum(-1), current.sum(-1)
        m1, n1 = np.maximum(m, 1), np.maximum(n, 1)
        filled = (reference + current > 0).sum(-1)
        fullest = (filled + 1) / 2 * _fullest(reference, current, self.design_effect)
        p = np.minimum(self._chi_square(reference, current, n1, m1), fullest)
        return _p_where_tested(p, n, m)

    def _chi_square(self, reference: Floats, current: Floats, n: Floats, m: Floats) -> Floats:
        """χ² of homogeneity; buckets of which a sample expects less than one row are merged."""
        pooled, difference = self._merged(reference, current, n, m)
        terms = np.divide(difference**2, pooled, out=np.zeros_like(pooled), where=pooled > 0)
        degrees = np.maximum((pooled > 0).sum(-1) - 1, 1)
        statistic = terms.sum(-1) * (n * m / (n + m)) / self.design_effect
        return np.asarray(special.chdtrc(degrees, statistic))

    def _merged(
        self, reference: Floats, current: Floats, n: Floats, m: Floats
    ) -> tuple[Floats, Floats]:
        """The buckets' shares of both samples, and by how much the batch's are larger.

        Buckets of which a sample expects less than one row become one, the last. If the sample
        expects less than one row of that one too, its share is zero: one row would weigh too much.
        """
        pooled = (reference + current) / (n + m)[..., None]
        difference = current / n[..., None] - reference / m[..., None]
        least = self.design_effect / np.minimum(n, m)
        frequent = pooled >= least[..., None]
        rare, rare_difference = (
            np.where(frequent, 0, part).sum(-1, keepdims=True) for part in (pooled, difference)
        )
        enough = rare >= least[..., None]
        parts = (
            np.concatenate([np.where(frequent, part, 0), np.where(enough, rest, 0)], -1)
            for part, rest in ((pooled, rare), (difference, rare_difference))
        )
        shares, differences = parts
        return shares, differences

    def effects(self, reference: Floats, current: Floats) -> Floats:
        """How far the shares moved, beyond what chance alone gives.

        The total variation distance, or five times the excess of a bucket that is rare in the
        reference. Total variation adds up sampling errors, so without any change it is E > 0,
        the more so the more buckets there are; (D - E) / (1 - E) is 0 then on average, and still 1
        for samples that have nothing in common.
        """
        m, n = reference.sum(-1), current.sum(-1)
        m1, n1 = np.maximum(m, 1), np.maximum(n, 1)
        pooled, difference = self._merged(reference, current, n1, m1)
        error = self._standard_error(pooled, n1, m1)
        chance = _MEAN_ABSOLUTE * error.sum(-1) / 2
        moved = np.abs(difference).sum(-1) / 2
        total = (moved - chance) / np.maximum(1 - chance, 0.1)
        rare = self._rare_excess(reference, current, n1, m1)
        effect = np.maximum(total, _TAIL_WEIGHT * rare)
        return np.where(n > 0, np.clip(effect, 0, 1), 0.0)

    def _rare_excess(self, reference: Floats, current: Floats, n: Floats, m: Floats) -> Floats:
        """The largest excess of a bucket that is rare in the reference.

        What chance gives to the fullest of these buckets is subtracted (Bernstein's inequality).
        """
        rare = reference <= _RARE_SHARE * m[..., None]
        excess = current / n[..., None] - reference / m[..., None]
        error = self._standard_error((reference + current) / (n + m)[..., None], n, m)
        tries = np.log1p((rare & (reference + current > 0)).sum(-1, keepdims=True))
        rows = tries / 3 * (self.design_effect / n)[..., None]
        beyond = excess - np.sqrt(2 * tries) * error - rows
        return np.asarray(np.where(rare, beyond, 0).max(-1))

    def _standard_error(self, share: Floats, n: Floats, m: Floats) -> Floats:
        """Of the difference of two samples' shares; shapes (b, cells, buckets) and (b, cells)."""
        rows = (1 / n + 1 / m) * self.design_effect
        return np.asarray(np.sqrt(share * np.maximum(1 - share, 0) * rows[..., None]))


@dataclass(frozen=True)
class PairTest:
    """The correlation of two columns' normal scores: a z test of the mean product."""

    variance: Floats
    """Of the product, over clusters; shape (pairs,)."""
    tested: NDArray[np.bool_]

    def p_values(self, reference: CellCounts, current: CellCounts) -> Floats:
        """Shape (b, pairs)."""
        m, n = np.maximum(reference.pair_rows, 1), np.maximum(current.pair_rows, 1)
        spread = np.sqrt(self.variance * (1 / n + 1 / m))
        z = (current.pair_sums / n - reference.pair_sums / m) / spread
        p = _chi_square_tail(np.array(1), bounded(z**2, PAIR_HEAVINESS, n * m / (n + m)))
        return np.where(self.tested & (current.pair_rows > 1), np.clip(p, _SMALLEST_P, 1), 1.0)

    def effects(self, before: Floats, after: Floats, current: CellCounts) -> Floats:
        """|Δ correlation|, at most 1; from `Cells.correlations`."""
        change = np.minimum(np.abs(after - before), 1)
        return np.where(self.tested & (current.pair_rows > 1), change, 0.0)


@dataclass(frozen=True)
class Cells:
    """The tests of all cells, and how their p-values become one figure."""

    layout: Layout
    number: NumberTest
    missing: MissingTest
    category: CategoryTest
    pair: PairTest
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]]
    """The number columns of each pair."""
    normal_scores: Floats
    """Of each number cell's bins, of shape (numbers, bins)."""
    groups: int
    """Number cells of a column: over all rows, and one a segment."""

    @cached_property
    def weights(self) -> Floats:
        """How much each cell's p-value counts; shape (cells,).

        Chosen for power in each of the changes that docs/statistics.md lists. All pairs together
        weigh no more than a small share of the other cells, however many there are.
        """
        layout, pairs = self.layout, len(self.pair.variance)
        others = 2 * layout.numbers + layout.categories
        weights = (
            (layout.numbers, _NUMBER_WEIGHT),
            (layout.numbers, _MISSING_WEIGHT),
            (layout.categories, _CATEGORY_WEIGHT),
            (pairs, _PAIRS_WEIGHT * min(others / max(pairs, 1), 1)),
        )
        return np.concatenate([np.full(number, weight) for number, weight in weights])

    def p_values(self, reference: CellCounts, current: CellCounts) -> Floats:
        """Each cell's p-value: numbers, missing, categories, pairs; shape (b, cells)."""
        was, is_ = self.layout.numbers_of(reference.flat), self.layout.numbers_of(current.flat)
        lacked, lacks = map(self.layout.missing_of, (reference.flat, current.flat))
        categories = map(self.layout.buckets_of, (reference.flat, current.flat))
        parts = (
            self.number.p_values(was, is_),
            self.missing.p_values((was.sum(-1), lacked), (is_.sum(-1), lacks)),
            self.category.p_values(*categories),
            self.pair.p_values(reference, current),
        )
        return np.concatenate(parts, axis=1)

    def effects(self, reference: CellCounts, current: CellCounts) -> Floats:
        """The size of each cell's change, from 0 to 1; order and shape as `p_values`."""
        was, is_ = self.layout.numbers_of(reference.flat), self.layout.numbers_of(current.flat)
        lacked, lacks = map(self.layout.missing_of, (reference.flat, current.flat))
        categories = map(self.layout.buckets_of, (reference.flat, current.flat))
        parts = (
            self.number.effects(was, is_),
            self.missing.effects((was.sum(-1), lacked), (is_.sum(-1), lacks)),
            self.category.effects(*categories),
            self.pair.effects(self.correlations(reference), self.correlations(current), current),
        )
        return np.concatenate(parts, axis=1)

    def correlations(self, counts: CellCounts) -> Floats:
        """The correlation of each pair's normal scores, within segments; shape (b, pairs).

        Means and spreads are of all rows with a value in the column, from its bins.
        """
        scores, (first, second) = self.normal_scores, self.pairs
        columns = self.layout.numbers // self.groups
        shape = (len(counts.flat), columns, self.groups, self.layout.bins)
        finest = self.layout.numbers_of(counts.flat).reshape(shape)[:, :, min(self.groups - 1, 1) :]
        scores = scores.reshape(shape[1:])[:, min(self.groups - 1, 1) :]
        rows = np.maximum(finest.sum((2, 3)), 1)
        means = (finest * scores).sum((2, 3)) / rows
        variances = (finest * scores**2).sum((2, 3)) / rows - means**2
        spread = np.sqrt(np.maximum(variances[:, first] * variances[:, second], 0))
        products = counts.pair_sums / np.maximum(counts.pair_rows, 1)
        covariances = products - means[:, first] * means[:, second]
        found = np.divide(covariances, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        return np.asarray(np.clip(found, -1, 1))

    def statistic(self, reference: CellCounts, current: CellCounts) -> Floats:
        """-log of the weighted harmonic mean of the cells' p-values (Wilson 2019); shape (b,)."""
        return self.combined(self.p_values(reference, current))

    def combined(self, p: Floats) -> Floats:
        """The statistic of p-values of shape (b, cells)."""
        return np.asarray(np.log((self.weights / p).sum(1) / self.weights.sum()))
