"""Events: one wire format, strict at the edge, the same id for the same cause."""

from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.broker import describe
from shared.events import (
    ROUTES,
    BatchIngested,
    Event,
    IngestionDue,
    ModelPromoted,
    RetrainRequested,
    caused_fields,
    dump_event,
    first_event_fields,
    parse_event,
    task_name,
)

SLOT = datetime(2026, 1, 1, tzinfo=UTC)


def due() -> IngestionDue:
    return IngestionDue(**first_event_fields("air_quality", "slot", SLOT), slot=SLOT)


def test_event_survives_the_wire() -> None:
    event = due()
    assert parse_event(dump_event(event)) == event


def test_every_event_has_a_route() -> None:
    assert set(ROUTES) == {kind.__name__ for kind in get_args(Event)}


def test_same_cause_gives_the_same_event_id() -> None:
    ids = {caused_fields(due(), "ingest", BatchIngested)["event_id"] for _ in range(2)}
    other = caused_fields(due(), "ingest", RetrainRequested)["event_id"]
    assert len(ids) == 1
    assert other not in ids


def test_chain_keeps_the_trace() -> None:
    fields = caused_fields(due(), "ingest", BatchIngested)
    assert fields["trace_id"] == due().event_id


def test_event_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        due().pipeline = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version"),
        ({"pipeline": "../etc"}, "pipeline"),
        ({"pipeline": "Ä"}, "pipeline"),
        ({"event_id": "x"}, "event_id"),
        ({"slot": "yesterday"}, "slot"),
        ({"slot": "2026-01-01T00:00:00"}, "slot"),
        ({"more": 1}, "more"),
        ({"type": "Unheard"}, "type"),
    ],
)
def test_wrong_message_is_refused_with_its_place(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_event(dump_event(due()) | change)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_message_is_an_event_or_a_value_error(message: object) -> None:
    with pytest.raises(ValueError, match="not an event"):
        parse_event(message)


def test_task_is_named_after_stage_and_event() -> None:
    assert task_name("drift", "BatchIngested") == "drift.on_batch_ingested"


def test_flower_shows_pipeline_batch_and_rows() -> None:
    event = BatchIngested(
        **caused_fields(due(), "ingest", BatchIngested), sequence=3, rows=840, data="0" * 64
    )
    assert describe(event) == "pipeline=air_quality batch=3 rows=840"
    promoted = ModelPromoted(
        **caused_fields(due(), "trainer", ModelPromoted),
        model_version=2,
        sequence=3,
        window="0" * 64,
        window_rows=99,
    )
    assert describe(promoted) == "pipeline=air_quality batch=3 rows=99 model=2"
