"""A script of SciPy's tests: KS and Wasserstein of each number column, χ² of each category."""

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats

from benchmarks.drift.peers.peer import Peer, category_names, number_names

ALPHA = 0.05


class Script(Peer):
    package = "scipy"

    def fit(self, reference: pa.Table) -> None:
        self._numbers, self._categories = number_names(reference), category_names(reference)
        self._reference = reference.to_pandas()
        self._reference_counts = {
            name: self._reference[name].value_counts() for name in self._categories
        }

    def load(self, batch: pa.Table) -> None:
        self._batch = batch.to_pandas()

    def check(self) -> tuple[list[float], list[float]]:
        """All p-values, and the distances of the numbers."""
        p, distances = [], []
        for name in self._numbers:
            reference, current = self._reference[name].to_numpy(), self._batch[name].to_numpy()
            p.append(float(stats.ks_2samp(reference, current).pvalue))
            distances.append(float(stats.wasserstein_distance(reference, current)))
        for name in self._categories:
            counts = [self._reference_counts[name], self._batch[name].value_counts()]
            table = pd.concat(counts, axis=1).fillna(0).to_numpy(np.float64)
            p.append(float(stats.chi2_contingency(table).pvalue))
        return p, distances

    def sees_drift(self, result: tuple[list[float], list[float]]) -> bool:
        """By Bonferroni's rule."""
        p, _ = result
        return min(p) < ALPHA / len(p)
