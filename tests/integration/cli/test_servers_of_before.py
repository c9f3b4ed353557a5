"""A folder of `trimtab up` from when all services shared one user of each server."""

from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from services.cli.embedded.servers import Mongo, secret_file


def of_before(folder: Path) -> None:
    """A store with the one user of earlier versions, and a record."""
    server = Mongo(folder, "drift_detection")
    (folder / "data").mkdir(parents=True)
    server._run("--auth")
    with MongoClient[Any](server._address("")) as anybody:
        roles = ["readWriteAnyDatabase", "dbAdminAnyDatabase"]
        password = secret_file(folder / "password")
        anybody["admin"].command("createUser", "trimtab", pwd=password, roles=roles)
    with MongoClient[Any](_address_of_before(server)) as client:
        client["drift_detection"]["batches"].insert_one({"_id": "ingest:of before"})
    assert server.process
    server.process.stop(60)


def _address_of_before(server: Mongo) -> str:
    return server._uri("admin").replace("://admin:", "://trimtab:")


def test_a_store_with_one_user_gets_its_users_at_the_next_start(tmp_path: Path) -> None:
    of_before(tmp_path)
    for _ in range(2):
        server = Mongo(tmp_path, "drift_detection")
        try:
            server.start()
            with MongoClient[Any](server.uri_of("exporter")) as exporter:
                assert exporter["drift_detection"]["batches"].find_one() == {
                    "_id": "ingest:of before"
                }
            for refused in (_address_of_before(server), server._address("")):
                with MongoClient[Any](refused) as other, pytest.raises(OperationFailure):
                    other["drift_detection"]["batches"].find_one()
        finally:
            assert server.process
            server.process.stop(60)
