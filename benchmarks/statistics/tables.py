"""Synthetic tables of ten dependent number columns and two category columns, and their drifts."""

from typing import Final

import numpy as np
import pandas as pd
from scipy import special

NUMBERS: Final = tuple(f"x{column}" for column in range(10))
CATEGORIES: Final = ("c0", "c1")

DRIFTS: Final = {
    "none": "nothing changes",
    "mean of one": "one column moves by 0.3 standard deviations",
    "mean of all": "every column moves by 0.12",
    "spread of one": "one column's standard deviation grows by 30 %",
    "shape of one": "one column becomes bimodal, mean and variance kept",
    "tail of one": "2 % of one column's rows lie five standard deviations off",
    "correlation": "one column's dependence on the others changes its sign",
    "category mix": "one column's shares move by 5 to 10 points",
    "missing": "missing values rise from 2 to 7 % in one column",
    "unseen": "2 % of one column's rows have a value not seen before",
}

_LOADINGS: Final = np.r_[np.full(5, 0.65), np.full(5, 0.3)]
_SHARES: Final = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
_SHARE_CHANGE: Final = np.array([-0.1, -0.05, 0.05, 0.05, 0.05])
_MANY_SHARES: Final = np.r_[np.full(10, 0.07), np.full(10, 0.03)]


def table(
    rows: int, generator: np.random.Generator, drift: str = "none", size: float = 1.0
) -> pd.DataFrame:
    """Rows with a drift of a size, 1 being what DRIFTS says."""
    columns = _columns(_latent(rows, generator, drift == "correlation"), size, drift)
    _change_one(columns, generator, drift, size)
    frame = pd.DataFrame(dict(zip(NUMBERS, columns.T, strict=True)))
    shares = _SHARES + size * _SHARE_CHANGE * (drift == "category mix")
    first = generator.choice(5, rows, p=shares)
    if drift == "unseen":
        first = np.where(generator.random(rows) < 0.02 * size, 9, first)
    frame["c0"] = np.char.add("a", first.astype(str))
    frame["c1"] = np.char.add("b", generator.choice(20, rows, p=_MANY_SHARES).astype(str))
    missing = 0.02 + 0.05 * size * (drift == "missing")
    frame.loc[generator.random(rows) < missing, "x3"] = np.nan
    return frame


def _latent(rows: int, generator: np.random.Generator, flipped: bool) -> np.ndarray:
    loadings = _LOADINGS.copy()
    loadings[0] *= -1 if flipped else 1
    factor = generator.normal(size=(rows, 1))
    return factor * loadings + generator.normal(size=(rows, 10)) * np.sqrt(1 - loadings**2)


def _columns(latent: np.ndarray, size: float, drift: str) -> np.ndarray:
    """Columns that are normal, skewed, heavy-tailed, counted, zero-inflated, rounded, binary."""
    z = latent + 0.12 * size * (drift == "mean of all")
    ranks = np.clip(special.ndtr(z), 1e-9, 1 - 1e-9)
    return np.column_stack(
        [
            z[:, 0],
            50 + 10 * z[:, 1],
            np.exp(z[:, 2]),
            20 * np.exp(0.5 * z[:, 3]),
            special.stdtrit(3, ranks[:, 4]),
            np.floor(-3 * np.log1p(-ranks[:, 5])),
            np.where(ranks[:, 6] < 0.4, 0, z[:, 6] + 1),
            ranks[:, 7],
            np.round(2 * z[:, 8]),
            ranks[:, 9] > 0.8,
        ]
    )


def _change_one(
    columns: np.ndarray, generator: np.random.Generator, drift: str, size: float
) -> None:
    """Change the second column, in place."""
    rows, column = len(columns), columns[:, 1]
    if drift == "mean of one":
        column += 3 * size
    if drift == "spread of one":
        column[:] = 50 + (column - 50) * (1 + 0.3 * size)
    if drift == "shape of one":
        column[:] = 50 + 10 * (
            0.8 * generator.choice([-1, 1], rows) + generator.normal(0, 0.6, rows)
        )
    if drift == "tail of one":
        column[generator.random(rows) < 0.02 * size] += 50
