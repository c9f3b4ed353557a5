"""NannyML's `UnivariateDriftCalculator` as it comes: Jensen-Shannon distances of ten chunks."""

from typing import Any

import nannyml  # type: ignore[import-not-found]
import pyarrow as pa

from benchmarks.drift.peers.peer import Peer


class Univariate(Peer):
    package = "nannyml"

    def fit(self, reference: pa.Table) -> None:
        self._reference = reference.to_pandas()
        self._calculator = self._fitted()

    def load(self, batch: pa.Table) -> None:
        self.batch = batch.to_pandas()

    def check(self) -> Any:
        return self._calculator.calculate(self.batch)

    def sees_drift(self, result: Any) -> bool:
        """An alert for any column in any chunk."""
        found = result.filter(period="analysis").to_df()
        alerts = found.loc[:, found.columns.get_level_values(-1) == "alert"]
        return bool(alerts.to_numpy(bool).any())

    def _fitted(self) -> Any:
        names = list(self._reference.columns)
        return nannyml.UnivariateDriftCalculator(column_names=names).fit(self._reference)


class FitAndCheck(Univariate):
    def check(self) -> Any:
        return self._fitted().calculate(self.batch)
