"""From rows to counts: each value falls into a bin of its cell, and bins are counted."""

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

from services.drift.calibration.cells import CellCounts, Floats, Layout
from services.drift.tables.frame import MISSING, Codes, Frame, Numbers

BLOCK_ROWS: Final = 1 << 16
"""Rows are counted in blocks of this size, which bounds the memory."""
NEW_VALUES_KEPT: Final = 20
"""Of the categories never seen, the most frequent ones are named."""

_QUANTILES: Final = np.unique([0.002, 0.005, 0.01, *(np.arange(1, 64) / 64), 0.99, 0.995, 0.998])
_Value = TypeVar("_Value", bound=np.generic)

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


def quantile_edges(values: Numbers) -> Numbers:
    """About 70 edges at the values' quantiles, closer at both ends; ascending and distinct.

    The bins are (-∞, e₀], (e₀, e₁], …, (eₖ, ∞). The first edge is just below the smallest value and
    the last is the largest, so the outermost bins are empty: they are for what is out of range.
    """
    if len(values) < _LEAST_VALUES:
        return np.empty(0)
    ordered = np.sort(values)
    at = np.maximum(np.ceil(_QUANTILES * len(ordered)).astype(int) - 1, 0)
    below = np.nextafter(max(ordered[0], -_LARGEST_FLOAT), -_LARGEST_FLOAT)
    return np.unique([below, *ordered[at], ordered[-1]])


@dataclass(frozen=True)
class Binning:
    """The bins of every cell, fixed once by a reference."""

    numbers: tuple[str, ...]
    segment: str | None
    segments: tuple[str, ...]
    """The segment column's values that have cells of their own."""
    edges: tuple[tuple[Numbers, ...], ...]
    """By number column: over all rows, then by segment."""
    categories: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    """By category column: the most frequent values, each with a bin."""
    others: tuple[frozenset[str], ...]
    """By category column: the reference's further values, which share a bin."""
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
        )

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The bins of each number cell, the padding left out."""
        return tuple(len(edges) + 1 for column in self.edges for edges in column)

    def level_names(self, category: int) -> list[str]:
        """What the bins of a category column stand for."""
        return [*self.labels[category], "other values", "new values", "missing"]

    @cached_property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The number columns of each pair: the first ones, the second ones."""
        first, second = np.triu_indices(len(self.numbers), 1)
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
        starts = range(0, max(frame.rows, 1), BLOCK_ROWS)
        blocks = (frame.slice(start, BLOCK_ROWS) for start in starts)
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
            codes, unseen = self._category_slot(column, *frame.categories(name))
            cells += np.bincount(codes, minlength=size + 1)
            if unseen:
                new[name] = unseen
        sums, rows = products.of_pairs(self.pairs)
        return Counts(frame.rows, cells[:size], sums, rows, moments, new)

    def encode(self, frame: Frame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The bin of each row in every slot, and the rows' order.

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
            codes, _ = self._category_slot(column, *frame.categories(name))
            slots.append(order.apply(codes))
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
        codes = np.searchsorted(self.edges[column][group], values).astype(np.int32)
        codes += cell * self.layout.bins
        if present is not None:
            codes[~present] = self.layout.missing_start + cell
        return codes

    def _category_slot(
        self, column: int, codes: Codes, labels: tuple[str, ...]
    ) -> tuple[Codes, dict[str, int]]:
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
        edges = self.standard(column, self.edges[column][0])
        low, high = (edges[0], edges[-1]) if len(edges) else (-np.inf, np.inf)
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

    def of_pairs(self, pairs: tuple[NDArray[np.intp], NDArray[np.intp]]) -> tuple[Floats, Floats]:
        """The sum and the number of rows of each pair of columns."""
        sums = self._scores @ self._scores.T
        rows = self._present @ self._present.T
        return sums[pairs], rows[pairs].astype(float)
