"""Broker and store over TLS, with certificates made here: verified, or nothing is said."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from pymongo import MongoClient
from redis import Redis

from services.cli.embedded.process import Process, free_port, wait_until_listening
from services.cli.embedded.servers import Valkey, mongod_binary
from shared.events import WorkFailed, dump_event, effect_id, first_event_fields
from tests.e2e.conftest import wait_for
from tests.security.foreign_messages import message
from tests.worker_processes import started

ALARM = WorkFailed(
    **first_event_fields("air_quality", "over TLS"),
    stage="drift",
    failed_event="BatchIngested",
    dead_letter="drift:1",
    reason="a test",
)


class TlsDoor(threading.Thread):
    """Speaks TLS on one port and passes what it hears to another, as a broker's proxy does."""

    def __init__(self, context: ssl.SSLContext, to_port: int) -> None:
        super().__init__(daemon=True)
        self._context = context
        self._to = ("127.0.0.1", to_port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.let_in = 0

    def run(self) -> None:
        while True:
            with suppress(OSError):
                outside, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(outside,), daemon=True).start()

    def _serve(self, outside: socket.socket) -> None:
        with suppress(OSError):
            secured = self._context.wrap_socket(outside, server_side=True)
            self.let_in += 1
            inside = socket.create_connection(self._to)
            threading.Thread(target=_copy, args=(inside, secured), daemon=True).start()
            _copy(secured, inside)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError), source, target:
        while data := source.recv(65_536):
            target.sendall(data)


@dataclass(frozen=True)
class Secured:
    """A broker and a store that speak TLS alone, and the file of who vouches for them."""

    redis: str
    mongodb: str
    door: TlsDoor
    authority: Path
    stranger: Path
    """The file of an authority that vouches for neither."""

    def settings(self, authority: Path) -> dict[str, str]:
        return {
            "REDIS_URL": f"{self.redis}?ssl_ca_certs={authority}",
            "MONGODB_URI": f"{self.mongodb}&tlsCAFile={authority}",
        }


@pytest.fixture(scope="module")
def secured(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    ours = authority.issue_cert("localhost")
    ours.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.configure_cert(context)
    door = TlsDoor(context, valkey.port)
    door.start()
    mongod = start_mongod(folder, free_port())
    password = valkey.url.partition("//:")[2].partition("@")[0]
    yield Secured(
        redis=f"rediss://:{password}@localhost:{door.port}/0",
        mongodb=f"mongodb://localhost:{mongod[1]}/?tls=true",
        door=door,
        authority=folder / "authority.pem",
        stranger=folder / "stranger.pem",
    )
    mongod[0].stop()


def start_mongod(folder: Path, port: int) -> tuple[Process, int]:
    (folder / "data").mkdir()
    tls = ("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(folder / "server.pem"))
    where = ("--dbpath", str(folder / "data"), "--bind_ip", "127.0.0.1", "--nounixsocket")
    command = [mongod_binary(), "--port", str(port), *where, *tls]
    process = Process("mongod", command, folder / "mongod.log")
    process.start()
    wait_until_listening(process, port)
    return process, port


def test_a_worker_does_its_work_over_tls(secured: Secured, tmp_path: Path) -> None:
    worker = started("notifier", secured.settings(secured.authority), tmp_path / "log")
    try:
        uri = f"{secured.mongodb}&tlsCAFile={secured.authority}"
        with Redis.from_url(f"{secured.redis}?ssl_ca_certs={secured.authority}") as broker:
            broker.lpush(
                "drift_detection:notifier", message("notifier", ALARM.type, dump_event(ALARM))
            )
        with MongoClient[dict[str, object]](uri) as client:
            told = client["drift_detection"]["notifications"]
            effect = effect_id("notifier", ALARM.event_id)
            assert wait_for(lambda: told.find_one({"_id": effect}), 30), worker.last_words()
    finally:
        worker.stop()


def test_a_broker_that_nobody_trusted_vouches_for_is_told_nothing(
    secured: Secured, tmp_path: Path
) -> None:
    before = secured.door.let_in
    worker = started("notifier", secured.settings(secured.stranger), tmp_path / "log")
    try:
        said = wait_for(lambda: "certificate verify failed" in worker.last_words(99), 30)
        assert said, worker.last_words()
        assert worker.exit_status is None, "it tries again: certificates are also renewed late"
    finally:
        worker.stop()
    assert secured.door.let_in == before


def test_a_store_that_nobody_trusted_vouches_for_is_told_nothing(
    secured: Secured, valkey: Valkey, tmp_path: Path
) -> None:
    settings = secured.settings(secured.stranger) | {"REDIS_URL": valkey.url}
    worker = started("notifier", settings, tmp_path / "log")
    try:
        with Redis.from_url(valkey.url) as broker:
            broker.lpush(
                "drift_detection:notifier", message("notifier", ALARM.type, dump_event(ALARM))
            )
        said = wait_for(lambda: "certificate verify failed" in worker.last_words(99), 30)
        assert said, worker.last_words()
    finally:
        worker.stop()


def test_the_name_in_the_certificate_has_to_be_the_brokers(
    secured: Secured, tmp_path: Path
) -> None:
    settings = secured.settings(secured.authority)
    settings["REDIS_URL"] = settings["REDIS_URL"].replace("@localhost", "@127.0.0.1")
    worker = started("notifier", settings, tmp_path / "log")
    try:
        said = wait_for(lambda: "IP address mismatch" in worker.last_words(99), 30)
        assert said, worker.last_words()
    finally:
        worker.stop()


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=false"])
def test_a_worker_does_not_start_if_it_is_to_trust_anybody(
    secured: Secured, option: str, tmp_path: Path
) -> None:
    settings = secured.settings(secured.authority)
    settings["REDIS_URL"] += f"&{option}"
    worker = started("notifier", settings, tmp_path / "log")
    assert wait_for(lambda: worker.exit_status, 20)
    assert "REDIS_URL" in worker.last_words()
    assert "anybody could pose as the broker" in worker.last_words()
    assert secured.redis not in worker.last_words()
