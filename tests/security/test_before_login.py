"""What the store tells somebody who has not logged in."""

import socket
import struct
import zlib
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.uri_parser import parse_uri

from services.cli.embedded.servers import Mongo

_COMPRESSED = 2012
_MESSAGE = 2013
_ZLIB = 2


def connected(mongo: Mongo) -> socket.socket:
    host, port = parse_uri(mongo.uri)["nodelist"][0]
    if port is not None and not host.startswith("/"):
        return socket.create_connection((host, port), timeout=5)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(host)
    return connection


def overstated(size: int) -> bytes:
    """A message that says that it is larger than it is once it is decompressed (CVE-2025-14847).

    A document that is cut off follows; an old server reads on in what its memory held before.
    """
    document = struct.pack("<i", size) + b"\x02a"
    inside = zlib.compress(struct.pack("<I", 0) + b"\x00" + document)
    body = struct.pack("<iiB", _MESSAGE, size, _ZLIB) + inside
    return struct.pack("<iiii", 16 + len(body), 1, 0, _COMPRESSED) + body


@pytest.mark.parametrize("size", [64, 500, 8_000])
def test_nothing_is_decompressed_for_a_stranger(mongo: Mongo, size: int) -> None:
    with connected(mongo) as stranger:
        stranger.sendall(overstated(size))
        try:
            answer = stranger.recv(1 << 16)
        except ConnectionResetError:
            answer = b""
    assert answer == b""


@pytest.mark.parametrize("name", ["a" * 120, "a, b: [c] 100%"])
def test_a_folder_whose_name_a_socket_cannot_have(name: str, tmp_path: Path) -> None:
    server = Mongo(tmp_path / name, "drift_detection")
    server.start()
    try:
        with MongoClient[dict[str, object]](server.uri) as client:
            assert client["admin"].command("ping")["ok"] == 1
        assert server.socket.parent.stat().st_mode & 0o777 == 0o700
        assert server.socket.stat().st_mode & 0o777 == 0o600
    finally:
        assert server.process
        server.process.stop()


def test_no_compression_is_agreed_on(mongo: Mongo) -> None:
    with MongoClient[dict[str, object]](mongo.uri, compressors="zlib") as client:
        assert (
            not client["admin"].command("hello", compression=["zlib", "snappy"]).get("compression")
        )


def test_a_stranger_is_told_nothing(mongo: Mongo) -> None:
    place = mongo.uri.partition("@")[2]
    with (
        MongoClient[dict[str, object]](f"mongodb://{place.partition('?')[0]}") as client,
        pytest.raises(OperationFailure, match="authentication"),
    ):
        client.list_database_names()
