"""Frouros: a `KSTest` for each number column; categories are not looked at."""

import pyarrow as pa
from frouros.detectors.data_drift import KSTest  # type: ignore[import-not-found]

from benchmarks.drift.peers.peer import Peer, number_names

ALPHA = 0.05


class KolmogorovSmirnov(Peer):
    package = "frouros"

    def fit(self, reference: pa.Table) -> None:
        self._detectors = {name: KSTest() for name in number_names(reference)}
        for name, detector in self._detectors.items():
            detector.fit(X=reference[name].to_numpy())

    def load(self, batch: pa.Table) -> None:
        self._batch = {name: batch[name].to_numpy() for name in self._detectors}

    def check(self) -> list[float]:
        """The p-values."""
        return [
            float(detector.compare(X=self._batch[name])[0].p_value)
            for name, detector in self._detectors.items()
        ]

    def sees_drift(self, result: list[float]) -> bool:
        """By Bonferroni's rule."""
        return min(result) < ALPHA / len(result)
