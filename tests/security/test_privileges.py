"""Who holds one service's passwords can do what that service does, and nothing else.

All on real servers, with the users that `trimtab up` makes.
"""

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from bson import ObjectId
from gridfs import GridFS
from kombu import Connection
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import worker_command
from services.cli.ingestion import take_in_file
from shared.audit import faults
from shared.celery_app import celery_app
from shared.events import (
    NO_PIPELINE,
    STAGES,
    IngestionDue,
    Stage,
    WorkFailed,
    deterministic_id,
    effect_id,
    first_event_fields,
)
from shared.installation import claim
from shared.refusals import refusal
from shared.retention import remove_unnamed_blobs
from shared.rights import BROKER_USERS, STORE_USERS, Service, store_rights
from shared.settings import Settings, read_settings
from shared.stage import Resources, StageRuntime
from shared.store import BLOBS, COLLECTIONS, PICTURES
from shared.sweep import SWEEP, unsettled
from shared.transport import unacknowledged
from shared.watch import PublicationWatch, forget_watch, keep_watch, watch_of
from tests.air_quality_rows import raw_rows
from tests.asking import ada
from tests.e2e.conftest import wait_for
from tests.integration.plain_records import dead_letter
from tests.keys import EVENT_KEY, OPERATORS
from tests.worker_processes import ROOT, environment, started

P = "drift_detection:"
"""What every key of the system begins with."""

OTHER: dict[Stage, Stage] = {
    "ingest": "trainer",
    "drift": "publisher",
    "trainer": "ingest",
    "publisher": "drift",
    "notifier": "trainer",
}
"""A stage that makes nothing for the other."""


@pytest.fixture
def users(mongo: Mongo, resources: Resources) -> Iterator[str]:
    """The store's users with their rights in this test's database, whose name it gives."""
    mongo.make_users(resources.settings.mongodb_database)
    yield resources.settings.mongodb_database
    mongo.make_users("drift_detection")


def given(service: Service, valkey: Valkey, mongo: Mongo, database: str) -> dict[str, str]:
    """The settings of a service's process."""
    settings = {
        "REDIS_URL": valkey.url_of(service),
        "REDIS_KEY_PREFIX": P,
        "MODEL_SIGNING_KEY": "a signing key for tests only",
        "MODEL_REPOSITORY": "models.git",
        "MONGODB_DATABASE": database,
        "SWEEP_SECONDS": "1",
        "RETRY_BASE_SECONDS": "0.01",
    }
    if service in STORE_USERS:
        settings["MONGODB_URI"] = mongo.uri_of(service)
    return settings


def settings_of(service: Service, valkey: Valkey, mongo: Mongo, database: str) -> Settings:
    settings = given(service, valkey, mongo, database)
    return read_settings(
        event_key=EVENT_KEY,
        operators=OPERATORS,
        **{name.lower(): text for name, text in settings.items()},
    )


@pytest.fixture
def attached(users: str, valkey: Valkey, mongo: Mongo) -> Iterator[Callable[[Service], Resources]]:
    """A service's connections to the servers, as its own users."""
    made: list[Resources] = []

    def attach(service: Service) -> Resources:
        settings = settings_of(service, valkey, mongo, users)
        made.append(Resources.attach(settings, celery_app(lambda: settings)))
        return made[-1]

    yield attach
    for each in made:
        each.close()


def refused_to(user: str, valkey: Valkey) -> set[str]:
    """What the broker has refused to a user, but for the look for keys of an early version."""
    with Redis.from_url(valkey.url, decode_responses=True) as admin:
        log: Any = admin.acl_log()
        return {
            entry["object"]
            for entry in log
            if entry["username"] == user and entry["object"] != "trimtab:heartbeats"
        }


# What each needs works.


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_works_with_its_own_users(
    stage: Stage, users: str, valkey: Valkey, mongo: Mongo, resources: Resources, tmp_path: Path
) -> None:
    with Redis.from_url(valkey.url, decode_responses=True) as admin:
        admin.acl_log_reset()
        log = tmp_path / "log"
        process = started(stage, given(stage, valkey, mongo, users), log)
        try:
            swept = wait_for(lambda: admin.hexists(f"{P}heartbeats", f"{SWEEP}@{stage}"), 60)
            assert swept, process.last_words(40)
            admin.lpush(f"{P}{stage}", "hello")  # becomes a dead letter, of which people hear
            letters = resources.store.database["dead_letters"]
            assert wait_for(lambda: letters.find_one({"stage": stage}) is not None, 60)
        finally:
            process.stop()
        assert not admin.exists(f"{P}unacked", f"{P}unacked_index", f"{P}_kombu.binding.{stage}")
    assert refused_to(stage, valkey) == set()
    assert "NOPERM" not in log.read_text()
    assert "may not" not in log.read_text()


def test_an_event_is_handled_from_end_to_end(
    users: str,
    valkey: Valkey,
    mongo: Mongo,
    attached: Callable[[Service], Resources],
    tmp_path: Path,
) -> None:
    """A command of a person sends it, and the notifier's worker handles it."""
    cli = attached("cli")
    failed = WorkFailed(
        event_id=deterministic_id("failed"),
        trace_id=deterministic_id("failed"),
        pipeline=NO_PIPELINE,
        occurred_at=datetime.now(UTC),
        stage="publisher",
        failed_event="ModelPromoted",
        dead_letter="publisher:x",
        reason="the repository refuses the push",
    )
    cli.broker.send(failed)
    process = started("notifier", given("notifier", valkey, mongo, users), tmp_path / "log")
    try:
        effect = effect_id("notifier", failed.event_id)
        assert wait_for(lambda: cli.store.is_settled(effect, "WorkFailed"), 60)
    finally:
        process.stop()
    assert unsettled(cli).events == []


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_dead_worker_had_in_hand_comes_back_to_its_queue(
    stage: Stage, users: str, valkey: Valkey, mongo: Mongo
) -> None:
    settings = settings_of(stage, valkey, mongo, users)
    conf = celery_app(lambda: settings).conf
    options = conf.broker_transport_options | unacknowledged(stage)
    with Redis.from_url(valkey.url) as admin:
        admin.zadd(f"{P}unacked_index.{stage}", {"tag": 1})
        message = f'[{{"headers": {{}}, "properties": {{"priority": 0}}}}, "", "{stage}"]'
        admin.hset(f"{P}unacked.{stage}", "tag", message)
        with Connection(conf.broker_url, transport_options=options) as connection:
            connection.default_channel.qos.restore_visible(num=10, interval=1)
        assert admin.llen(f"{P}{stage}") == 1
        assert not admin.exists(f"{P}unacked.{stage}", f"{P}unacked_mutex.{stage}")
        admin.delete(f"{P}{stage}")


def test_the_exporter_and_the_commands_read_everything(
    attached: Callable[[Service], Resources],
) -> None:
    for service in ("exporter", "cli"):
        resources = attached(service)  # type: ignore[arg-type]
        assert set(resources.broker.queue_lengths()) == set(STAGES)
        assert resources.broker.oldest_event("drift") is None
        assert resources.broker.last_alive() is not None
        assert resources.work.all() == []
        for kind in COLLECTIONS:
            assert list(resources.store.find(kind, {})) == []


def test_each_keeps_the_bytes_that_it_has_to(
    attached: Callable[[Service], Resources],
) -> None:
    """The first ones too, with which GridFS makes its indexes."""
    cli, ingests, drift = attached("cli"), attached("ingest"), attached("drift")
    cli.store.put_blob(b"rows of a reference")
    for stage in STAGES:
        attached(stage).store.prepare(stage, 30)
    rows = ingests.store.put_blob(b"rows")
    picture = drift.store.put_picture(b"a picture")
    for each in (attached("trainer"), drift):
        assert each.store.blob(each.store.put_blob(b"a model")) == b"a model"
    assert attached("publisher").store.blob(rows) == b"rows"
    assert attached("notifier").store.picture(picture) == b"a picture"
    remove_unnamed_blobs(ingests.store, 30)
    ingests.broker.forget_workers(silent_since=datetime.now(UTC))
    watch = PublicationWatch(
        pipeline="air_quality", checked_at=datetime.now(UTC), model_version=1, tag="air_quality/v1"
    )
    keep_watch(attached("publisher").store, watch)
    assert watch_of(attached("exporter").store, "air_quality")
    assert watch_of(cli.store, "air_quality")
    forget_watch(attached("publisher").store, "air_quality")


def test_the_commands_take_in_a_file_and_upgrade_a_store(
    attached: Callable[[Service], Resources], tmp_path: Path
) -> None:
    cli = attached("cli")
    file = tmp_path / "rows.csv"
    pd.DataFrame(raw_rows(20)).to_csv(file, index=False)
    batch = take_in_file(file, ada(cli), "air_quality", "a test", as_reference=True)
    assert cli.broker.queue_lengths()["drift"] == 1
    cli.work.reopen("trainer:x", "trainer", _due())
    cli.store.collection(type(batch)).update_one({"_id": batch.id}, {"$unset": {"mac": ""}})
    assert cli.store.without_mac() == {"batches": 1}
    assert cli.store.authenticate_all() == 1
    cli.store.make_installation()
    cli.store.require_authenticated()
    assert cli.broker.drop_all() == 1
    claim(cli.store.make_installation(), cli.broker, cli.settings)


def test_every_collection_has_somebody_who_writes_it() -> None:
    for collection in COLLECTIONS.values():
        writers = {each for each in STAGES if "insert" in store_rights(each).get(collection, ())}
        expected = {"dead_letters": set(STAGES), "audit_log": set[Stage]()}.get(collection)
        assert len(writers) == 1 if expected is None else writers == expected, collection


# What the others may do is refused.

Attack = tuple[Any, ...]


def attacks_on_the_broker() -> Iterator[tuple[Service, Attack]]:
    every: list[Attack] = [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("ACL", "LIST"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("SHUTDOWN", "NOSAVE"),
        ("MONITOR",),
        ("SET", "somebody", "else"),
        ("GET", "somebody"),
        ("LPUSH", "somebody", "else"),
        ("PUBLISH", f"{P}/0.celery.pidbox", "1"),
        ("PUBLISH", "anything", "1"),
        ("SUBSCRIBE", f"{P}/0.celery.pidbox"),
        ("PSUBSCRIBE", "*"),
        ("HGETALL", f"{P}unacked"),
        ("DEL", f"{P}heartbeats"),
        ("DEL", f"{P}installation"),
    ]
    for service in BROKER_USERS:
        yield from ((service, attack) for attack in every)
        if service != "keda":  # whose scripts may do what it may do itself
            yield service, ("EVAL", "return 1", "0")
    for stage, other in OTHER.items():
        yield from (
            (stage, attack)
            for attack in (
                ("LPUSH", f"{P}{other}", "a message"),
                ("RPUSH", f"{P}{other}", "a message"),
                ("BRPOP", f"{P}{other}", "1"),
                ("LRANGE", f"{P}{other}", "0", "-1"),
                ("DEL", f"{P}{other}"),
                ("HGETALL", f"{P}unacked.{other}"),
                ("HGET", f"{P}unacked.{other}", "tag"),
                ("ZADD", f"{P}unacked_index.{other}", "1", "tag"),
                ("DEL", f"{P}{stage}"),
            )
        )
    for service in ("beat", "flower", "exporter", "keda"):
        yield from (
            (service, attack)  # type: ignore[misc]
            for attack in (
                ("LPUSH", f"{P}trainer", "a message"),
                ("LPUSH", f"{P}drift", "a message"),
                ("BRPOP", f"{P}drift", "1"),
                ("PUBLISH", f"{P}/0.celeryev/worker.heartbeat", "{}"),
            )
        )
    for service in ("flower", "keda"):
        yield from (
            (service, ("LPUSH", f"{P}{stage}", "a message"))  # type: ignore[misc]
            for stage in STAGES
        )
        yield service, ("LRANGE", f"{P}drift", "0", "-1")  # type: ignore[misc]
        yield service, ("HGETALL", f"{P}heartbeats")  # type: ignore[misc]
        yield service, ("HSET", f"{P}heartbeats", "beat", "now")  # type: ignore[misc]
    yield "cli", ("BRPOP", f"{P}drift", "1")
    yield "cli", ("PUBLISH", f"{P}/0.celeryev/worker.heartbeat", "{}")
    yield "keda", ("EVAL", "return redis.call('get', 'somebody')", "1", f"{P}drift")


def test_nobody_may_do_on_the_broker_what_is_not_theirs(valkey: Valkey) -> None:
    allowed = []
    for service, attack in attacks_on_the_broker():
        with Redis.from_url(valkey.url_of(service), socket_timeout=5) as attacker:
            try:
                attacker.execute_command(*attack)
            except NoPermissionError:
                continue
            except RedisError as error:  # a script's refusal comes from within it
                if "ermission" in str(error) or "NOPERM" in str(error):
                    continue
            allowed.append((service, attack))
    assert allowed == []


Deed = Callable[[Database[Any]], object]


def insert(collection: str) -> Deed:
    return lambda database: database[collection].insert_one({"_id": "drift:forged"})


def update(collection: str) -> Deed:
    return lambda database: database[collection].update_many({}, {"$set": {"forged": True}})


def remove(collection: str) -> Deed:
    return lambda database: database[collection].delete_many({})


AGAINST_THE_SERVER: list[Deed] = [
    lambda database: database.client.drop_database(database.name),
    lambda database: database.command("dbStats"),
    lambda database: database.command("createUser", "me", pwd="x", roles=[]),
    lambda database: database.client["admin"].command("usersInfo", 1),
    lambda database: database.client["admin"].command("getParameter", "*"),
    lambda database: database.client["admin"]["other"].insert_one({}),
    lambda database: database.client["elsewhere"]["batches"].find_one(),
    lambda database: database["models"].drop(),
    lambda database: database["anything"].insert_one({}),
]


def attacks_on_the_store() -> Iterator[tuple[Service, str, Deed]]:
    for service in STORE_USERS:
        yield from ((service, "the server", deed) for deed in AGAINST_THE_SERVER)
        yield from ((service, f"remove {name}", remove(name)) for name in COLLECTIONS.values())
    yield from _forged_records()
    yield from _bytes()
    yield "exporter", "remove work", remove("work")
    yield "cli", "remove work", remove("work")
    yield "trainer", "expire", lambda database: database.command("collMod", "dead_letters")
    yield (
        "drift",
        "expire",
        lambda database: database["work"].create_index("updated_at", expireAfterSeconds=0),
    )


def _forged_records() -> Iterator[tuple[Service, str, Deed]]:
    """What a stage writes is written here a second time, so that the description is checked too."""
    written: dict[Service, set[str]] = {
        "ingest": {"batches"},
        "drift": {"drift_reports", "chunk_counts", "references", "reference_data_history"},
        "trainer": {"models"},
        "publisher": {"publications", "alterations"},
        "notifier": {"notifications"},
        "exporter": set(),
        "cli": {"batches", "audit_log"},
    }
    for service, own in written.items():
        for collection in {*COLLECTIONS.values(), "deliveries"} - own - {"dead_letters"}:
            if (service, collection) != ("notifier", "deliveries"):
                yield service, f"insert {collection}", insert(collection)
                if service != "cli":  # `trimtab upgrade` gives records their MACs
                    yield service, f"update {collection}", update(collection)
    yield "exporter", "insert a letter", insert("dead_letters")
    yield "cli", "insert a letter", insert("dead_letters")
    yield "cli", "update audit_log", update("audit_log")
    yield "cli", "remove audit_log", remove("audit_log")


def _bytes() -> Iterator[tuple[Service, str, Deed]]:
    yield "notifier", "read blobs", lambda database: database[f"{BLOBS}.files"].find_one()
    yield "notifier", "read blobs", lambda database: database[f"{BLOBS}.chunks"].find_one()
    yield "notifier", "read blobs", lambda database: GridFS(database, BLOBS).get(ObjectId())
    yield "notifier", "put a picture", insert(f"{PICTURES}.chunks")
    yield "publisher", "put a blob", insert(f"{BLOBS}.chunks")
    stages: tuple[Service, ...] = ("drift", "trainer", "publisher")
    for stage in stages:
        yield stage, "remove blobs", remove(f"{BLOBS}.chunks")
        yield stage, "alter blobs", update(f"{BLOBS}.chunks")


def test_nobody_may_do_in_the_store_what_is_not_theirs(users: str, mongo: Mongo) -> None:
    allowed = []
    clients: dict[str, MongoClient[Any]] = {
        service: MongoClient(mongo.uri_of(service)) for service in STORE_USERS
    }
    for service, what, attack in attacks_on_the_store():
        try:
            attack(clients[service][users])
        except OperationFailure as error:
            if error.code == 13:
                continue
        allowed.append((service, what))
    for client in clients.values():
        client.close()
    assert allowed == []


def test_without_a_login_nothing_is_answered(valkey: Valkey, mongo: Mongo) -> None:
    with Redis.from_url(f"redis://127.0.0.1:{valkey.port}") as nobody, pytest.raises(RedisError):
        nobody.llen(f"{P}drift")
    with MongoClient[Any](mongo._address("")) as nobody_else:
        with pytest.raises(OperationFailure):
            nobody_else["drift_detection"]["models"].find_one()
        with pytest.raises(OperationFailure):
            nobody_else["admin"].command("createUser", "me", pwd="x", roles=["root"])


def test_every_user_of_a_service_is_made(valkey: Valkey, mongo: Mongo) -> None:
    assert set(get_args(Service)) == set(BROKER_USERS)
    with Redis.from_url(valkey.url, decode_responses=True) as admin:
        assert set(admin.acl_users()) == {"default", *BROKER_USERS}
    with MongoClient[Any](mongo.uri) as client:
        made = client["admin"].command("usersInfo")["users"]
    assert {user["user"] for user in made} == {"admin", *STORE_USERS}


# A right that is missing is said.


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("REDIS_URL", "the broker's user flower may not SET drift_detection:installation"),
        ("MONGODB_URI", "the store's user exporter may not"),
    ],
)
def test_a_worker_without_a_right_that_it_needs_says_so_and_ends(
    server: str, says: str, users: str, valkey: Valkey, mongo: Mongo
) -> None:
    settings = given("drift", valkey, mongo, users)
    another = {"REDIS_URL": valkey.url_of("flower"), "MONGODB_URI": mongo.uri_of("exporter")}
    done = subprocess.run(
        worker_command("drift"),
        cwd=ROOT,
        env=environment(**settings | {server: another[server]}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert says in done.stderr
    assert "The users of the servers" in done.stderr


def test_a_handler_without_a_right_becomes_a_dead_letter_that_says_so(
    resources: Resources, users: str, mongo: Mongo
) -> None:
    slot = datetime(2026, 1, 1, tzinfo=UTC)
    event = IngestionDue(**first_event_fields("air_quality", "slot"), slot=slot)

    def writes_a_model(*_: object) -> Any:
        with MongoClient[Any](mongo.uri_of("notifier")) as client:
            client[users]["models"].insert_one({"secret": "looking"})

    runtime = StageRuntime("ingest", resources)
    for _ in range(3):
        runtime.handle(event.model_dump(mode="json"), writes_a_model)
        resources.work._documents.update_many({}, {"$unset": {"next_attempt_at": ""}})
    (letter,) = resources.store.database["dead_letters"].find()
    assert f"may not insert on {users}.models" in letter["reason"]
    assert "looking" not in letter["reason"]


def test_what_the_broker_refuses_is_told_with_its_user(
    attached: Callable[[Service], Resources],
) -> None:
    exporter = attached("exporter")
    with pytest.raises(NoPermissionError) as raised:
        exporter.broker.drop_all()
    said = "the broker's user exporter may not DEL drift_detection:ingest"
    assert said in (refusal(raised.value, exporter.settings) or "")
    with pytest.raises(Exception) as raised_by_kombu:  # noqa: PT011 - Kombu's own
        exporter.broker.send_to("drift", _due())
    said = "the broker's user exporter may not LPUSH drift"
    assert said in (refusal(raised_by_kombu.value, exporter.settings) or "")


def test_a_letter_is_replayed_by_the_user_of_the_commands(
    attached: Callable[[Service], Resources],
) -> None:
    cli, drift = attached("cli"), attached("drift")
    letter = dead_letter("drift:x")
    drift.store.bury(letter)
    cli.work.reopen(letter.id, "drift", _due())
    entry = ada(cli).ask("replay", "air_quality", letter.trace_id, {"letter": letter.id}, "a test")
    assert cli.store.mark_letter(letter, "replayed", entry.number)
    assert list(faults(drift.store, drift.settings)) == []


def _due() -> IngestionDue:
    slot = datetime(2026, 1, 1, tzinfo=UTC)
    return IngestionDue(**first_event_fields("air_quality", "slot"), slot=slot)
