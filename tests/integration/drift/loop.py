"""The stages around the drift stage: the real ingestion, and a trainer that decides as told.

Its models are straight lines through minimum and maximum: real, sealed, and fast.
"""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import joblib
import pandas as pd
from pydantic import SecretStr
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline as Steps

from services.drift.counting import count_chunk
from services.drift.ingested import check_batch
from services.drift.reference import adopt_reference
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from shared.artifacts import sealed
from shared.drift import Drift
from shared.events import (
    BatchIngested,
    ChunkIngested,
    Event,
    IngestionDue,
    ModelPromoted,
    ModelRejected,
    RetrainRequested,
    caused_fields,
    effect_id,
    first_event_fields,
)
from shared.frames import from_parquet
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion
from shared.scoring import GroupLosses, groups_of, predict, row_losses
from shared.settings import read_settings
from shared.store import Store
from shared.training import Gate
from tests.air_quality_rows import raw_rows
from tests.asking import signed_reference
from tests.keys import OPERATORS

SMALL_STATIONS = 20
"""They give 120 rows an hour."""
KEY = SecretStr("a signing key for tests only")


def with_drift(pipeline: Pipeline, **changes: object) -> Pipeline:
    """The pipeline with other keys under `drift`."""
    drift = Drift.model_validate(pipeline.drift.model_dump() | changes)
    return pipeline.model_copy(update={"drift": drift})


def with_gate(pipeline: Pipeline, **changes: object) -> Pipeline:
    """The pipeline with other keys under `gate`."""
    gate = Gate.model_validate(pipeline.gate.model_dump() | changes)
    return pipeline.model_copy(update={"gate": gate})


class Loop:
    """Plays the loop on a store, one event at a time."""

    def __init__(self, store: Store, pipeline: Pipeline, rejects: frozenset[int] = frozenset()):
        """`rejects`: the batches whose models the trainer rejects."""
        self.store = store
        self.pipeline = pipeline
        self.rejects = rejects
        self.settings = read_settings(
            redis_url="redis://unused",
            model_signing_key=KEY.get_secret_value(),
            operators=OPERATORS,
        )
        self._hours = self._answers = 0

    def ingest(
        self,
        *,
        level: float = 50,
        stations: int = SMALL_STATIONS,
        hours: int = 1,
        bad_rows: int = 0,
        as_reference: bool = False,
        **how: Any,
    ) -> BatchIngested:
        """Take in the rows of the next hours as one batch; `how` as for `next_rows`."""
        *_, event = self.ingest_in_chunks(
            level, stations, hours, bad_rows, as_reference=as_reference, **how
        )
        assert isinstance(event, BatchIngested)
        return event

    def ingest_in_chunks(
        self,
        level: float,
        stations: int,
        hours: int = 1,
        bad_rows: int = 0,
        *,
        as_reference: bool = False,
        **how: Any,
    ) -> tuple[Event, ...]:
        """All events of a batch: those of its chunks, if it is large, and then its own."""
        table = self.next_rows(level, stations, hours, **how)
        bad = table.head(bad_rows).assign(pollutant_min="9", pollutant_max="1", station="Elsewhere")
        return self.take_in(pd.concat([table, bad]), as_reference=as_reference)

    def next_rows(
        self,
        level: float = 50,
        stations: int = SMALL_STATIONS,
        hours: int = 1,
        *,
        lean: float = 0.5,
        target: bool = True,
    ) -> pd.DataFrame:
        """The answers of the next hours; where the average lies, and whether it is there."""
        begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self._hours)
        self._hours += hours
        table = pd.concat(
            raw_rows(
                stations,
                hour=f"{begin + timedelta(hours=hour):%Y-%m-%d %H:%M}",
                level=level,
                lean=lean,
            )
            for hour in range(hours)
        )
        return table if target else table.assign(pollutant_avg="NA")

    def take_in(self, table: pd.DataFrame, *, as_reference: bool = False) -> tuple[Event, ...]:
        """The events of an answer that brings something new."""
        self._answers += 1
        slot = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self._answers)
        due = IngestionDue(**first_event_fields("air_quality", "slot", self._answers), slot=slot)
        answer = Answer(table, "a test")
        outcome = ingest_batch(due, answer, self.pipeline, self.store, as_reference=as_reference)
        assert isinstance(outcome.record, Batch)
        signed = signed_reference(outcome.record, self.store) if as_reference else outcome.record
        assert self.store.record(signed, outcome.events)
        return outcome.events

    def check(self, event: BatchIngested) -> DriftReport:
        """The report on a batch."""
        report = self._keep(check_batch(event, self.pipeline, self.store, self.settings))
        assert isinstance(report, DriftReport)
        return report

    def count(self, event: ChunkIngested) -> None:
        self._keep(count_chunk(event, self.pipeline, self.store))

    def train(self, request: RetrainRequested) -> ModelPromoted | ModelRejected:
        """The model's decision; its window is the batch that asked for it."""
        (batch,) = self.store.batches_between("air_quality", request.sequence - 1, request.sequence)
        assert batch.data
        promoted = request.sequence not in self.rejects
        event = (
            ModelPromoted(
                **caused_fields(request, "trainer", ModelPromoted),
                model_version=request.sequence,
                sequence=request.sequence,
                window=batch.data,
                window_rows=batch.rows,
            )
            if promoted
            else ModelRejected(
                **caused_fields(request, "trainer", ModelRejected),
                model_version=request.sequence,
                champion_version=1,
                sequence=request.sequence,
                reason="worse",
            )
        )
        model = ModelVersion(
            **record_fields(request, "trainer"),
            version=request.sequence,
            decision="promoted" if promoted else "rejected",
            reason="a test",
            metrics={},
            champion_version=None,
            window=batch.data,
            sequence=request.sequence,
            drift_report="",
            lineage={},
            **self._fitted(from_parquet(self.store.blob(batch.data))),
        )
        self.store.record(sealed(model, KEY), [event])
        return event

    def _fitted(self, rows: pd.DataFrame) -> dict[str, Any]:
        """A model of half of the stations, and its losses on the others."""
        training = self.pipeline.training
        rows = rows[rows["pollutant_avg"].notna()]
        half = rows["station"].str.extract(r"(\d+)", expand=False).astype(int) % 2 == 0
        chosen = ColumnTransformer([("kept", "passthrough", ["pollutant_min", "pollutant_max"])])
        model = Steps([("columns", chosen), ("estimator", LinearRegression())])
        model.fit(rows[half], rows[half]["pollutant_avg"])
        held_out = rows[~half]
        losses = row_losses(
            predict(model, held_out, training), held_out["pollutant_avg"], training.deciding_metric
        )
        by_group = GroupLosses.of(losses, groups_of(held_out, training.group))
        sink = io.BytesIO()
        joblib.dump(model, sink)
        return {
            "model": self.store.put_blob(sink.getvalue()),
            "seal": "",
            "model_bytes": len(sink.getvalue()),
            "held_out_losses": self.store.put_blob(by_group.to_bytes()),
        }

    def adopt(self, event: ModelPromoted) -> None:
        self._keep(adopt_reference(event, self.pipeline, self.store))

    def go_round(self, event: BatchIngested) -> DriftReport:
        """Check a batch and do all that follows."""
        report = self.check(event)
        for request in self.store.events_of(report):
            if isinstance(request, RetrainRequested):
                decided = self.train(request)
                if isinstance(decided, ModelPromoted):
                    self.adopt(decided)
        return report

    def begin(self, stations: int = SMALL_STATIONS, hours: int = 1) -> None:
        """The first batch and the reference that it makes."""
        *chunks, first = self.ingest_in_chunks(50, stations, hours)
        for chunk in chunks:
            self.deliver(chunk)
        assert isinstance(first, BatchIngested)
        assert self.go_round(first).verdict == "no reference"

    def deliver(self, event: Event) -> tuple[Event, ...]:
        """What a delivery of an event leads to; nothing if it was handled before."""
        match event:
            case BatchIngested() if not self._is_settled("drift", event):
                return tuple(self.store.events_of(self.check(event)))
            case ChunkIngested() if not self._is_settled("drift", event):
                self.count(event)
            case RetrainRequested() if not self._is_settled("trainer", event):
                return (self.train(event),)
            case ModelPromoted() if not self._is_settled("drift", event):
                self.adopt(event)
        return ()

    def _is_settled(self, stage: str, event: Event) -> bool:
        return self.store.is_settled(effect_id(stage, event.event_id))  # type: ignore[arg-type]

    def _keep(self, outcome: Outcome) -> object:
        self.store.record(outcome.record, outcome.events)
        return outcome.record
