"""Servers and a store for the tests that need them: real ones, started here, ended here."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pymongo import MongoClient

from services.cli.embedded.servers import Mongo, Valkey
from shared.store import Store

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "aqi"
"""Recorded answers of the feed, where this checkout has them beside it."""


@pytest.fixture(scope="session")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongo]:
    """A MongoDB server for the whole test session."""
    server = Mongo(tmp_path_factory.mktemp("mongo"))
    server.start()
    yield server
    assert server.process
    server.process.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey server for the whole test session."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    assert server.process
    server.process.stop()


@pytest.fixture
def store(mongo: Mongo) -> Iterator[Store]:
    """An empty store with its indexes, in a database of its own."""
    name = f"test_{uuid4().hex}"
    client: MongoClient[dict[str, object]] = MongoClient(mongo.uri, tz_aware=True)
    store = Store(client[name])
    store.prepare(retention_days=30)
    yield store
    client.drop_database(name)
    client.close()
