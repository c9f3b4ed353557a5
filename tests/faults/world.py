"""The embedded system under faults: started, fed hour by hour, supervised, and asked how it is."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from services.cli.embedded.addresses import settings_of
from services.cli.embedded.process import Process
from services.cli.embedded.system import System
from services.feed.history import Row
from services.feed.stations import INDIA, SimulatedStations
from shared.broker import Broker
from shared.celery_app import celery_app
from shared.events import STAGES, Event, parse_event
from shared.records import Batch
from shared.stage import BROKER_ERRORS
from shared.store import COLLECTIONS, Store
from tests.faults.flaky_feed import FlakyFeed
from tests.faults.push_hooks import install_hooks
from tests.faults.receiver import Receiver
from tests.faults.small_disk import SmallDisk

PIPELINE = "air_quality"
START = datetime(2026, 1, 10, 9, tzinfo=INDIA)
SEASON_HOURS = 6
SUPERVISED = (*STAGES, "beat", "flower", "valkey", "mongod")
SETTINGS = {
    "SWEEP_SECONDS": "1",
    "REDELIVER_AFTER_SECONDS": "3",
    "LEASE_SECONDS": "4",
    "RETRY_BASE_SECONDS": "0.5",
    "RETRY_MAX_SECONDS": "2",
    "MAX_ATTEMPTS": "100",
}
"""Short pauses, and as many tries as an outage may cost. Guarantees do not depend on them."""


@dataclass(frozen=True)
class History:
    """What a run is fed with: the same seed gives the same hours in the same order.

    Calm and winter take turns, so that there is drift to find and a model to train all along.
    """

    seed: int
    hours: int
    stations: int = 24

    def order(self) -> list[int]:
        """The hours as they are shown: of every ten the clock jumps over one, and then back."""
        order = list(range(self.hours))
        for late in range(7, self.hours - 1, 10):
            order[late], order[late + 1] = order[late + 1], order[late]
        return order

    def rows(self, hour: int) -> list[Row]:
        """The rows of an hour."""
        return self._seasons[hour // SEASON_HOURS % 2].rows(hour)

    @cached_property
    def _seasons(self) -> tuple[SimulatedStations, SimulatedStations]:
        calm = SimulatedStations(stations=self.stations, start=START, seed=self.seed)
        return calm, replace(calm, drift_at=0)


@dataclass
class World:
    """A running system with the parts of the outside that it talks to."""

    home: Path
    feed: FlakyFeed
    receiver: Receiver
    system: System
    kept_down: dict[str, float] = field(default_factory=dict)
    """Part -> until when nobody starts it again (monotonic)."""
    extra: list[Process] = field(default_factory=list)
    """Processes that a fault has added."""
    answers_at_risk: list[float] = field(default_factory=list)
    """When something was cut off that the notifier needs to keep an answer (s since the epoch)."""
    disk: SmallDisk | None = None
    """The file system of MongoDB, where it may be a small one."""

    @property
    def repository(self) -> Path:
        return self.home / "models.git"

    def process(self, part: str) -> Process:
        return self.system.process(part)

    def supervise(self) -> None:
        """Start what has ended again, as a container's restart policy does."""
        now = time.monotonic()
        for part in SUPERVISED:
            process = self.process(part)
            if process.exit_status is not None and self.kept_down.get(part, 0) < now:
                process.kill()
                process.start()

    def open_events(self) -> list[Event]:
        """The events whose chains are not known to be settled."""
        with suppress(PyMongoError), self.store() as store:
            return [
                parse_event(event)
                for name in COLLECTIONS.values()
                for document in store.database[name].find({"outbox_open": True}, {"outbox": 1})
                for event in document["outbox"]
            ]
        return []

    def send(self, events: list[Event]) -> None:
        """Send events to every stage that handles them, unless the broker is down."""
        with suppress(*BROKER_ERRORS):
            for event in events:
                self._sender.send(event)

    @cached_property
    def _sender(self) -> Broker:
        settings = settings_of(self.home)
        return Broker(celery_app(lambda: settings))

    def broker(self) -> Redis:
        assert self.system.valkey
        return Redis.from_url(self.system.valkey.url, socket_timeout=2, socket_connect_timeout=2)

    @contextmanager
    def store(self) -> Iterator[Store]:
        assert self.system.mongo
        client: MongoClient[dict[str, Any]] = MongoClient(
            self.system.mongo.uri,
            tz_aware=True,
            serverSelectionTimeoutMS=1000,
            socketTimeoutMS=5000,
        )
        try:
            yield Store(client["drift_detection"], None)
        finally:
            client.close()

    def batches(self) -> int:
        """The number of the newest batch; what is not known while the store is down is 0."""
        with suppress(PyMongoError), self.store() as store:
            newest = store.newest(Batch, {"sequence": {"$ne": None}}, "sequence")
            return newest.sequence or 0 if newest else 0
        return 0

    def pulse(self) -> datetime | None:
        """When a reading of the feed was last recorded: it takes beat, broker, ingest and store."""
        with suppress(PyMongoError), self.store() as store:
            newest = store.newest(Batch, {}, "recorded_at")
            return newest.recorded_at if newest else None
        return None

    def last_alive(self, part: str) -> datetime | None:
        """The last sign of life of a stage's worker or of beat."""
        with suppress(RedisError), self.broker() as broker:
            signs = broker.hgetall("drift_detection:heartbeats")
            times = [at for name, at in signs.items() if name.decode().partition("@")[0] == part]
            return max((datetime.fromisoformat(at.decode()) for at in times), default=None)
        return None

    def stop(self) -> None:
        for process in self.extra:
            process.kill()
        self.system.stop()
        if self.disk:
            self.disk.unmount()
        for server in (self.feed, self.receiver):
            server.shutdown()
            server.server_close()


@contextmanager
def running(home: Path, history: History, settings: Mapping[str, str]) -> Iterator[World]:
    """The world of a history, started with further settings; everything is stopped at the end."""
    feed, receiver = FlakyFeed(history), Receiver()
    given = (
        {"FEED_URL": feed.url, "DISCORD_WEBHOOK_URL": receiver.webhook} | SETTINGS | dict(settings)
    )
    (home / "pipelines").mkdir(parents=True)
    (home / "pipelines" / "air_quality.yaml").write_text(yaml.safe_dump(_pipeline()))
    system = System(home=home, pipelines=home / "pipelines")
    disk = SmallDisk.mounted(home.resolve() / "mongo" / "data")
    world = World(home.resolve(), feed, receiver, system, disk=disk)
    before = {name: os.environ.get(name) for name in given}
    os.environ |= given
    try:
        system.start(lambda _: None)
        install_hooks(world.repository)
        yield world
    finally:
        world.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _pipeline() -> dict[str, Any]:
    """The default pipeline, read every second in small pages, with a small model."""
    root = Path(__file__).parents[2]
    content: dict[str, Any] = yaml.safe_load((root / "pipelines" / "air_quality.yaml").read_text())
    content["schedule"] = "every 1s"
    content["source"] |= {"page_size": 100, "page_deadline_seconds": 6}
    content["drift"] |= {"windows": [1, 3], "columns": ["pollutant_avg", "pollutant_max"]}
    content["training"] |= {"parameters": {"n_estimators": 10, "min_samples_leaf": 5}}
    content["training"] |= {"window": {"last": "3 batches"}, "time_parts": []}
    content["gate"] |= {"policy": "always", "cooldown": "1h"}
    content["notify"]["events"] = [
        *("DriftFound", "ModelPromoted", "ModelRejected", "ReviewNeeded", "ModelPublished"),
        "WorkFailed",
    ]
    return content
