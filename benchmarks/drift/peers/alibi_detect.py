"""alibi-detect's `TabularDrift`: KS and χ², with categories as codes as it takes them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from alibi_detect.cd import TabularDrift  # type: ignore[import-not-found]
from numpy.typing import NDArray

from benchmarks.drift.peers.peer import Peer, category_names, number_names


class Tabular(Peer):
    package = "alibi-detect"

    def fit(self, reference: pa.Table) -> None:
        self._numbers, self._categories = number_names(reference), category_names(reference)
        self._labels = {name: reference[name].unique() for name in self._categories}
        first = len(self._numbers)
        categories = dict.fromkeys(range(first, first + len(self._categories)))
        self._detector = TabularDrift(self._coded(reference), categories_per_feature=categories)

    def load(self, batch: pa.Table) -> None:
        self._batch = self._coded(batch)

    def check(self) -> dict[str, Any]:
        found: dict[str, Any] = self._detector.predict(self._batch)
        return found

    def sees_drift(self, result: dict[str, Any]) -> bool:
        return bool(result["data"]["is_drift"])

    def _coded(self, table: pa.Table) -> NDArray[np.float64]:
        numbers = [table[name].to_numpy() for name in self._numbers]
        codes = [pc.index_in(table[name], self._labels[name]).to_numpy() for name in self._labels]
        return np.column_stack([*numbers, *codes])
