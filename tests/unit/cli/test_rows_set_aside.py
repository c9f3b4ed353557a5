"""Which rows were set aside, as a person sees them later."""

from datetime import UTC, datetime
from typing import cast

import pandas as pd
import pytest

from services.cli.replay.memory_store import MemoryStore
from services.cli.rows_set_aside import find_rows, in_words
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from shared.events import IngestionDue, first_event_fields
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.records import Batch

PIPELINE = Pipeline.model_validate(
    {
        "name": "reasons",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "id": {"type": "category"},
                "a": {"type": "number"},
                "reason": {"type": "category"},
                "y": {"type": "number"},
            },
            "key": ["id"],
        },
        "training": {"target": "y", "task": "regression", "features": ["a"]},
    }
)


def take(store: MemoryStore, *rows: tuple[str, str, str, str]) -> Batch:
    table = pd.DataFrame(rows, columns=["id", "a", "reason", "y"], dtype=object)
    fields = first_event_fields("reasons", "test", str(rows))
    due = IngestionDue(**fields, slot=datetime(2026, 1, 1, tzinfo=UTC))
    outcome = ingest_batch(due, Answer(table, "a file"), PIPELINE, store)
    store.record(outcome.record, outcome.events)
    return cast("Batch", outcome.record)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_column_named_reason_keeps_its_values(store: MemoryStore) -> None:
    take(store, ("a", "1", "late", "1"), ("b", "x", "early", "2"))
    found = find_rows(store, "reasons", "1", limit=20)
    (row,) = found.rows
    assert row.row == {"id": "b", "a": "x", "reason": "early", "y": "2"}
    assert (row.column, row.value, row.reason) == ("a", "x", "not a number")
    assert in_words(found) == (
        "batch 1: 1 row was set aside\n"
        "1. a: 'x' not a number; accepted: a finite decimal number such as -1.5 or 2e3\n"
        "   id='b' a='x' reason='early' y='2'"
    )


def test_long_values_are_shortened_and_escaped(store: MemoryStore) -> None:
    take(store, ("a", "1", "r", "1"), ("b", "\x1b[31m" + "7" * 500, "r", "1"))
    text = in_words(find_rows(store, "reasons", "1", limit=20))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 200


def test_only_the_first_rows_are_shown(store: MemoryStore) -> None:
    good = [(f"good {number}", "1", "r", "1") for number in range(5)]
    take(store, *good, *((f"bad {number}", "x", "r", "1") for number in range(5)))
    text = in_words(find_rows(store, "reasons", "1", limit=2))
    assert text.endswith("3 more: --limit shows them, --json shows whole values")
    assert "bad 1" in text
    assert "bad 2" not in text


def test_a_reading_without_news_is_found_by_its_id(store: MemoryStore) -> None:
    take(store, ("a", "1", "r", "1"))
    reading = take(store, ("a", "1", "r", "1"), ("b", "x", "r", "1"))
    assert reading.sequence is None
    assert in_words(find_rows(store, "reasons", "1", 9)) == "batch 1: no row was set aside"
    assert "reading ingest:" in in_words(find_rows(store, "reasons", reading.id, 9))


def test_an_unknown_batch_is_told(store: MemoryStore) -> None:
    with pytest.raises(WillNotPass, match="reasons has no batch 7; `trimtab history` lists"):
        find_rows(store, "reasons", "7", limit=20)
