"""Servers and a store for the tests that need them: real ones, started here, ended here."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings
from pymongo import MongoClient
from redis import Redis

from services.cli.embedded.servers import Mongo, Valkey
from shared.broker import Broker
from shared.celery_app import celery_app
from shared.pipeline import Pipeline, load_pipeline
from shared.settings import Settings, read_settings
from shared.stage import Resources
from shared.store import Store
from shared.work import Work
from tests.keys import AUTHENTICATOR, EVENT_KEY, OPERATORS
from tests.sweeping import prepare_all

# The same examples in every run: what fails in CI fails at the desk. No example is timed.
hypothesis_settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis_settings.load_profile("repeatable")

AIR_QUALITY = Path(__file__).parents[1] / "pipelines" / "air_quality.yaml"

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "aqi"
"""Recorded answers of the feed, where this checkout has them beside it."""

AWKWARD = 'a folder\'s "räume"'
"""The name of the servers' folders: people's folders have such names."""


@pytest.fixture(scope="session")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongo]:
    """A MongoDB server for the whole test session."""
    server = Mongo(tmp_path_factory.mktemp(AWKWARD), "drift_detection")
    server.start()
    yield server
    assert server.process
    server.process.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey server for the whole test session."""
    server = Valkey(tmp_path_factory.mktemp(AWKWARD), "drift_detection:")
    server.start()
    yield server
    assert server.process
    server.process.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A broker that a test may end."""
    server = Valkey(tmp_path / "valkey", "drift_detection:")
    server.start()
    yield server
    assert server.process
    server.process.stop()


@pytest.fixture
def store(mongo: Mongo) -> Iterator[Store]:
    """An empty store with its indexes, in a database of its own."""
    name = f"test_{uuid4().hex}"
    client: MongoClient[dict[str, object]] = MongoClient(mongo.uri, tz_aware=True)
    store = Store(client[name], AUTHENTICATOR)
    prepare_all(store)
    yield store
    client.drop_database(name)
    client.close()


@pytest.fixture(scope="session")
def air_quality() -> Pipeline:
    """The default pipeline, from its file."""
    return load_pipeline(AIR_QUALITY)


@pytest.fixture
def settings(mongo: Mongo, valkey: Valkey, store: Store, tmp_path: Path) -> Settings:
    """The settings of a system on the test's servers, with short pauses."""
    return read_settings(
        redis_url=valkey.url,
        mongodb_uri=mongo.uri,
        mongodb_database=store.database.name,
        event_key=EVENT_KEY,
        operators=OPERATORS,
        model_signing_key="a signing key for tests only",
        model_repository=str(tmp_path / "models.git"),
        git_cache=tmp_path / "git",
        retry_base_seconds=0.01,
        redeliver_after_seconds=0.01,
        max_attempts=3,
    )


@pytest.fixture
def resources(settings: Settings, store: Store, valkey: Valkey, air_quality: Pipeline) -> Resources:
    """Connections to the test's servers, with an empty broker."""
    Redis.from_url(valkey.url).flushdb()
    return Resources(
        settings=settings,
        pipelines={"air_quality": air_quality},
        store=store,
        broker=Broker(celery_app(lambda: settings)),
        work=Work(store.database, settings.lease_seconds, AUTHENTICATOR),
    )
