"""Other tools' default rules on the same batches, written from their documentation.

Evidently 0.7: a column drifts at a Wasserstein distance of 0.1 standard deviations (categories: a
Jensen-Shannon distance of 0.1), the table when half of the columns do. NannyML 0.13: a column's
Jensen-Shannon distance beyond mean + 3 standard deviations of the reference's own chunks; here any
column. alibi-detect 0.12, TabularDrift: any Kolmogorov-Smirnov or χ² test under 0.05 divided by the
number of columns.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats
from scipy.spatial.distance import jensenshannon

Rule = Callable[[pd.DataFrame], bool]


def rules(
    reference: pd.DataFrame, numbers: tuple[str, ...], categories: tuple[str, ...], rows: int
) -> dict[str, Rule]:
    """Rules by name, fitted to a reference for batches of so many rows."""
    fitted = _Reference(reference, numbers, categories)
    nannyml = fitted.chunk_limits(rows)
    return {
        "mean change > 0.1 (original)": lambda batch: fitted.relative(batch, spread=False) > 0.1,
        "mean and std change > 0.1 (original)": lambda batch: fitted.relative(batch, True) > 0.1,
        "Evidently's default": lambda batch: fitted.drifted_share(batch) >= 0.5,
        "any KS < 0.05": lambda batch: min(fitted.ks(batch)) < 0.05,
        "NannyML's default": lambda batch: any(
            distance > nannyml[name] for name, distance in fitted.jensen_shannon(batch).items()
        ),
        "alibi-detect's Bonferroni": lambda batch: fitted.smallest_corrected(batch) < 0.05,
    }


class _Reference:
    def __init__(
        self, rows: pd.DataFrame, numbers: tuple[str, ...], categories: tuple[str, ...]
    ) -> None:
        self._rows = rows
        self._numbers = {name: rows[name].dropna().to_numpy(float) for name in numbers}
        self._shares = {name: rows[name].value_counts(normalize=True) for name in categories}
        self._bins = {
            name: np.histogram_bin_edges(values, bins="doane")
            for name, values in self._numbers.items()
        }

    def relative(self, batch: pd.DataFrame, spread: bool) -> float:
        changes = []
        for name, values in self._numbers.items():
            current = batch[name].dropna().to_numpy(float)
            change = abs(current.mean() - values.mean()) / abs(values.mean())
            if spread:
                wider = abs(current.std() - values.std()) / values.std()
                change = (change + wider) / 2
            changes.append(change)
        return float(np.mean(changes))

    def drifted_share(self, batch: pd.DataFrame) -> float:
        drifted = [
            stats.wasserstein_distance(values, batch[name].dropna()) / values.std() >= 0.1
            for name, values in self._numbers.items()
        ]
        distances = self.jensen_shannon(batch)
        drifted += [distances[name] >= 0.1 for name in self._shares]
        return float(np.mean(drifted))

    def ks(self, batch: pd.DataFrame) -> list[float]:
        return [
            stats.ks_2samp(values, batch[name].dropna(), method="asymp").pvalue
            for name, values in self._numbers.items()
        ]

    def smallest_corrected(self, batch: pd.DataFrame) -> float:
        p = [*self.ks(batch), *(self._chi_square(name, batch[name]) for name in self._shares)]
        return min(p) * len(p)

    def _chi_square(self, name: str, column: pd.Series) -> float:
        both = pd.concat([self._rows[name].value_counts(), column.value_counts()], axis=1)
        return float(stats.chi2_contingency(both.fillna(0).to_numpy().T)[1])

    def jensen_shannon(self, batch: pd.DataFrame) -> dict[str, float]:
        distances = {}
        for name, values in self._numbers.items():
            sides = [
                np.histogram(side, self._bins[name])[0] / len(side)
                for side in (values, batch[name].dropna())
            ]
            beyond = [max(1 - side.sum(), 0) for side in sides]
            distances[name] = jensenshannon(
                *(np.append(side, rest) for side, rest in zip(sides, beyond, strict=True)), base=2
            )
        for name, shares in self._shares.items():
            both = pd.concat([shares, batch[name].value_counts(normalize=True)], axis=1).fillna(0)
            distances[name] = jensenshannon(*both.to_numpy().T, base=2)
        return {name: float(np.nan_to_num(distance)) for name, distance in distances.items()}

    def chunk_limits(self, rows: int) -> dict[str, float]:
        chunks = [
            self.jensen_shannon(self._rows.iloc[start : start + rows])
            for start in range(0, min(len(self._rows) - rows, 200 * rows) + 1, rows)
        ]
        if not chunks:  # the reference is smaller than a batch: NannyML has no threshold either
            return dict.fromkeys([*self._numbers, *self._shares], np.inf)
        frame = pd.DataFrame(chunks)
        return dict(frame.mean() + 3 * frame.std(ddof=0))
