"""The stages around the drift stage: the real ingestion, and a trainer that decides as told."""

from datetime import UTC, datetime, timedelta

import pandas as pd

from services.drift.counting import count_chunk
from services.drift.ingested import check_batch
from services.drift.reference import adopt_reference
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
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
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion
from shared.store import Store
from tests.air_quality_rows import raw_rows

SMALL_STATIONS = 20
"""They give 120 rows an hour."""


def with_drift(pipeline: Pipeline, **changes: object) -> Pipeline:
    """The pipeline with other keys under `drift`."""
    drift = Drift.model_validate(pipeline.drift.model_dump() | changes)
    return pipeline.model_copy(update={"drift": drift})


class Loop:
    """Plays the loop on a store, one event at a time."""

    def __init__(self, store: Store, pipeline: Pipeline, rejects: frozenset[int] = frozenset()):
        """`rejects`: the batches whose models the trainer rejects."""
        self.store = store
        self.pipeline = pipeline
        self.rejects = rejects
        self._hours = 0

    def ingest(
        self,
        *,
        level: float = 50,
        stations: int = SMALL_STATIONS,
        hours: int = 1,
        bad_rows: int = 0,
        as_reference: bool = False,
    ) -> BatchIngested:
        """Take in the rows of the next hours as one batch."""
        *_, event = self.ingest_in_chunks(
            level, stations, hours, bad_rows, as_reference=as_reference
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
    ) -> tuple[Event, ...]:
        """All events of a batch: those of its chunks, if it is large, and then its own."""
        begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self._hours)
        self._hours += hours
        table = pd.concat(
            raw_rows(stations, hour=f"{begin + timedelta(hours=hour):%Y-%m-%d %H:%M}", level=level)
            for hour in range(hours)
        )
        bad = table.head(bad_rows).assign(pollutant_min="9", pollutant_max="1", station="Elsewhere")
        due = IngestionDue(**first_event_fields("air_quality", "slot", self._hours), slot=begin)
        answer = Answer(pd.concat([table, bad]), "a test")
        outcome = ingest_batch(due, answer, self.pipeline, self.store, as_reference=as_reference)
        assert self.store.record(outcome.record, outcome.events)
        return outcome.events

    def check(self, event: BatchIngested) -> DriftReport:
        """The report on a batch."""
        report = self._keep(check_batch(event, self.pipeline, self.store))
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
            model=batch.data,
            seal="",
            model_bytes=1,
            metrics={},
            champion_version=None,
            window=batch.data,
            sequence=request.sequence,
            drift_report="",
            lineage={},
        )
        self.store.record(model, [event])
        return event

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
