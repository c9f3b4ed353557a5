"""Evidently's `DataDriftPreset` as it comes."""

from typing import Any

import pyarrow as pa
from evidently import DataDefinition, Dataset, Report  # type: ignore[import-not-found]
from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]

from benchmarks.drift.peers.peer import Peer, category_names, number_names


class Preset(Peer):
    package = "evidently"

    def fit(self, reference: pa.Table) -> None:
        self._definition = DataDefinition(
            numerical_columns=number_names(reference),
            categorical_columns=category_names(reference),
        )
        self._reference = self._dataset(reference)
        self._report = Report([DataDriftPreset()])

    def load(self, batch: pa.Table) -> None:
        self._batch = self._dataset(batch)

    def check(self) -> dict[str, Any]:
        found: dict[str, Any] = self._report.run(self._batch, self._reference).dict()
        return found

    def sees_drift(self, result: dict[str, Any]) -> bool:
        """As many columns as the preset's default share have drifted."""
        counted = result["metrics"][0]
        return bool(counted["value"]["share"] >= counted["config"]["drift_share"])

    def _dataset(self, table: pa.Table) -> Dataset:
        return Dataset.from_pandas(table.to_pandas(), data_definition=self._definition)
