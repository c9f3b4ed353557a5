"""The replay itself: batch by batch, through the handlers that the workers run."""

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from services.cli.replay.memory_store import MemoryStore
from services.cli.replay.policies import Policy
from services.drift.tasks import on_batch_ingested, on_chunk_ingested, on_model_promoted
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from services.ingest.tables import read_file
from services.publisher.bundle import bundle
from services.publisher.publish import report_details
from services.trainer.tasks import on_retrain_requested
from shared.broker import Broker
from shared.events import (
    BatchIngested,
    Event,
    IngestionDue,
    RetrainRequested,
    caused_fields,
    first_event_fields,
)
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.outcome import Outcome
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion
from shared.scoring import error_of, load_model, predict, row_losses
from shared.settings import read_settings
from shared.stage import Resources
from shared.store import Store
from shared.tables.content import TEXT_SUFFIXES
from shared.training import Metric
from shared.work import Work

TABLE_SUFFIXES: Final = TEXT_SUFFIXES + tuple(f"{end}.gz" for end in TEXT_SUFFIXES) + (".parquet",)
Handler = Callable[[Any, Resources], Outcome]

_HANDLERS: Final[dict[str, Handler]] = {
    "ChunkIngested": on_chunk_ingested,
    "BatchIngested": on_batch_ingested,
    "RetrainRequested": on_retrain_requested,
    "ModelPromoted": on_model_promoted,
}
"""What decides. Publisher and notifier only tell of it."""


@dataclass(frozen=True)
class Played:
    """What became of one recorded batch."""

    file: str
    rows: int
    """New rows that are valid."""
    error: float | None
    """Of the champion before the batch was looked at; None without one, or without a target."""
    drift: bool
    p: float | None
    trained: bool
    promoted: bool
    reason: str
    """Of the last decision about the batch, in one sentence."""
    published_bytes: int


@dataclass(frozen=True)
class Replayed:
    """A policy's whole replay."""

    policy: str
    metric: Metric
    batches: tuple[Played, ...]

    @property
    def error(self) -> float | None:
        """The mean of the batches' prequential errors."""
        errors = [batch.error for batch in self.batches if batch.error is not None]
        return float(np.mean(errors)) if errors else None

    @property
    def trainings(self) -> int:
        """Models trained, the first included."""
        return sum(batch.trained for batch in self.batches)

    @property
    def promotions(self) -> int:
        """Models promoted, the first included."""
        return sum(batch.promoted for batch in self.batches)

    @property
    def published_bytes(self) -> int:
        """Of all files of all commits."""
        return sum(batch.published_bytes for batch in self.batches)


def recorded_files(folder: Path) -> list[Path]:
    """The tables of a folder in the order of their names, which is the order of time.

    Raises:
        WillNotPass: there are none.
    """
    files = [path for path in sorted(folder.glob("*")) if path.name.endswith(TABLE_SUFFIXES)]
    if not files:
        raise WillNotPass(f"{folder}: no table here ({', '.join(TABLE_SUFFIXES)})")
    return files


def replay(files: Sequence[Path], policy: Policy) -> Iterator[Played]:
    """Play recorded batches in order, each predicted before it is learnt from.

    Raises:
        WillNotPass: a file cannot be read as the pipeline's table, or a stage gives up on an event.
    """
    resources = replay_resources(policy.pipeline, MemoryStore())
    for file in files:
        yield play_batch(file, policy, resources)


def replay_resources(pipeline: Pipeline, store: Store) -> Resources:
    """What the handlers work with in a replay."""
    settings = read_settings(
        redis_url="redis://unused",
        mongodb_uri="mongodb://unused",
        model_signing_key=secrets.token_hex(16),
    )
    # No handler sends or takes a lease: that is the stage runtime's part.
    return Resources(
        settings=settings,
        pipelines={pipeline.name: pipeline},
        store=store,
        broker=cast("Broker", None),
        work=cast("Work", None),
    )


def play_batch(file: Path, policy: Policy, resources: Resources) -> Played:
    """Play the next recorded batch.

    Raises:
        WillNotPass: the file cannot be read as the pipeline's table, or a stage gives up.
    """
    pipeline, store = policy.pipeline, resources.store
    due = IngestionDue(
        **first_event_fields(pipeline.name, "replay", file.name), slot=datetime.now(UTC)
    )
    answer = Answer(read_file(file, pipeline.data.spellings), f"file {file.name}")
    outcome = ingest_batch(due, answer, pipeline, store)
    store.record(outcome.record, outcome.events)
    batch = cast("Batch", outcome.record)
    played = Played(
        file=file.name,
        rows=batch.rows,
        error=_champion_error(batch, pipeline, resources),
        drift=False,
        p=None,
        trained=False,
        promoted=False,
        reason="nothing new",
        published_bytes=0,
    )
    events = deque(outcome.events)
    while events:
        event = events.popleft()
        if event.type in _HANDLERS:
            followers, played = _handle(event, played, policy, resources)
            events.extend(followers)
    return played


def _champion_error(batch: Batch, pipeline: Pipeline, resources: Resources) -> float | None:
    champion = resources.store.champion(pipeline.name)
    if champion is None or batch.data is None:
        return None
    training, key = pipeline.training, resources.settings.model_signing_key
    rows = from_parquet(resources.store.blob(batch.data))
    rows = rows[rows[training.target].notna()]
    if rows.empty or key is None:
        return None
    data = resources.store.cached_blob(champion.model)
    model = load_model(data, champion, key)
    losses = row_losses(
        predict(model, rows, training), rows[training.target], training.deciding_metric
    )
    return error_of(float(losses.mean()), training.deciding_metric)


def _handle(
    event: Event, played: Played, policy: Policy, resources: Resources
) -> tuple[list[Event], Played]:
    """Handle an event as its stage does; what follows, and what is known of the batch then."""
    outcome = _HANDLERS[event.type](event, resources)
    events = list(outcome.events)
    if isinstance(event, BatchIngested):
        events = _by_policy(event, events, policy, resources.store)
    resources.store.record(outcome.record, events)
    match outcome.record:
        case DriftReport() as report:
            drift = report.verdict == "drift"
            played = replace(played, drift=drift, p=report.p, reason=report.reason)
        case ModelVersion() as model:
            promoted = model.decision == "promoted"
            played = replace(played, trained=True, promoted=promoted, reason=model.reason)
            if promoted:
                size = _published_bytes(model, policy.pipeline, resources)
                played = replace(played, published_bytes=size)
    return events, played


def _by_policy(
    event: BatchIngested, events: list[Event], policy: Policy, store: Store
) -> list[Event]:
    """What the policy makes of the requests for a model.

    The first model is made as soon as one can be made, whatever the policy, and not before.
    """
    requests = [each for each in events if isinstance(each, RetrainRequested)]
    is_first = store.champion(event.pipeline) is None
    if is_first or policy.retrains == "drift" or (policy.retrains == "always" and requests):
        return events
    others: list[Event] = [each for each in events if not isinstance(each, RetrainRequested)]
    if policy.retrains == "never":
        return others
    fields = caused_fields(event, "drift", RetrainRequested)
    return [
        *others,
        RetrainRequested(**fields, reason="drift", sequence=event.sequence, rows=event.rows),
    ]


def _published_bytes(model: ModelVersion, pipeline: Pipeline, resources: Resources) -> int:
    """The size of the files that the publisher would commit."""
    store = resources.store
    report = store.get(DriftReport, model.drift_report)
    plots = {name: store.blob(digest) for name, digest in model.plots.items()}
    details = report_details(report, store)
    files = bundle(model, store.blob(model.model), report, pipeline, details, plots)
    return sum(map(len, files.values()))
