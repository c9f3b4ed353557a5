"""What a handler returns, and how that came about."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.events import Event, Stage, effect_id
from shared.records import Record


@dataclass(frozen=True)
class Outcome:
    """The one record that handling an event leaves, and the events that follow from it."""

    record: Record
    events: tuple[Event, ...] = ()


class Handling(BaseModel):
    """The try that came to a record."""

    model_config = ConfigDict(frozen=True)

    event: Event
    attempt: int
    """1 for the first."""
    begun_at: AwareDatetime


def record_fields(event: Event, stage: Stage) -> dict[str, Any]:
    """The base fields of the record that `stage` leaves for `event`."""
    return {
        "id": effect_id(stage, event.event_id),
        "pipeline": event.pipeline,
        "trace_id": event.trace_id,
        "recorded_at": datetime.now(UTC),
    }
