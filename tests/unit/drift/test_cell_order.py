"""Which cell is told first."""

import numpy as np

from services.drift.report.cell_findings import CellFigures


def order(p: list[float], effect: list[float], speaks: list[bool]) -> list[int]:
    return CellFigures(np.array(p), np.array(effect), np.array(speaks)).order().tolist()


def test_cells_that_speak_come_first_and_then_the_smallest_p() -> None:
    assert order([0.2, 0.001, 0.01], [0.9, 0.1, 0.2], [False, True, True]) == [1, 2, 0]


def test_of_those_beyond_any_doubt_the_one_that_moved_most_comes_first() -> None:
    """Their p-values are all shown as < 1e-16."""
    assert order([1e-60, 1e-17, 1e-300, 1e-15], [0.1, 0.8, 0.3, 0.9], [True] * 4) == [1, 2, 0, 3]
