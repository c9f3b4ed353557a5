"""A file that a person sets as the reference, after most of its rows were taken in.

Through the handlers of ingest, and the trainer's and the drift stage's reading of their batches.
"""

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import pandas as pd
import pytest

from services.cli.replay.memory_store import MemoryStore
from services.drift.labelled_rows import labelled_rows
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from services.trainer.window import training_pool
from shared.events import IngestionDue, RetrainRequested, caused_fields, first_event_fields
from shared.pipeline import Pipeline
from shared.records import Batch

PIPELINE = Pipeline.model_validate(
    {
        "name": "gold",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "id": {"type": "category"},
                "t": {"type": "time"},
                "a": {"type": "number"},
                "y": {"type": "number"},
            },
            "event_time": "t",
            "key": ["id"],
        },
        "training": {"target": "y", "task": "regression", "features": ["a"]},
    }
)
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def rows(first: int, last: int, target: str) -> pd.DataFrame:
    numbers = range(first, last)
    return pd.DataFrame(
        {
            "id": [f"row {number}" for number in numbers],
            "t": [(BEGIN + timedelta(minutes=number)).isoformat() for number in numbers],
            "a": [str(number % 7) for number in numbers],
            "y": [target for _ in numbers],
        },
        dtype=object,
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def due() -> IngestionDue:
    return IngestionDue(**first_event_fields("gold", "by hand", uuid4().hex), slot=BEGIN)


def take(store: MemoryStore, table: pd.DataFrame, *, as_reference: bool = False) -> Batch:
    outcome = ingest_batch(
        due(), Answer(table, "a file"), PIPELINE, store, as_reference=as_reference
    )
    assert store.record(outcome.record, outcome.events)
    return cast("Batch", outcome.record)


def pool(store: MemoryStore, batch: Batch) -> pd.DataFrame:
    asked = RetrainRequested(
        **caused_fields(due(), "drift", RetrainRequested),
        reason="reference_set",
        sequence=batch.sequence or 0,
        rows=batch.rows,
    )
    return training_pool(asked, PIPELINE, store).rows


def test_the_reference_is_the_file_whole_with_its_targets(store: MemoryStore) -> None:
    take(store, rows(0, 400, "1.0"))
    gold = take(store, rows(0, 500, "2.0"), as_reference=True)
    assert gold.rows == 500
    window = pool(store, gold)
    assert (len(window), window["id"].nunique(), set(window["y"])) == (500, 500, {2.0})


def test_rows_of_the_reference_are_known_afterwards_and_counted_once(store: MemoryStore) -> None:
    take(store, rows(0, 400, "1.0"))
    take(store, rows(0, 500, "2.0"), as_reference=True)
    again = take(store, rows(0, 500, "2.0"))
    assert (again.outcome, again.known and again.known.taken_in_before) == ("nothing new", 500)
    later = take(store, rows(450, 600, "3.0"))
    assert (later.rows, later.known and later.known.changed) == (100, 50)
    window = pool(store, later)
    assert (len(window), window["id"].nunique()) == (600, 600)
    assert window["y"].value_counts().to_dict() == {2.0: 500, 3.0: 100}


def test_a_late_target_of_a_row_in_two_batches_counts_once(store: MemoryStore) -> None:
    take(store, rows(0, 200, "NA"))
    gold = take(store, rows(0, 300, "NA"), as_reference=True)
    late = take(store, rows(0, 300, "5.0"))
    assert (late.rows, late.labelled_rows) == (0, 300)
    found = labelled_rows(late, PIPELINE, store, at_most=10_000).rows
    assert (len(found), found["id"].nunique(), set(found["y"])) == (300, 300, {5.0})
    assert pool(store, late)["y"].tolist() == [5.0] * 300
    assert gold.labels is None
