"""What a handler returns."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.events import Event, Stage, effect_id
from shared.records import Record


@dataclass(frozen=True)
class Outcome:
    """The one record that handling an event leaves, and the events that follow from it."""

    record: Record
    events: tuple[Event, ...] = ()


def record_fields(event: Event, stage: Stage) -> dict[str, Any]:
    """The base fields of the record that `stage` leaves for `event`."""
    return {
        "id": effect_id(stage, event.event_id),
        "pipeline": event.pipeline,
        "trace_id": event.trace_id,
        "recorded_at": datetime.now(UTC),
    }
