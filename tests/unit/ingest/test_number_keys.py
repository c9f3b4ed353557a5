"""Number keys that floats cannot tell apart: over batches, late targets and a model's window."""

from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import pandas as pd
import pytest

from services.cli.replay.memory_store import MemoryStore
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from services.trainer.window import training_pool
from shared.events import IngestionDue, RetrainRequested, caused_fields, first_event_fields
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.pipeline import Pipeline
from shared.records import Batch

PIPELINE = Pipeline.model_validate(
    {
        "name": "ids",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "id": {"type": "number"},
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
BIG = 2**53


def table(keys: list[Any], target: str = "1") -> pd.DataFrame:
    rows = [
        {"id": str(key), "t": "2024-01-01T00:00Z", "a": str(number), "y": target}
        for number, key in enumerate(keys)
    ]
    return pd.DataFrame(rows, dtype=object)


def due() -> IngestionDue:
    fields = first_event_fields("ids", "by hand", uuid4().hex)
    return IngestionDue(**fields, slot=datetime(2024, 1, 1, tzinfo=UTC))


def take(store: MemoryStore, keys: list[Any], target: str = "1") -> Batch:
    outcome = ingest_batch(due(), Answer(table(keys, target), "a file"), PIPELINE, store)
    assert store.record(outcome.record, outcome.events)
    return cast("Batch", outcome.record)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def window(store: MemoryStore, batch: Batch) -> pd.DataFrame:
    fields = caused_fields(due(), "drift", RetrainRequested)
    asked = RetrainRequested(
        **fields, reason="drift", sequence=batch.sequence or 0, rows=batch.rows
    )
    return training_pool(asked, PIPELINE, store).rows


def test_all_rows_come_and_are_known_afterwards(store: MemoryStore) -> None:
    keys = [BIG + number for number in range(40)]
    batch = take(store, keys)
    assert (batch.rows, batch.rows_known) == (40, 0)
    assert batch.data
    assert from_parquet(store.blob(batch.data))["id"].tolist() == keys
    again = take(store, keys)
    assert (again.outcome, again.known and again.known.taken_in_before) == ("nothing new", 40)
    assert len(window(store, batch)) == 40


def test_batches_with_small_and_with_large_keys_go_together(store: MemoryStore) -> None:
    take(store, [1, "2.0", BIG])
    take(store, [1, 2, 3])
    third = take(store, ["1.0", 2, 3, BIG, BIG + 1, " 4 "])
    assert (third.rows, third.rows_known) == (2, 4)
    assert sorted(int(key) for key in window(store, third)["id"]) == [1, 2, 3, 4, BIG, BIG + 1]


def test_late_targets_find_their_own_rows(store: MemoryStore) -> None:
    take(store, [BIG, BIG + 1, 7], target="NA")
    late = take(store, [BIG + 1, "7.0"], target="5")
    assert (late.rows, late.labelled_rows) == (0, 2)
    rows = window(store, late)
    assert dict(zip(map(int, rows["id"]), rows["y"].fillna(0), strict=True)) == {
        BIG: 0.0,
        BIG + 1: 5.0,
        7: 5.0,
    }


def test_keys_whose_digits_the_source_has_lost_are_an_error_of_the_schema(
    store: MemoryStore,
) -> None:
    with pytest.raises(WillNotPass, match=r"id: a key that has lost digits.*1\.23e17.*category"):
        take(store, ["1.23e17", f"{BIG}.0", 1])
    batch = take(store, ["1.23e17", 1, 2])
    assert (batch.rows, batch.set_aside.rows) == (2, 1)
