"""All stages in this process, on a real store and broker, with a feed and a clock of their own."""

import base64
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.drift.calibration.profile import Profile
from services.drift.tables.frame import Frame
from services.drift.tables.roles import Roles
from services.drift.tasks import on_batch_ingested, on_chunk_ingested, on_model_promoted
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from services.notifier.tasks import on_event as notify
from services.publisher.tasks import on_model_promoted as publish
from services.trainer.tasks import on_retrain_requested
from shared.drift import Drift
from shared.events import (
    ROUTES,
    STAGES,
    Event,
    IngestionDue,
    Stage,
    dump_event,
    effect_id,
    first_event_fields,
    parse_event,
)
from shared.frames import arrow_table
from shared.outcome import Outcome
from shared.pipeline import Pipeline
from shared.stage import Handler, Resources, StageRuntime
from shared.store import COLLECTIONS, Store
from tests.air_quality_rows import raw_rows, with_training
from tests.integration.publisher.bare import Bare
from tests.keys import authenticate
from tests.sweeping import sweep_all

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
STATIONS = 26
"""They give 156 rows an hour."""

_OF_THE_RUN = {
    *("recorded_at", "handled_seconds", "timestamp", "occurred_at", "outbox_sent_at"),
    *("trained_at", "fit_seconds", "seconds"),  # of a training
    *("commit", "tag_object", "url", "repository"),  # a commit has a date
    *("seal", "mac", "outbox_mac"),  # of a record with its times
    *("begun_at", "attempt"),
}
"""What differs between two runs of one history: times, and what is made of times."""


class Workers:
    """One worker of each stage that is not `down`; they work when they are told to."""

    def __init__(self, resources: Resources, drift_at: int) -> None:
        """`drift_at`: the hour from which on the feed's air is worse."""
        self.resources = resources
        self.store = resources.store
        self.hour = 0
        self.down: set[Stage] = set()
        self.drift_at = drift_at
        self._redis = Redis.from_url(resources.settings.redis_url.get_secret_value())
        self._handlers: dict[str, dict[Stage, Handler]] = {
            "IngestionDue": {"ingest": self._ingest},
            "BatchIngested": {"drift": on_batch_ingested},
            "ChunkIngested": {"drift": on_chunk_ingested},
            "RetrainRequested": {"trainer": on_retrain_requested},
            "ModelPromoted": {"drift": on_model_promoted, "publisher": publish, "notifier": notify},
        }

    def tick(self) -> None:
        """An hour has passed: beat sends its event."""
        self.hour += 1
        slot = BEGIN + timedelta(hours=self.hour)
        event = IngestionDue(**first_event_fields("air_quality", "slot", self.hour), slot=slot)
        self.resources.broker.send(event)

    def _ingest(self, event: IngestionDue, resources: Resources) -> Outcome:
        """Read the feed, which shows the present hour only; every fourth answer is a large one."""
        answer = Answer(
            raw_rows(
                STATIONS if self.hour % 4 else 2 * STATIONS,
                hour=f"{BEGIN + timedelta(hours=self.hour):%Y-%m-%d %H:%M}",
                level=50 if self.hour < self.drift_at else 150,
            ),
            "a test",
        )
        return ingest_batch(event, answer, resources.pipeline(event), resources.store)

    def take(self) -> Iterator[tuple[Stage, Event]]:
        """Take what waits in the queues of those that work."""
        for stage in STAGES:
            while stage not in self.down and (message := self._redis.rpop(self._key(stage))):
                assert isinstance(message, bytes)
                _, arguments, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
                yield stage, parse_event(arguments["event"])

    def _key(self, stage: Stage) -> str:
        return f"{self.resources.settings.key_prefix}{stage}"

    def deliver(self, stage: Stage, event: Event) -> None:
        """Hand a message to a stage's worker."""
        handler = self._handlers.get(event.type, {}).get(stage, notify)
        StageRuntime(stage, self.resources).handle(dump_event(event), handler)

    @property
    def queued(self) -> dict[Stage, int]:
        return self.resources.broker.queue_lengths()

    def work(self) -> None:
        """Handle every message that waits, and those that follow."""
        while messages := list(self.take()):
            for stage, event in messages:
                self.deliver(stage, event)

    def sweep(self) -> int:
        """A sweep some minutes later."""
        for name in (*COLLECTIONS.values(), "work"):
            for document in self.store.database[name].find():
                times = ("recorded_at", "updated_at", "outbox_sent_at", "next_attempt_at")
                earlier = {
                    name: document[name] - timedelta(minutes=10)
                    for name in times
                    if document.get(name)
                }
                if earlier:
                    query = {"_id": document["_id"]}
                    self.store.database[name].update_one(query, {"$set": earlier})
        authenticate(self.store)
        return sweep_all(self.resources)

    def forget(self) -> None:
        """Begin anew: with an empty store, broker and model repository."""
        self.hour = 0
        self._redis.flushdb()
        for name in self.store.database.list_collection_names():
            self.store.database[name].delete_many({})
        settings = self.resources.settings
        shutil.rmtree(settings.git_cache, ignore_errors=True)
        shutil.rmtree(str(settings.model_repository))
        Bare.make(Path(str(settings.model_repository)))

    def come_to_rest(self) -> None:
        """Work and sweep until nothing is left to do."""
        self.work()
        while self.sweep():
            self.work()


Content = dict[str, dict[str, Any]]


def content(store: Store) -> Content:
    """Collection -> id -> document, without what differs between runs of one history.

    Of the blob in `details`, the whole drift report, its content is compared in place of its hash,
    for it holds a time.
    """
    return {
        name: {
            document["_id"]: _lasting(_with_details(document, store))
            for document in store.database[name].find()
        }
        for name in (*COLLECTIONS.values(), "work")
    }


def _with_details(document: dict[str, Any], store: Store) -> dict[str, Any]:
    if not document.get("details"):
        return document
    report = json.loads(gzip.decompress(store.blob(document["details"])))
    return document | {"details": report}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in _OF_THE_RUN}
    if isinstance(value, str):
        return re.sub(r"(?<=^Commit: )[0-9a-f]+", "…", value, flags=re.MULTILINE)
    return [_lasting(each) for each in value] if isinstance(value, list) else value


def settled_once(store: Store) -> bool:
    """Whether every event in an outbox has its record at every stage that handles it."""
    return all(
        store.is_settled(effect_id(stage, event["event_id"]))
        for name in COLLECTIONS.values()
        for document in store.database[name].find()
        for event in document["outbox"]
        for stage in ROUTES[event["type"]]
    )


def undisturbed(workers: Workers, hours: int) -> Content:
    """What the hours leave when each message is handled once, and at once."""
    key = (hours, workers.drift_at)
    if key not in _undisturbed:
        for _ in range(hours):
            workers.tick()
            workers.work()
        workers.come_to_rest()
        _undisturbed[key] = content(workers.store)
        workers.forget()
    return _undisturbed[key]


_undisturbed: dict[tuple[int, int], Content] = {}
_ANNOUNCED = ("DriftFound", "ModelPromoted", "ModelRejected", "ModelPublished", "WorkFailed")


def small(pipeline: Pipeline) -> Pipeline:
    """The pipeline with a small forest on the newest batch, and chunks of 150 rows."""
    quick = {"n_estimators": 10, "min_samples_leaf": 5}
    pipeline = with_training(pipeline, parameters=quick, window={"last": "1 batch"})
    return pipeline.model_copy(
        update={
            "drift": Drift.model_validate(pipeline.drift.model_dump() | {"chunk_rows": 160}),
            "notify": pipeline.notify.model_copy(update={"events": list(_ANNOUNCED)}),
        }
    )


@cache
def _profile_bytes(rows: bytes, roles: Roles) -> bytes:
    return Profile.fit(Frame(arrow_table(rows)), roles=roles).to_bytes()


def _fitted_once(data: str, roles: Roles, store: Store) -> str:
    return store.put_blob(_profile_bytes(store.blob(data), roles))


def workers_of(resources: Resources, drift_at: int, patch: pytest.MonkeyPatch) -> Workers:
    """Workers with a model repository, without what takes seconds and is no matter of messages.

    The profile of given rows is fitted once; a model's pictures are not drawn, and no process is
    started for it to predict in. Both have tests of their own.
    """
    Bare.make(Path(str(resources.settings.model_repository)))
    resources.pipelines["air_quality"] = small(resources.pipelines["air_quality"])
    patch.setattr("services.drift.reference.store_profile", _fitted_once)
    patch.setattr("services.trainer.train.why_not_usable", lambda *_: None)
    patch.setattr("services.trainer.train.render_plots", lambda *_: {})
    return Workers(resources, drift_at)


def differences(found: Any, expected: Any, where: str = "store") -> list[str]:
    """Where two contents differ, one line each."""
    if isinstance(found, dict) and isinstance(expected, dict):
        names = sorted(found.keys() | expected.keys(), key=str)
        return [
            line
            for name in names
            for line in differences(
                found.get(name, "nothing"), expected.get(name, "nothing"), f"{where}.{name}"
            )
        ]
    return [] if found == expected else [f"{where}: {found!s:.300}, expected {expected!s:.300}"]
