"""The distribution of a check's statistic when nothing has changed, by simulation.

What a reference was drawn from is not known; by the Bayesian bootstrap (Rubin 1981) it is likely to
be the reference's rows with random weights, exponential and independent. Pseudo-batches are drawn
from such worlds, whole clusters where there are clusters, and compared with the reference as a
batch is. The reference's own sampling error is thus part of the null, which matters when the
reference is small or the batch is large. Since the truth reaches beyond the extremes of a sample,
every world has a few rows beyond them, the phantoms.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from services.drift.calibration.binning import Pairs, pair_products
from services.drift.calibration.cells import CellCounts, Floats

SIZES: Final = (5, 10, 20, 50, 100, 300, 1000, 3000)
"""Batch sizes at which the distribution is simulated; between them it is interpolated. After them
comes the limit of an endless batch, which has no sampling error of its own."""

_ENDLESS: Final = 1e12
"""Rows of a batch that is as good as endless."""
_TAIL: Final = 0.05
"""The share of the draws to which the exponential tail is fitted."""
_BODY: Final = np.linspace(1, _TAIL, 96)
_TAIL_PRIOR: Final = 20
"""The theoretical tail exp(-x) of a harmonic mean of p-values (Wilson 2019) counts in the fit as so
many draws."""
_SMALLEST_P: Final = 1e-300

Indices = NDArray[np.intp]
Statistic = Callable[[CellCounts, CellCounts], Floats]
"""From a stack of references and a stack of batches to one figure each, larger for more drift."""


@dataclass(frozen=True)
class Sample:
    """Rows of the reference as the bins they fall into, and phantoms after them."""

    rows: int
    """The first so many are the reference's."""
    codes: Indices
    """Shape (all rows, slots): indices of the flat counts; `size` for none."""
    scores: Floats
    """Normal scores of the number columns, shape (columns, all rows); 0 where there is no value."""
    present: Floats
    """1 where there is a value."""
    clusters: Indices
    """Of each row."""
    size: int
    """Of the flat counts."""
    pairs: Pairs

    @cached_property
    def reference(self) -> CellCounts:
        """The counts of the reference's rows, as a stack of one."""
        return _stacked([self._counts(np.arange(self.rows))])

    def batches(self, rows: int, number: int, generator: np.random.Generator) -> CellCounts:
        """The counts of so many batches, drawn in whole clusters from worlds with random weights.

        A world serves several batches where it matters little which one it is.
        """
        per_world = int(np.clip(self.rows / (10 * rows), 1, 50))
        counted = []
        for draw in range(number):
            if draw % per_world == 0:
                chances = np.cumsum(self._weights(generator))
                chances /= chances[-1]
            counted.append(self._counts(self._drawn(rows, chances, generator)))
        return _stacked(counted)

    def endless_batches(self, number: int, generator: np.random.Generator) -> CellCounts:
        """The counts of batches so large that they are their worlds."""
        return _stacked([self._weighted(self._weights(generator)) for _ in range(number)])

    def _weights(self, generator: np.random.Generator) -> Floats:
        return generator.standard_exponential(len(self._cluster_rows[0]))

    def _drawn(self, rows: int, chances: Floats, generator: np.random.Generator) -> Indices:
        starts, sizes, order = self._cluster_rows
        if len(sizes) == len(self.codes):  # every row is a cluster
            return np.searchsorted(chances, generator.random(rows))
        number = int(rows / sizes.mean() * 1.2) + 10
        drawn = np.empty(0, np.intp)
        while not len(drawn) or sizes[drawn].sum() < rows:
            more = np.searchsorted(chances, generator.random(number))
            drawn = np.concatenate([drawn, more])
        lengths = sizes[drawn]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        return np.asarray(order[(np.repeat(starts[drawn], lengths) + within)[:rows]])

    @cached_property
    def _cluster_rows(self) -> tuple[Indices, Indices, Indices]:
        """Where each cluster's rows start in an order of the rows, how many, and the order."""
        sizes = np.bincount(self.clusters)
        return np.cumsum(sizes) - sizes, sizes, np.argsort(self.clusters, kind="stable")

    def _counts(self, chosen: Indices) -> tuple[Floats, Floats, Floats]:
        counted = np.bincount(self.codes[chosen].ravel(), minlength=self.size + 1)
        flat = counted[: self.size].astype(float)
        return flat, pair_products(self.scores.take(chosen, 1), self.pairs), self._pair_rows(chosen)

    def _pair_rows(self, chosen: Indices) -> Floats:
        if self._is_complete:
            return np.full(len(self.pairs[0]), float(len(chosen)))
        return pair_products(self.present.take(chosen, 1), self.pairs)

    @cached_property
    def _is_complete(self) -> bool:
        """Whether every number column has a value in every row."""
        return bool(self.present.all())

    def _weighted(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        by_row = weights[self.clusters]
        by_row *= _ENDLESS / by_row.sum()
        repeated = np.repeat(by_row, self.codes.shape[1])
        counted = np.bincount(self.codes.ravel(), repeated, self.size + 1)
        root = np.sqrt(by_row)
        sums, rows = (
            pair_products(part * root, self.pairs) for part in (self.scores, self.present)
        )
        return counted[: self.size].astype(float), sums, rows


def _stacked(counted: list[tuple[Floats, Floats, Floats]]) -> CellCounts:
    flat, sums, rows = (np.array(part, dtype=float) for part in zip(*counted, strict=True))
    return CellCounts(flat, sums, rows)


class NullPoint(BaseModel):
    """The null distribution at one size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effective_rows: float
    """n m / (n + m) for n rows in the batch and m in the reference."""
    body: tuple[float, ...]
    """The statistic at survival probabilities from 1 down to 5 %, evenly spaced."""
    tail_scale: float
    """Beyond, the probability falls as exp(-excess / tail_scale). A standard error is added to the
    estimate: what it lacks would be paid for in false alarms, the more so the rarer they are."""

    @classmethod
    def of(cls, effective_rows: float, draws: Floats) -> "NullPoint":
        """Fit to simulated draws of the statistic."""
        body = np.quantile(draws, 1 - _BODY)
        excess = draws[draws > body[-1]] - body[-1]
        known = len(excess) + _TAIL_PRIOR
        scale = (excess.sum() + _TAIL_PRIOR) / known * (1 + 1 / np.sqrt(known))
        return cls(
            effective_rows=effective_rows, body=tuple(body.tolist()), tail_scale=float(scale)
        )

    def p(self, statistic: Floats) -> Floats:
        """P(at least this) under the null."""
        end = self.body[-1]
        tail = _TAIL * np.exp(-np.maximum(statistic - end, 0) / self.tail_scale)
        body = np.interp(statistic, self.body, _BODY)
        return np.maximum(np.where(statistic > end, tail, body), _SMALLEST_P)

    def statistic(self, p: float) -> float:
        """The figure that is exceeded with this probability, below 5 %."""
        return float(self.body[-1] + self.tail_scale * np.log(_TAIL / min(p, _TAIL)))


class Simulation:
    """Simulates the null distribution size by size; each size has a seed of its own."""

    def __init__(self, sample: Sample, statistic: Statistic, seed: int) -> None:
        self._sample = sample
        self._statistic = statistic
        self._seed = seed

    def effective_rows(self, size: int) -> float:
        """Of SIZES[size], or of an endless batch after the last."""
        if size == len(SIZES):
            return float(self._sample.rows)
        return SIZES[size] * self._sample.rows / (SIZES[size] + self._sample.rows)

    def point(self, size: int) -> NullPoint:
        """The distribution at that size."""
        generator = np.random.default_rng([self._seed, size])
        draws = [
            self._statistic(self._sample.reference, batches)
            for batches in self._batches(size, generator)
        ]
        return NullPoint.of(self.effective_rows(size), np.concatenate(draws))

    def _batches(self, size: int, generator: np.random.Generator) -> Iterator[CellCounts]:
        number = self._draws(size)
        for start in range(0, number, self._chunk):
            some = min(self._chunk, number - start)
            if size == len(SIZES):
                yield self._sample.endless_batches(some, generator)
            else:
                yield self._sample.batches(SIZES[size], some, generator)

    def _draws(self, size: int) -> int:
        """How many: enough for a tail, as far as time allows."""
        if size == len(SIZES):
            return int(np.clip(1e8 / self._sample.codes.size, 100, 500))
        return int(np.clip(min(1.5e6 / SIZES[size], 3e7 / self._sample.size), 400, 2000))

    @property
    def _chunk(self) -> int:
        """Draws that are compared at a time, which bounds the memory."""
        return int(np.clip(1e6 / self._sample.size, 1, 1000))


class Null:
    """The null distribution at all sizes; a size is simulated when it is first needed."""

    def __init__(self, points: dict[int, NullPoint], simulation: Simulation | None = None) -> None:
        self._points = points
        self._simulation = simulation

    def p(self, statistic: Floats, effective_rows: float) -> Floats:
        """The p-values: log p is interpolated in the logarithm of the effective rows."""
        below, above, weight = self._between(effective_rows)
        logs = [np.log(self._point(size).p(statistic)) for size in (below, above)]
        return np.asarray(np.exp((1 - weight) * logs[0] + weight * logs[1]))

    def statistic(self, p: float, effective_rows: float) -> float:
        """The figure that is exceeded with this probability, at most 5 %."""
        below, above, weight = self._between(effective_rows)
        figures = [self._point(size).statistic(p) for size in (below, above)]
        return (1 - weight) * figures[0] + weight * figures[1]

    def complete(self, progress: Callable[[float], None] | None = None) -> tuple[NullPoint, ...]:
        """The distribution at every size; the progress is told as a share."""
        for size in range(len(SIZES) + 1):
            self._point(size)
            if progress:
                progress((size + 1) / (len(SIZES) + 1))
        return tuple(self._points[size] for size in range(len(SIZES) + 1))

    def _between(self, effective_rows: float) -> tuple[int, int, float]:
        """The sizes around, and how near the upper one is, from 0 to 1."""
        logs = np.log([self._effective_rows(size) for size in range(len(SIZES) + 1)])
        here = float(np.clip(np.log(max(effective_rows, 1e-9)), logs[0], logs[-1]))
        above = max(int(np.searchsorted(logs, here)), 1)
        return above - 1, above, (here - logs[above - 1]) / (logs[above] - logs[above - 1])

    def _effective_rows(self, size: int) -> float:
        if self._simulation:
            return self._simulation.effective_rows(size)
        return self._points[size].effective_rows

    def _point(self, size: int) -> NullPoint:
        if size not in self._points and self._simulation:
            self._points[size] = self._simulation.point(size)
        return self._points[size]
