"""Trimtab's calibrated check against a profile that went through its stored form."""

import pandas as pd
import pyarrow as pa

from benchmarks.drift.peers.peer import Peer
from benchmarks.drift.tables import SEGMENT
from services.drift import Profile, check
from services.drift.report.model import DriftReport


class WithoutSegments(Peer):
    segment: str | None = None
    batch: pa.Table | pd.DataFrame

    def fit(self, reference: pa.Table) -> None:
        fitted = Profile.fit(reference, segment=self.segment)
        self._profile = Profile.from_bytes(fitted.to_bytes())

    def load(self, batch: pa.Table) -> None:
        self.batch = batch

    def check(self) -> DriftReport:
        return check(self._profile, self.batch)

    def sees_drift(self, result: DriftReport) -> bool:
        return result.needs_retraining


class WithSegments(WithoutSegments):
    segment = SEGMENT


class OfDataFrame(WithoutSegments):
    def load(self, batch: pa.Table) -> None:
        self.batch = batch.to_pandas()
