"""Seeded tables of number and category columns without missing values."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SEGMENT: Final = "region"
"""The category column with as many values as there are to be segments."""
SHIFT: Final = 0.5
"""A batch with drift: every number moves by so many standard deviations of its latent normal."""

_LOADING: Final = 0.5
_SHAPES: Final[tuple[Callable[[Floats], Floats], ...]] = (
    lambda latent: 50 + 10 * latent,
    np.exp,
    np.sinh,
    lambda latent: np.asarray(np.floor(5 * np.exp(0.8 * latent))),
    lambda latent: np.round(20 * np.exp(0.5 * latent), 1),
)
"""Normal, skewed, heavy-tailed, counted, rounded."""


@dataclass(frozen=True)
class Shape:
    """What columns a table has."""

    numbers: int = 5
    segments: int = 7
    other_categories: tuple[int, ...] = (30,)
    """By further category column, the number of its values."""

    @property
    def columns(self) -> int:
        return self.numbers + 1 + len(self.other_categories)


def table(
    rows: int, generator: np.random.Generator, shape: Shape, *, drift: bool = False
) -> pa.Table:
    """Dependent numbers of all shapes in turn, and categories as texts.

    With drift every column has another distribution.
    """
    factor = generator.normal(size=rows)
    columns: dict[str, pa.Array] = {}
    for column in range(shape.numbers):
        own = generator.normal(size=rows)
        latent = _LOADING * factor + np.sqrt(1 - _LOADING**2) * own + SHIFT * drift
        columns[f"x{column}"] = pa.array(_SHAPES[column % len(_SHAPES)](latent))
    columns[SEGMENT] = _texts(rows, generator, shape.segments, drift)
    for column, values in enumerate(shape.other_categories):
        columns[f"c{column}"] = _texts(rows, generator, values, drift)
    return pa.table(columns)


def write(path: Path, rows: int, seed: int, shape: Shape, *, drift: bool = False) -> Path:
    """Write a table to a Parquet file."""
    pq.write_table(table(rows, np.random.default_rng(seed), shape, drift=drift), path)
    return path


def write_by_groups(path: Path, rows: int, group_rows: int, seed: int, shape: Shape) -> Path:
    """Write a table that need not fit into memory to a Parquet file, one row group at a time."""
    generator = np.random.default_rng(seed)
    with pq.ParquetWriter(path, table(0, generator, shape).schema) as writer:
        for start in range(0, rows, group_rows):
            writer.write_table(table(min(group_rows, rows - start), generator, shape))
    return path


def _texts(rows: int, generator: np.random.Generator, values: int, drift: bool) -> pa.Array:
    """The first value is three times as frequent as the last; with drift the other way round."""
    weights = np.linspace(1, 3, values) if drift else np.linspace(3, 1, values)
    codes = generator.choice(values, rows, p=weights / weights.sum())
    return pa.array([f"value {number}" for number in range(values)]).take(pa.array(codes))
