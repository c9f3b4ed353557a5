"""The events that make up the loop, and who handles which.

An event says what happened: identifiers and small facts, never data or models, which travel by
reference through the store. The tables `ROUTES` and `EMITS` at the foot are the map of the system.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Stage = Literal["ingest", "drift", "trainer", "publisher", "notifier"]
STAGES: Final[tuple[Stage, ...]] = ("ingest", "drift", "trainer", "publisher", "notifier")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""A pipeline's name: safe as a file name, a Git tag part and a log field."""

NO_PIPELINE: Final = "no-pipeline"
"""Stands for a pipeline where something is of none, such as a foreign message."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The hexadecimal SHA-256 of a blob's bytes, and its address in the store."""

Identifier = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class EventBase(BaseModel):
    """What every event carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    event_id: Identifier
    trace_id: Identifier
    """The id of the event that began this chain: the same from the feed's answer to the message."""
    pipeline: Name
    occurred_at: AwareDatetime


class IngestionDue(EventBase):
    """The pipeline's schedule came round: its source is to be read."""

    type: Literal["IngestionDue"] = "IngestionDue"
    slot: AwareDatetime
    """The due time. Two beats that send the same slot start one ingestion."""


class BatchIngested(EventBase):
    """A batch of rows not taken in before is in the store."""

    type: Literal["BatchIngested"] = "BatchIngested"
    sequence: int = Field(ge=1)
    rows: int = Field(ge=0)
    """New rows; none if the batch brings targets of earlier rows alone."""
    data: Sha256 | None
    labels: Sha256 | None = None
    """Targets of rows of earlier batches, which came without."""
    as_reference: bool = False
    """A person set this batch as the new reference."""


class ChunkIngested(EventBase):
    """A row group of a batch so large that several workers are to count it."""

    type: Literal["ChunkIngested"] = "ChunkIngested"
    sequence: int = Field(ge=1)
    data: Sha256
    row_group: int = Field(ge=0)


class DriftFound(EventBase):
    """A batch has drifted from the reference, the first to do so."""

    type: Literal["DriftFound"] = "DriftFound"
    sequence: int = Field(ge=1)
    rows: int = Field(ge=0)
    report: str
    """The id of the drift report."""
    reason: str = Field(max_length=500)


class RetrainRequested(EventBase):
    """A batch asks for a new model."""

    type: Literal["RetrainRequested"] = "RetrainRequested"
    reason: Literal["first_model", "reference_set", "drift", "performance"]
    reference_version: int | None = None
    """The reference that the batch was compared with; none before the first model."""
    sequence: int = Field(ge=1)
    """The newest batch that the training window may hold."""
    rows: int | None = None
    """The rows of that batch."""
    drift_score: float | None = None


class RollbackRequested(EventBase):
    """A person wants an earlier model to be the champion again."""

    type: Literal["RollbackRequested"] = "RollbackRequested"
    model_version: int = Field(ge=1)
    """The version to restore."""
    champion_version: int = Field(ge=1)
    """The champion that the person saw."""
    request: int | None = Field(None, ge=1)
    """The entry of the audit log in which an operator signed for it."""


class ModelPromoted(EventBase):
    """A new model is the champion."""

    type: Literal["ModelPromoted"] = "ModelPromoted"
    model_version: int = Field(ge=1)
    replaced_version: int | None = None
    sequence: int = Field(ge=1)
    window: Sha256
    """The training window, which becomes the next reference."""
    window_rows: int = Field(ge=1)
    restores: int | None = None
    """The earlier version that it is, byte for byte, after a rollback."""


class ModelRejected(EventBase):
    """A new model was not good enough; the champion stays."""

    type: Literal["ModelRejected"] = "ModelRejected"
    model_version: int = Field(ge=1)
    champion_version: int | None = None
    sequence: int = Field(ge=1)
    window_rows: int | None = None
    reason: str = Field(max_length=500)


class ReviewNeeded(EventBase):
    """A person should look: the first model was rejected, or `rejections` models in a row were."""

    type: Literal["ReviewNeeded"] = "ReviewNeeded"
    model_version: int = Field(ge=1)
    champion_version: int | None = None
    sequence: int = Field(ge=1)
    rejections: int = Field(ge=1)
    """In a row, since the champion was promoted."""
    reason: str = Field(max_length=500)
    """Of the last one."""


class ModelPublished(EventBase):
    """A champion's files are on the model repository's branch."""

    type: Literal["ModelPublished"] = "ModelPublished"
    model_version: int = Field(ge=1)
    sequence: int | None = None
    """The batch that asked for the model."""
    window_rows: int | None = None
    commit: str = Field(pattern=r"^[0-9a-f]{40,64}$")
    branch: str
    url: str | None = None
    """Where a person can look at the commit, if the host is known."""


class PublicationAltered(EventBase):
    """Somebody else changed a champion's files or its tag on the model repository."""

    type: Literal["PublicationAltered"] = "PublicationAltered"
    model_version: int = Field(ge=1)
    commit: str = Field(pattern=r"^[0-9a-f]{40,64}$")
    """Where the files are as they were published."""
    branch: str
    reason: str = Field(max_length=500)
    url: str | None = None


class WorkFailed(EventBase):
    """A stage gave up on an event, which is kept as a dead letter."""

    type: Literal["WorkFailed"] = "WorkFailed"
    stage: Stage
    failed_event: str
    dead_letter: str
    reason: str = Field(max_length=1000)


Event = (
    IngestionDue
    | BatchIngested
    | ChunkIngested
    | DriftFound
    | RetrainRequested
    | RollbackRequested
    | ModelPromoted
    | ModelRejected
    | ReviewNeeded
    | ModelPublished
    | PublicationAltered
    | WorkFailed
)

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def parse_event(message: object) -> Event:
    """Read an event from what came over the wire.

    Raises:
        ValueError: the message is not an event of this version; the text says where and why.
    """
    try:
        return _ADAPTER.validate_python(message, strict=False)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'message'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)[:5]
        )
        raise ValueError(f"not an event: {faults}") from None


def dump_event(event: Event) -> dict[str, Any]:
    """The event as JSON types, for the wire and for the outbox."""
    return event.model_dump(mode="json")


def deterministic_id(*parts: object) -> str:
    """The same 32 hexadecimal digits for the same parts, wherever and whenever computed."""
    return uuid5(NAMESPACE_URL, "trimtab/" + "/".join(map(str, parts))).hex


def effect_id(stage: Stage, event_id: str) -> str:
    """The identity of what `stage` does about an event: the id of its record, so done once."""
    return f"{stage}:{event_id}"


def first_event_fields(pipeline: str, *identity: object) -> dict[str, Any]:
    """The base fields of an event that begins a chain, from what makes it the same event again."""
    event_id = deterministic_id(pipeline, *identity)
    return {
        "event_id": event_id,
        "trace_id": event_id,
        "pipeline": pipeline,
        "occurred_at": datetime.now(UTC),
    }


def caused_fields(cause: Event, stage: Stage, kind: type[EventBase]) -> dict[str, Any]:
    """The base fields of an event of class `kind` that `stage` emits on account of `cause`.

    The id is made of the effect and the kind, so a handler that runs again emits the same event.
    """
    return {
        "event_id": deterministic_id(effect_id(stage, cause.event_id), kind.__name__),
        "trace_id": cause.trace_id,
        "pipeline": cause.pipeline,
        "occurred_at": datetime.now(UTC),
    }


def task_name(stage: Stage, kind: str) -> str:
    """The Celery task with which `stage` handles events of a kind: `drift.on_batch_ingested`."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind)
    return f"{stage}.on{snake}"


# event -> {the stage that handles it: the collection its record goes to}
ROUTES: Final[dict[str, dict[Stage, str]]] = {
    "IngestionDue": {"ingest": "batches"},
    "BatchIngested": {"drift": "drift_reports"},
    "ChunkIngested": {"drift": "chunk_counts"},
    "DriftFound": {"notifier": "notifications"},
    "RetrainRequested": {"trainer": "models"},
    "RollbackRequested": {"trainer": "models"},
    "ModelPromoted": {
        "drift": "references",
        "publisher": "publications",
        "notifier": "notifications",
    },
    "ModelRejected": {"notifier": "notifications"},
    "ReviewNeeded": {"notifier": "notifications"},
    "ModelPublished": {"notifier": "notifications"},
    "PublicationAltered": {"notifier": "notifications"},
    "WorkFailed": {"notifier": "notifications"},
}

# stage -> the events that it makes
EMITS: Final[dict[Stage, tuple[str, ...]]] = {
    "ingest": ("BatchIngested", "ChunkIngested", "WorkFailed"),
    "drift": ("DriftFound", "RetrainRequested", "WorkFailed"),
    "trainer": ("ModelPromoted", "ModelRejected", "ReviewNeeded", "WorkFailed"),
    "publisher": ("ModelPublished", "PublicationAltered", "WorkFailed"),
    "notifier": ("WorkFailed",),
}


def handled_by(stage: Stage) -> list[str]:
    """The kinds of the events that a stage handles."""
    return [kind for kind, routes in ROUTES.items() if stage in routes]


def successors(stage: Stage) -> set[Stage]:
    """The stages that handle what a stage makes."""
    return {consumer for kind in EMITS[stage] for consumer in ROUTES[kind]}
