"""From rows to counts: each value falls into a bin of its cell, and bins are counted.

A number's bins end between values of the reference, never on one: a value that differs in its last
digits, as float32 and float64 do, falls into the same bin.

A category column is counted twice. Its most frequent values have a bin each, to be shown. What is
tested are buckets: every value, seen before or not, falls into the bucket that its hash says. No
bucket is made for a value because it was frequent in the reference, so values that chance made
frequent there are not favoured. A value that the reference does not have has a probability too.
Hashed counts find changes in streams of many keys (Krishnamurthy, Sen, Zhang and Chen 2003,
Sketch-based change detection, IMC 234-247).
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from services.drift.calibration.arrays import Array
from services.drift.calibration.cells import CellCounts, Floats, Layout
from services.drift.tables.frame import MISSING, Codes, Frame, Numbers

BLOCK_ROWS: Final = 1 << 16
_BLOCK_VALUES: Final = 1 << 22
"""Rows are counted in blocks of at most this many rows and numbers, which bounds the memory."""
NEW_VALUES_KEPT: Final = 20
"""Of the categories never seen, the most frequent ones are named."""

MOST_PAIRS: Final = 5_000
"""At most this many pairs of number columns are compared: all pairs of a hundred columns."""
HASHES: Final = 16
"""A value's digest has this many hashes; a column uses one of them."""

_END_SHARES: Final = (0.002, 0.005, 0.01)
_MOST_QUANTILES: Final = 64
_FEWEST_QUANTILES: Final = 8
_ROWS_OF_A_BIN: Final = 16
"""With fewer rows in a bin, bins would end where values happen to pile up in the reference."""
_SAME_DIGITS: Final = 2.0**-20
"""Values that differ by less than this share of their size are the same value."""
Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]
_Value = TypeVar("_Value", bound=np.generic)
_Number = TypeVar("_Number", np.float64, np.float32)

_ALL_AT_ONCE: Final = 20
"""Multiplying all columns with all is faster up to this many products for each wanted one."""
_PAIRS_AT_ONCE: Final = 64

_LARGEST_FLOAT: Final = float(np.finfo(np.float64).max)
_LARGEST_MOMENT: Final = 1e100
_LEAST_VALUES: Final = 10
_THREADS: Final = min(os.cpu_count() or 1, 8)


@dataclass(frozen=True)
class Counts:
    """What is kept of a batch: counts by bin, and a few sums. `a + b` counts both batches' rows."""

    rows: int
    cells: NDArray[np.int64]
    """By bin, in the order of the layout."""
    pair_sums: Floats
    """Sums of products of normal scores, of shape (pairs,)."""
    pair_rows: Floats
    moments: Floats
    """Of each number column, in standard units of the reference: values, their sum, their sum of
    squares, and by how much they lie below its smallest and above its largest in all; (columns, 5).
    """
    new_categories: dict[str, dict[str, int]] = field(default_factory=dict)
    """Column -> category that the reference does not have -> rows."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.rows + other.rows,
            self.cells + other.cells,
            self.pair_sums + other.pair_sums,
            self.pair_rows + other.pair_rows,
            self.moments + other.moments,
            _added(self.new_categories, other.new_categories),
        )

    @property
    def stacked(self) -> CellCounts:
        """As a stack of one."""
        return CellCounts(
            self.cells[None].astype(float), self.pair_sums[None], self.pair_rows[None]
        )


def _added(
    one: dict[str, dict[str, int]], other: dict[str, dict[str, int]]
) -> dict[str, dict[str, int]]:
    sums = {
        column: Counter(one.get(column, {})) + Counter(other.get(column, {}))
        for column in sorted({*one, *other})
    }
    return {column: dict(rows.most_common()) for column, rows in sums.items()}


class Edges(BaseModel):
    """Where the bins of a number cell end: (-∞, e₀], (e₀, e₁], …, (eₖ, ∞)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Array
    """Ascending and distinct; none is a value of the reference, as far as its digits tell."""
    values: Array
    """The reference's largest value below each edge; the first one is its smallest value."""

    def __len__(self) -> int:
        return len(self.at)


def quantile_edges(values: Numbers) -> Edges:
    """At most 71 edges at the values' quantiles, closer at both ends.

    The first edge is below the smallest value and the last above the largest, so the outermost bins
    are empty: they are for what is out of range.
    """
    if len(values) < _LEAST_VALUES:
        return Edges(at=np.empty(0), values=np.empty(0))
    ordered = np.sort(values)
    margin = _SAME_DIGITS * np.maximum(np.abs(ordered), _usual_size(ordered))
    places = _quantile_places(len(ordered))
    with np.errstate(over="ignore"):
        same, below, above = (ordered[places] + margin[places], *_ends(ordered, margin))
    at = np.unique(np.searchsorted(ordered, same, "right") - 1)
    at = at[at < len(ordered) - 1]
    lower, upper = ordered[at], ordered[at + 1]
    between = np.minimum(lower / 2 + upper / 2, np.nextafter(upper, -np.inf))
    edges = np.array([below, *np.maximum(between, lower), above])
    shown = np.array([ordered[0], *lower, ordered[-1]])
    distinct = np.diff(edges, prepend=-np.inf) > 0
    return Edges(at=edges[distinct], values=shown[distinct])


def _ends(ordered: Numbers, margin: Numbers) -> Numbers:
    """The first edge, below the smallest value, and the last one, above the largest."""
    below = np.minimum(ordered[0] - margin[0], np.nextafter(ordered[0], -np.inf))
    ends = np.array([below, ordered[-1] + margin[-1]])
    return np.asarray(np.clip(ends, -_LARGEST_FLOAT, _LARGEST_FLOAT))


def _usual_size(ordered: Numbers) -> float:
    """The median size of the values that are not zero: digits near zero are lost by it."""
    sizes = np.sort(np.abs(ordered[ordered != 0]))
    return float(sizes[len(sizes) // 2]) if len(sizes) else 1.0


def _quantile_places(rows: int) -> NDArray[np.intp]:
    """Where quantiles stand among ordered values; the last place is left out."""
    number = int(np.clip(rows // _ROWS_OF_A_BIN, _FEWEST_QUANTILES, _MOST_QUANTILES))
    inner = np.arange(1, number) / number
    shares = np.unique([*_END_SHARES, *inner, *(1 - np.array(_END_SHARES))])
    places = np.maximum(np.ceil(shares * rows).astype(np.intp) - 1, 0)
    return np.unique(places[places < rows - 1])


def value_hashes(value: str) -> NDArray[np.uint32]:
    """The hashes of a category's value, of shape (HASHES,): the same wherever and whenever."""
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=4 * HASHES)
    return np.frombuffer(digest.digest(), "<u4")


@dataclass(frozen=True)
class Binning:
    """The bins of every cell, fixed once by a reference."""

    numbers: tuple[str, ...]
    target: str | None
    segment: str | None
    segments: tuple[str, ...]
    """The segment column's values that have cells of their own."""
    edges: tuple[tuple[Edges, ...], ...]
    """By number column: over all rows, then by segment."""
    categories: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    """By category column: the most frequent values, each with a bin."""
    others: tuple[frozenset[str], ...]
    """By category column: the reference's further values, which share a bin."""
    buckets: int
    """Of a category column."""
    hashes: tuple[int, ...]
    """By category column: which of a value's hashes says its bucket."""
    centre: Floats
    """By number column: what standard units are counted from."""
    scale: Floats

    @property
    def groups(self) -> int:
        return 1 + len(self.segments)

    @cached_property
    def layout(self) -> Layout:
        return Layout(
            numbers=len(self.numbers) * self.groups,
            bins=max((len(edges) + 1 for column in self.edges for edges in column), default=1),
            categories=len(self.categories),
            levels=max((len(labels) + 3 for labels in self.labels), default=1),
            buckets=self.buckets,
        )

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The bins of each number cell, the padding left out."""
        return tuple(len(edges) + 1 for column in self.edges for edges in column)

    def level_names(self, category: int) -> list[str]:
        """What the bins of a category column stand for."""
        return [*self.labels[category], "other values", "new values", "missing"]

    @cached_property
    def pairs(self) -> Pairs:
        """The number columns whose correlation is compared: the first ones, the second ones.

        All of them, or of many columns the target with each, then those that stand next to each
        other. The choice looks at no value: the pairs that are most correlated in the reference
        would be less so in every batch.
        """
        first, second = np.triu_indices(len(self.numbers), 1)
        if len(first) > MOST_PAIRS:
            apart = second - first
            if self.target in self.numbers:
                target = self.numbers.index(self.target)
                apart[(first == target) | (second == target)] = 0
            kept = np.sort(np.argsort(apart, kind="stable")[:MOST_PAIRS])
            first, second = first[kept], second[kept]
        return first, second

    @property
    def _levels(self) -> int:
        """Slots of a number column in `encode`."""
        return 2 if self.segments else 1

    @property
    def number_slots(self) -> slice:
        """The number columns' slots in `encode`; the category columns' follow."""
        return slice(0, len(self.numbers) * self._levels)

    def detailed(self, codes: NDArray[np.intp]) -> NDArray[np.intp]:
        """Of encoded rows each number column's finest code: its segment's, if there are any."""
        return codes[:, self.number_slots][:, self._levels - 1 :: self._levels]

    def count(self, frame: Frame, scores: Floats) -> Counts:
        """Count the rows of a table.

        Args:
            frame: the rows; a column that it lacks is missing in every row.
            scores: the normal score of each bin, of shape (layout.numbers * layout.bins,).
        """
        size = max(min(BLOCK_ROWS, _BLOCK_VALUES // max(len(self.numbers), 1)), 1)
        starts = range(0, max(frame.rows, 1), size)
        blocks = (frame.slice(start, size) for start in starts)
        if len(starts) == 1:
            return self._count_block(next(blocks), scores)
        with ThreadPoolExecutor(_THREADS) as threads:
            counted = threads.map(lambda block: self._count_block(block, scores), blocks)
            total = next(counted)
            for counts in counted:
                total = total + counts
        return total

    def _count_block(self, frame: Frame, scores: Floats) -> Counts:
        size = self.layout.size
        cells = np.zeros(size + 1, np.int64)
        products = _Products(len(self.numbers), frame.rows, scores)
        moments = np.zeros((len(self.numbers), 5))
        order = _Order.of(self, frame)
        for column, name in enumerate(self.numbers):
            values = order.apply(frame.numbers(name))
            present = np.isfinite(values)
            moments[column] = self._moments(column, values, present)
            for codes in self._number_slots(column, values, present, order):
                cells += np.bincount(codes, minlength=size + 1)
                products.set(column, codes)
        new: dict[str, dict[str, int]] = {}
        for column, name in enumerate(self.categories):
            codes, labels = frame.categories(name)
            shown, unseen = self._shown_slot(column, codes, labels)
            for slot in (shown, self._bucket_slot(column, codes, labels)):
                cells += np.bincount(slot, minlength=size + 1)
            if unseen:
                new[name] = unseen
        sums, rows = products.of_pairs(self.pairs)
        return Counts(frame.rows, cells[:size], sums, rows, moments, new)

    def encode(self, frame: Frame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The bin of each row in every slot that is tested, and the rows' order.

        Returns:
            Codes of shape (rows, slots), each an index of the flat counts (`layout.size` for none),
            and the original index of each row, of shape (rows,).
        """
        order = _Order.of(self, frame)
        slots: list[Codes] = []
        for column, name in enumerate(self.numbers):
            values = order.apply(frame.numbers(name))
            slots += self._number_slots(column, values, np.isfinite(values), order)
        for column, name in enumerate(self.categories):
            slots.append(order.apply(self._bucket_slot(column, *frame.categories(name))))
        coded = np.empty((frame.rows, len(slots)), np.intp)
        for slot, codes in enumerate(slots):
            coded[:, slot] = codes
        return coded, order.rows

    def _number_slots(
        self, column: int, values: Numbers, present: NDArray[np.bool_], order: "_Order"
    ) -> Iterator[Codes]:
        whole = bool(present.all())
        yield self._coded(column, 0, values, None if whole else present)
        if not self.segments:
            return
        codes = np.full(len(values), self.layout.size, np.int32)
        for group, rows in order.segments():
            part = None if whole else present[rows]
            codes[rows] = self._coded(column, group, values[rows], part)
        yield codes

    def _coded(
        self, column: int, group: int, values: Numbers, present: NDArray[np.bool_] | None
    ) -> Codes:
        cell = column * self.groups + group
        codes = np.searchsorted(self.edges[column][group].at, values).astype(np.int32)
        codes += cell * self.layout.bins
        if present is not None:
            codes[~present] = self.layout.missing_start + cell
        return codes

    def _bucket_slot(self, column: int, codes: Codes, labels: tuple[str, ...]) -> Codes:
        """The bucket of each row; a missing value's is the last."""
        hash_, start = self.hashes[column], self.layout.buckets_start
        start += column * (self.buckets + 1)
        buckets = [int(value_hashes(label)[hash_]) % self.buckets for label in labels]
        lookup = np.array([*buckets, self.buckets], np.int32)  # the code -1 takes the last
        return start + lookup[codes]

    def _shown_slot(
        self, column: int, codes: Codes, labels: tuple[str, ...]
    ) -> tuple[Codes, dict[str, int]]:
        """The bin of each row that is shown, and the values that the reference does not have."""
        known = {label: level for level, label in enumerate(self.labels[column])}
        other, unseen, missing = len(known), len(known) + 1, len(known) + 2
        levels = [
            known.get(label, other if label in self.others[column] else unseen) for label in labels
        ]
        start = self.layout.categories_start + column * self.layout.levels
        lookup = np.array([*levels, missing], np.int32)  # the code -1 takes the last
        new = [code for code, level in enumerate(levels) if level == unseen]
        found: Counter[str] = Counter()
        if new:
            rows = np.bincount(codes[codes != MISSING], minlength=len(labels))
            found.update({labels[code]: int(rows[code]) for code in new if rows[code]})
        return start + lookup[codes], dict(found.most_common(NEW_VALUES_KEPT))

    def _moments(self, column: int, values: Numbers, present: NDArray[np.bool_]) -> Floats:
        standard = self.standard(column, values if present.all() else values[present])
        known = self.standard(column, self.edges[column][0].values)
        low, high = (known[0], known[-1]) if len(known) else (-np.inf, np.inf)
        below, above = (np.maximum(far, 0).sum() for far in (low - standard, standard - high))
        return np.array(
            [len(standard), standard.sum(), np.einsum("i,i", standard, standard), below, above]
        )

    def standard(self, column: int, values: Numbers) -> Numbers:
        """Values of a number column in standard units of the reference."""
        with np.errstate(over="ignore"):
            units = (values - self.centre[column]) / self.scale[column]
        return np.asarray(np.clip(units, -_LARGEST_MOMENT, _LARGEST_MOMENT))


@dataclass(frozen=True)
class _Order:
    """Rows sorted by segment, so that each segment's are one slice."""

    rows: NDArray[np.intp]
    bounds: NDArray[np.intp] | None
    """Where each segment begins and the last ends; None without segments."""

    @classmethod
    def of(cls, binning: Binning, frame: Frame) -> "_Order":
        if not binning.segments or binning.segment is None:
            return cls(np.arange(frame.rows), None)
        codes, labels = frame.categories(binning.segment)
        group = {label: number for number, label in enumerate(binning.segments)}
        none = len(binning.segments)
        groups = np.array([*(group.get(label, none) for label in labels), none], np.int16)[codes]
        sizes = np.bincount(groups, minlength=none + 1)[:none]
        return cls(np.argsort(groups, kind="stable"), np.concatenate([[0], np.cumsum(sizes)]))

    def apply(self, values: NDArray[_Value]) -> NDArray[_Value]:
        """Values of the rows, in this order."""
        return values if self.bounds is None else values[self.rows]

    def segments(self) -> Iterator[tuple[int, slice]]:
        """Each segment's group, from 1, and its rows."""
        if self.bounds is not None:
            for group, (start, end) in enumerate(pairwise(self.bounds), 1):
                yield group, slice(start, end)


class _Products:
    """Sums of products of the columns' normal scores."""

    def __init__(self, columns: int, rows: int, scores: Floats) -> None:
        self._by_code = scores
        self._scores = np.zeros((columns, rows))
        self._present = np.zeros((columns, rows), np.float32)

    def set(self, column: int, codes: Codes) -> None:
        """Score a column's codes; the last call for a column counts."""
        present = codes < len(self._by_code)
        self._present[column] = present
        self._scores[column] = self._by_code.take(codes, mode="clip") * present

    def of_pairs(self, pairs: Pairs) -> tuple[Floats, Floats]:
        """The sum and the number of rows of each pair of columns."""
        rows = pair_products(self._present, pairs).astype(float)
        return pair_products(self._scores, pairs), rows


def pair_products(columns: NDArray[_Number], pairs: Pairs) -> NDArray[_Number]:
    """The inner products of pairs of columns, of shape (pairs,).

    Args:
        columns: of shape (columns, rows).
    """
    first, second = pairs
    if len(columns) ** 2 <= _ALL_AT_ONCE * max(len(first), 1):
        return np.asarray((columns @ columns.T)[pairs])
    found = np.empty(len(first), columns.dtype)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        found[some] = np.einsum("ij,ij->i", columns[first[some]], columns[second[some]])
    return found
