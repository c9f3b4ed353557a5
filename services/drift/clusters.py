"""How many clusters of rows a table has, and whether they are enough for a verdict."""

from typing import Final

import numpy as np

from services.drift.calibration.fitting import cluster_ids
from services.drift.tables.frame import MISSING, Frame

FEWEST_CLUSTERS: Final = 2
"""Clusters that a verdict needs in each table: of one alone nobody can say how clusters differ."""


class BatchClusters:
    """Counts the clusters of a batch over its chunks, as far as it matters."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._found: set[tuple[str | int, ...]] = set()
        self._rows = 0

    def add(self, frame: Frame) -> None:
        """Look at a chunk."""
        ids = cluster_ids(frame, self._columns)
        if ids is not None and len(self._found) < FEWEST_CLUSTERS:
            rows = np.unique(ids, return_index=True)[1][:FEWEST_CLUSTERS]
            self._found.update(self._cluster(frame, int(row)) for row in rows)
        self._rows += frame.rows

    @property
    def number(self) -> int | None:
        """The clusters, or `FEWEST_CLUSTERS` if there are more; None without cluster columns."""
        return min(len(self._found), FEWEST_CLUSTERS) if self._columns else None

    def _cluster(self, frame: Frame, row: int) -> tuple[str | int, ...]:
        """A row without a value in one of the columns is a cluster of its own."""
        columns = [frame.categories(name) for name in self._columns]
        if any(codes[row] == MISSING for codes, _ in columns):
            return (self._rows + row,)
        return tuple(labels[codes[row]] for codes, labels in columns)


def too_few_clusters(columns: tuple[str, ...], reference: int | None, batch: int | None) -> str:
    """Why the clusters allow no verdict, in one sentence; empty if there are enough, or unknown."""
    known = {"the reference": reference, "the batch": batch}
    few = [f"{which} has {number}" for which, number in known.items() if _is_too_few(number)]
    if not few:
        return ""
    return (
        f"A verdict needs at least {FEWEST_CLUSTERS} clusters (rows equal in "
        f"{', '.join(columns)}) in the reference and in the batch; {' and '.join(few)}."
    )


def _is_too_few(number: int | None) -> bool:
    return number is not None and number < FEWEST_CLUSTERS
