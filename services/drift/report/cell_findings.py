"""From the figures of the cells to findings that name them and say what changed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.drift.calibration.binning import Counts
from services.drift.calibration.cells import Floats
from services.drift.calibration.profile import Profile
from services.drift.report.directions import (
    category_direction,
    missing_direction,
    number_direction,
    pair_direction,
)
from shared.drift import CellFinding
from shared.wording import SMALLEST_P

MOST_CELLS: Final = 500
"""A report lists the cells that speak and those with the smallest p-values, so many in all."""


@dataclass(frozen=True)
class CellFigures:
    """The figures of all cells; each of shape (cells,), in the order of `Cells.p_values`."""

    p: Floats
    effect: Floats
    speaks: NDArray[np.bool_]

    def order(self) -> NDArray[np.intp]:
        """The most telling cell first. Of those below the smallest p that is shown, the effect says
        which moved most."""
        return np.lexsort((-self.effect, np.maximum(self.p, SMALLEST_P), ~self.speaks))


def cell_findings(
    profile: Profile, counts: Counts, figures: CellFigures, has_p: bool = True
) -> list[CellFinding]:
    """Findings of the most telling cells, those that speak first, then by p."""
    describe = _Describer(profile, counts)
    return [
        CellFinding(
            **describe(int(cell)),
            p=float(figures.p[cell]) if has_p else None,
            effect=float(figures.effect[cell]),
            speaks=bool(figures.speaks[cell]),
        )
        for cell in figures.order()[:MOST_CELLS]
    ]


def cells_by_effect(
    profile: Profile, counts: Counts, speaks: NDArray[np.bool_]
) -> list[CellFinding]:
    """Findings without p-values: those that speak first, then by effect."""
    effects = profile.tests.effects(profile.reference.stacked, counts.stacked)[0]
    return cell_findings(profile, counts, CellFigures(-effects, effects, speaks), has_p=False)


def column_effects(profile: Profile, figures: CellFigures) -> dict[str, float]:
    """Each column's effect over all rows, or a larger one of a cell of it that speaks."""
    binning, layout = profile.binning, profile.binning.layout
    effects: dict[str, float] = {}
    for column, name in enumerate(binning.numbers):
        own = slice(column * binning.groups, (column + 1) * binning.groups)
        effects[name] = _largest(figures, own)
    for column, name in enumerate(binning.categories, 2 * layout.numbers):
        effects[name] = _largest(figures, slice(column, column + 1))
    return effects


def _largest(figures: CellFigures, cells: slice) -> float:
    effects, speaks = figures.effect[cells], figures.speaks[cells]
    return float(np.max(effects[speaks], initial=effects[0]))


class _Describer:
    """Names a cell and says what changed in it."""

    def __init__(self, profile: Profile, counts: Counts) -> None:
        self._binning, layout = profile.binning, profile.binning.layout
        self._layout = layout
        sides = (profile.reference.stacked, counts.stacked)
        self._numbers = [layout.numbers_of(side.flat)[0] for side in sides]
        self._missing = [layout.missing_of(side.flat)[0] for side in sides]
        self._categories = [layout.categories_of(side.flat)[0] for side in sides]
        self._pair_rows = [side.pair_rows[0] for side in sides]
        self._correlations = [profile.tests.correlations(side)[0] for side in sides]

    def __call__(self, cell: int) -> dict[str, Any]:
        """The fields of a finding but for the figures."""
        layout = self._layout
        kinds: tuple[tuple[int, Callable[[int], dict[str, Any]]], ...] = (
            (layout.numbers, self._number),
            (layout.numbers, self._missing_share),
            (layout.categories, self._category),
        )
        for size, describe in kinds:
            if cell < size:
                return describe(cell)
            cell -= size
        return self._pair(cell)

    def _place(self, cell: int) -> dict[str, Any]:
        column, group = divmod(cell, self._binning.groups)
        segment = self._binning.segments[group - 1] if group else None
        return {"column": self._binning.numbers[column], "segment": segment}

    def _number(self, cell: int) -> dict[str, Any]:
        column, group = divmod(cell, self._binning.groups)
        reference, current = (side[cell, : self._binning.widths[cell]] for side in self._numbers)
        return {
            **self._place(cell),
            "kind": "number",
            "direction": number_direction(self._binning.edges[column][group], reference, current),
            "reference_rows": int(reference.sum()),
            "current_rows": int(current.sum()),
        }

    def _missing_share(self, cell: int) -> dict[str, Any]:
        present = [int(side[cell].sum()) for side in self._numbers]
        missing = [int(side[cell]) for side in self._missing]
        rows = [has + lacks for has, lacks in zip(present, missing, strict=True)]
        before, after = (
            lacks / max(number, 1) for lacks, number in zip(missing, rows, strict=True)
        )
        return {
            **self._place(cell),
            "kind": "missing",
            "direction": missing_direction(before, after),
            "reference_rows": rows[0],
            "current_rows": rows[1],
        }

    def _category(self, cell: int) -> dict[str, Any]:
        labels = self._binning.level_names(cell)
        reference, current = (side[cell, : len(labels)] for side in self._categories)
        return {
            "kind": "category",
            "column": self._binning.categories[cell],
            "direction": category_direction(labels, reference, current),
            "reference_rows": int(reference.sum()),
            "current_rows": int(current.sum()),
        }

    def _pair(self, pair: int) -> dict[str, Any]:
        first, second = (int(side[pair]) for side in self._binning.pairs)
        rows = [int(side[pair]) for side in self._pair_rows]
        return {
            "kind": "pair",
            "column": self._binning.numbers[first],
            "other_column": self._binning.numbers[second],
            "direction": pair_direction(*(float(side[pair]) for side in self._correlations)),
            "reference_rows": rows[0],
            "current_rows": rows[1],
        }
