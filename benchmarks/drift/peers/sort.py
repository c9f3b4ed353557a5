"""The yardstick: one sort of every number column, from which any comparison of ranks begins."""

import numpy as np
import pyarrow as pa

from benchmarks.drift.peers.peer import Peer, number_names


class Sort(Peer):
    package = "numpy"

    def fit(self, reference: pa.Table) -> None:
        """Nothing is compared."""

    def load(self, batch: pa.Table) -> None:
        self._columns = [batch[name].to_numpy() for name in number_names(batch)]

    def check(self) -> None:
        for column in self._columns:
            np.sort(column)

    def sees_drift(self, result: None) -> None:
        return result
