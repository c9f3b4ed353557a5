"""From the rows of a reference to the bins, the tests and the rows from which the null is drawn."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from services.drift.calibration.arrays import Array
from services.drift.calibration.binning import (
    HASHES,
    Binning,
    Counts,
    Edges,
    quantile_edges,
    value_hashes,
)
from services.drift.calibration.cells import DEGREES, SMALLEST_CELL, Floats
from services.drift.calibration.dependence import ClusteredRows, Indices
from services.drift.calibration.null import Sample
from services.drift.calibration.scores import normal_scores, smooth_scores
from services.drift.tables.frame import MISSING, Frame, Numbers
from services.drift.tables.roles import Roles

MIN_SEGMENT_ROWS: Final = 100
"""A segment with fewer reference rows has no cells of its own."""
MAX_SEGMENTS: Final = 100
MAX_LABELS: Final = 100
"""A category column's less frequent values are shown as one."""
FEWEST_BUCKETS: Final = 16
MOST_BUCKETS: Final = 512
SAMPLE_ROWS: Final = 50_000
"""Of a larger reference a sample of this size stands for it in what concerns variances."""

_CLUSTERS_OF_A_BUCKET: Final = 5
"""Clusters, or independent rows, of the reference for each bucket of a category column."""
_OPEN_END_SHARE: Final = 0.002
_MIN_CLUSTERED_ROWS: Final = 20
_MIN_PAIR_ROWS: Final = 50
_SMALLEST_VARIANCE: Final = 1e-6


def fit_binning(frame: Frame, roles: Roles, clusters: Indices | None) -> Binning:
    """Fix the bins of every cell at the reference's quantiles and categories.

    Args:
        clusters: the cluster of each row; None if each row is its own.
    """
    independent = frame.rows if clusters is None else int(clusters.max(initial=-1)) + 1
    buckets = int(np.clip(independent // _CLUSTERS_OF_A_BUCKET, FEWEST_BUCKETS, MOST_BUCKETS))
    segments = _segments(frame, roles.segment)
    members = _members(frame, roles.segment, segments)
    compared = (*roles.categories, *_also(roles.segment, roles.categories))
    counted = [_category_rows(frame, name) for name in compared]
    columns = [frame.numbers(name) for name in roles.numbers]
    units = [_standard_unit(values[np.isfinite(values)]) for values in columns]
    return Binning(
        numbers=roles.numbers,
        target=roles.target,
        segment=roles.segment,
        segments=segments,
        edges=tuple(_edges(values, members) for values in columns),
        categories=compared,
        labels=tuple(tuple(label for label, _ in rows[:MAX_LABELS]) for rows in counted),
        others=tuple(frozenset(label for label, _ in rows[MAX_LABELS:]) for rows in counted),
        buckets=buckets,
        hashes=tuple(_hash(rows[:MAX_LABELS], buckets) for rows in counted),
        centre=np.array([centre for centre, _ in units]),
        scale=np.array([scale for _, scale in units]),
    )


def _also(segment: str | None, categories: tuple[str, ...]) -> tuple[str, ...]:
    return () if segment is None or segment in categories else (segment,)


def _category_rows(frame: Frame, name: str) -> list[tuple[str, int]]:
    """The values of a column and their rows, the most frequent first."""
    codes, labels = frame.categories(name)
    rows = np.bincount(codes[codes != MISSING], minlength=len(labels))
    return sorted(zip(labels, rows.tolist(), strict=True), key=lambda entry: (-entry[1], entry[0]))


def _hash(rows: list[tuple[str, int]], buckets: int) -> int:
    """The hash that keeps the most frequent values apart: the sum of squared counts is smallest."""
    if not rows:
        return 0
    hashes = np.array([value_hashes(label) for label, _ in rows]) % buckets
    counts = np.array([number for _, number in rows], float)
    sums = [(np.bincount(hashes[:, hash_], counts) ** 2).sum() for hash_ in range(HASHES)]
    return int(np.argmin(sums))


def _segments(frame: Frame, segment: str | None) -> tuple[str, ...]:
    if segment is None:
        return ()
    rows = _category_rows(frame, segment)[:MAX_SEGMENTS]
    return tuple(sorted(label for label, number in rows if number >= MIN_SEGMENT_ROWS))


def _members(
    frame: Frame, segment: str | None, segments: tuple[str, ...]
) -> list[NDArray[np.bool_]]:
    """For each segment which rows are in it."""
    if segment is None:
        return []
    codes, labels = frame.categories(segment)
    code_of = {label: code for code, label in enumerate(labels)}
    return [codes == code_of[name] for name in segments]


def _edges(values: Numbers, members: list[NDArray[np.bool_]]) -> tuple[Edges, ...]:
    present = np.isfinite(values)
    parts = (values[present & rows] for rows in members)
    return (quantile_edges(values[present]), *map(quantile_edges, parts))


def _standard_unit(values: Numbers) -> tuple[float, float]:
    """Mean and standard deviation, without overflow; (0, 1) of no value, (x, 1) of a constant."""
    if not len(values):
        return 0.0, 1.0
    largest = float(np.abs(values).max()) or 1.0
    shrunk = np.sort(values) / largest
    return float(shrunk.mean() * largest), float(min(shrunk.std() * largest, 1e300)) or 1.0


def cluster_ids(frame: Frame, columns: tuple[str, ...]) -> Indices | None:
    """A number for each combination of the columns' values; None if there is no column.

    A row without a value in one of them is a cluster of its own.
    """
    if not columns:
        return None
    ids = np.zeros(frame.rows, np.intp)
    alone = np.zeros(frame.rows, bool)
    for name in columns:
        codes, labels = frame.categories(name)
        alone |= codes == MISSING
        ids = np.unique(ids * (len(labels) + 1) + codes + 1, return_inverse=True)[1]
    ids[alone] = ids.max(initial=0) + 1 + np.arange(alone.sum())
    return np.asarray(np.unique(ids, return_inverse=True)[1])


class Scores:
    """Scores of all number cells' bins under the reference's shares."""

    def __init__(self, binning: Binning, reference: Floats) -> None:
        cells, bins = reference.shape
        self._reference = reference
        self._widths = binning.widths
        self.rows = reference.sum(-1)
        self.shares = reference / np.maximum(self.rows, 1)[:, None]
        self.smooth = np.zeros((cells, bins, DEGREES))
        self.normal = np.zeros((cells, bins))
        self.degrees = np.zeros(cells, np.int64)
        for cell, width in enumerate(binning.widths):
            if self.rows[cell] >= SMALLEST_CELL:
                own = self.shares[cell, :width]
                self.smooth[cell, :width], self.degrees[cell] = smooth_scores(own)
                self.normal[cell, :width] = normal_scores(own, self.rows[cell])

    def open_ends(self, cell: int) -> list[int]:
        """The outermost bins of a cell whose extreme values are not piled up there."""
        counts = self._reference[cell, : self._widths[cell]]
        ends = ((0, counts[1:2]), (len(counts) - 1, counts[-2:-1]))
        few = _OPEN_END_SHARE * self.rows[cell] + 1
        return [bin_ for bin_, inner in ends if inner.sum() <= few]


class Dependence(BaseModel):
    """How strongly the rows of a cluster depend on each other, and what pairs vary by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Array
    """Design effects of the number cells."""
    missing: Array
    category: Array
    covariances: Array
    """Of the smooth components, of shape (number cells, DEGREES, DEGREES)."""
    pair_variance: Array
    pair_tested: Array
    clusters: int | None = None
    """Of the rows sampled; None: no cluster columns, or a profile of before."""


class SampledRows:
    """Rows of the reference, at most SAMPLE_ROWS and in whole clusters, as their bins."""

    def __init__(self, frame: Frame, binning: Binning, clusters: Indices | None, seed: int) -> None:
        codes, order = binning.encode(frame)
        clusters = None if clusters is None else clusters[order]
        self._generator = np.random.default_rng(seed)
        kept = _sampled(len(codes), clusters, self._generator)
        self.binning = binning
        self.codes = codes[kept]
        self.clusters = (
            None if clusters is None else np.unique(clusters[kept], return_inverse=True)[1]
        )

    def scores(self, codes: NDArray[np.intp], normal: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """The number columns' normal scores and where there is a value, shape (rows, columns)."""
        detailed = self.binning.detailed(codes)
        present = detailed < normal.size
        return normal.ravel().take(detailed, mode="clip") * present, present

    def sample(self, scores: "Scores") -> Sample:
        """The rows to simulate from, with phantoms."""
        phantoms = self._phantoms(scores)
        codes = np.concatenate([self.codes, phantoms])
        values, present = self.scores(codes, scores.normal)
        own = np.arange(len(self.codes)) if self.clusters is None else self.clusters
        return Sample(
            rows=len(self.codes),
            codes=codes,
            scores=np.ascontiguousarray(values.T),
            present=np.ascontiguousarray(present.T, dtype=float),
            clusters=np.concatenate([own, own.max() + 1 + np.arange(len(phantoms))]),
            size=self.binning.layout.size,
            pairs=self.binning.pairs,
        )

    def _phantoms(self, scores: "Scores") -> NDArray[np.intp]:
        """Rows with a value that the reference does not have.

        One each for the ends of a number cell, beyond the smallest and the largest value: the truth
        reaches beyond the extremes of a sample, on average by a share of 1 / (rows + 1) at each end
        of a continuous column. An end at which rows pile up has none. One for each category column:
        by Laplace's rule of succession a new row has a new value about as often.
        """
        layout = self.binning.layout
        made: list[Indices] = []
        for slot in range(self.binning.number_slots.stop):
            codes = self.codes[:, slot]
            cells = np.where(codes < layout.missing_start, codes // layout.bins, -1)
            for cell in np.unique(cells[cells >= 0]):
                rows = np.flatnonzero(cells == cell)
                made += [
                    self._phantom(rows, slot, int(cell) * layout.bins + bin_)
                    for bin_ in scores.open_ends(int(cell))
                ]
        every = np.arange(len(self.codes))
        made += [
            self._phantom(every, slot, self._unseen_bucket(slot))
            for slot in range(self.binning.number_slots.stop, self.codes.shape[1])
        ]
        return np.array(made, np.intp).reshape(-1, self.codes.shape[1])

    def _phantom(self, rows: Indices, slot: int, code: int) -> Indices:
        """One of the rows, with another code in a slot."""
        row = self.codes[self._generator.choice(rows)].copy()
        row[slot] = code
        return np.asarray(row)

    def _unseen_bucket(self, slot: int) -> int:
        """The code of a bucket that no row of a category column falls into, if there is one."""
        column = slot - self.binning.number_slots.stop
        start = self.binning.layout.buckets_start + column * (self.binning.buckets + 1)
        every = start + np.arange(self.binning.buckets)
        empty = np.setdiff1d(every, self.codes[:, slot])
        return int(self._generator.choice(empty if len(empty) else every))


def _sampled(rows: int, clusters: Indices | None, generator: np.random.Generator) -> Indices:
    if rows <= SAMPLE_ROWS:
        return np.arange(rows)
    if clusters is None:
        return np.sort(generator.choice(rows, SAMPLE_ROWS, replace=False))
    rank = generator.permutation(clusters.max() + 1)[clusters]
    return np.sort(np.argsort(rank, kind="stable")[:SAMPLE_ROWS])


def fit_dependence(rows: SampledRows, reference: Counts, scores: Scores) -> Dependence:
    """Estimate from the sample how much counts, components and products vary over clusters."""
    layout = rows.binning.layout
    variance, tested = _pair_variance(rows, scores)
    if rows.clusters is None:
        return Dependence(
            number=np.ones(layout.numbers),
            missing=np.ones(layout.numbers),
            category=np.ones(layout.categories),
            covariances=np.tile(np.eye(DEGREES), (layout.numbers, 1, 1)),
            pair_variance=variance,
            pair_tested=tested,
        )
    number, covariances = _number_dependence(rows, rows.clusters, scores)
    return Dependence(
        number=number,
        missing=_missing_dependence(rows, rows.clusters, reference),
        category=_category_dependence(rows, rows.clusters, reference),
        covariances=covariances,
        pair_variance=variance,
        pair_tested=tested,
        clusters=int(rows.clusters.max()) + 1,
    )


def _pair_variance(rows: SampledRows, scores: Scores) -> tuple[Floats, Floats]:
    """The variance of each pair's product over clusters, and 1 where the pair can be tested.

    A correlation rests on the rows in which neither column has its most frequent value: if there
    are few, as of two rare flags, the sample says little of how the product varies.
    """
    values, present = rows.scores(rows.codes, scores.normal)
    varied = [_unusual(*column).sum() for column in zip(values.T, present.T, strict=True)]
    first, second = rows.binning.pairs
    variance, tested = np.ones(len(first)), np.zeros(len(first))
    for pair, (one, other) in enumerate(zip(first, second, strict=True)):
        both = present[:, one] & present[:, other]
        expected = varied[one] * varied[other] / max(len(both), 1)
        products = (values[:, one] * values[:, other])[both]
        if expected >= _MIN_PAIR_ROWS and products.var() > _SMALLEST_VARIANCE:
            tested[pair] = 1
            variance[pair] = products.var()
            if rows.clusters is not None:
                sums = np.bincount(rows.clusters[both], products - products.mean())
                variance[pair] = max(variance[pair], sums @ sums / len(products))
    return variance, tested


def _unusual(scores: Floats, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a column has another value than its most frequent one."""
    different, place = np.unique(scores, return_inverse=True)
    rows = np.bincount(place, present, len(different))
    return np.asarray(present & (place != np.argmax(rows)))


def _number_dependence(
    rows: SampledRows, clusters: Indices, scores: Scores
) -> tuple[Floats, Floats]:
    layout = rows.binning.layout
    members = _clustered(
        rows, clusters, rows.binning.number_slots, 0, layout.missing_start, layout.bins
    )
    enough = scores.rows >= _MIN_CLUSTERED_ROWS
    covariances = members.covariances(scores.smooth)
    covariances[~enough] = np.eye(DEGREES)
    return np.where(enough, members.design_effects(scores.shares), 1.0), covariances


def _missing_dependence(rows: SampledRows, clusters: Indices, reference: Counts) -> Floats:
    layout = rows.binning.layout
    codes = rows.codes[:, rows.binning.number_slots]
    row, slot = np.nonzero(codes < layout.categories_start)
    found = codes[row, slot]
    missing = found >= layout.missing_start
    cell = np.where(missing, found - layout.missing_start, found // layout.bins)
    flat = reference.stacked.flat
    sides = np.stack([layout.numbers_of(flat)[0].sum(-1), layout.missing_of(flat)[0]], 1)
    shares = sides / np.maximum(sides.sum(1, keepdims=True), 1)
    return ClusteredRows(clusters[row], cell, missing.astype(np.intp)).design_effects(shares)


def _category_dependence(rows: SampledRows, clusters: Indices, reference: Counts) -> Floats:
    layout = rows.binning.layout
    counted = layout.buckets_of(reference.stacked.flat)[0]
    shares = counted / np.maximum(counted.sum(-1, keepdims=True), 1)
    slots = slice(rows.binning.number_slots.stop, None)
    bins = layout.buckets + 1
    members = _clustered(rows, clusters, slots, layout.buckets_start, layout.size, bins)
    return members.design_effects(shares)


def _clustered(
    rows: SampledRows, clusters: Indices, slots: slice, start: int, end: int, width: int
) -> ClusteredRows:
    """The rows of some slots whose codes are within bounds, each cell being `width` codes wide."""
    codes = rows.codes[:, slots]
    row, slot = np.nonzero((codes >= start) & (codes < end))
    found = codes[row, slot] - start
    return ClusteredRows(clusters[row], found // width, found % width)
