"""A canary for every secret, and a search for them wherever a running system leaves traces.

The system reads a feed, publishes over HTTP, posts to a webhook, fails at each of the three, and
loses a worker, so that the texts of failures are among the traces.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import httpx
import pytest
from git import Repo
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import AuthenticationError

from shared.records import DeadLetter, Publication
from shared.store import Store
from tests.e2e.conftest import wait_for
from tests.faults.push_hooks import arm
from tests.faults.receiver import SECRET_PATH
from tests.faults.world import SEASON_HOURS, History, World, running
from tests.integration.publisher.smart_http import serving

USER = "publisher"
PLANTED = {
    "DATA_GOV_IN_API_KEY": "579b464db66ec23bdd00canaryfeed",
    "GITHUB_USERNAME": USER,
    "GITHUB_TOKEN": "ghp_canaryOfTheModelRepository",
    "EVENT_KEY": "canary-of-the-event-key-of-messages",
    "MODEL_SIGNING_KEY": "canary-of-the-signing-key-of-models",
}
HISTORY = History(seed=5, hours=3 * SEASON_HOURS)
ROOT = Path(__file__).parents[2]


@dataclass
class Watch(threading.Thread):
    """Looks at the arguments of all processes, over and over."""

    canaries: dict[str, list[bytes]]
    found: set[str] = field(default_factory=set)
    seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if line not in self.seen:
                    self.seen.add(line)
                    self.found |= {f"{name}: {path}" for name in holding(line, self.canaries)}


def spellings(secret: str) -> list[bytes]:
    """A secret as it is, in an address, and in the header of basic authentication."""
    plain = secret.encode()
    login = base64.b64encode(f"{USER}:{secret}".encode())
    return [
        plain,
        urllib.parse.quote(secret, safe="").encode(),
        base64.b64encode(plain)[:-4],
        login,
    ]


def holding(content: bytes, canaries: dict[str, list[bytes]]) -> list[str]:
    """The secrets whose canary is in the content."""
    return [
        name for name, words in canaries.items() if any(word in content for word in words if word)
    ]


@dataclass
class Run:
    """A system that has run through successes and failures, and what was planted in it."""

    world: World
    canaries: dict[str, list[bytes]]
    watch: Watch

    def search(self, where: str, content: bytes) -> list[str]:
        return [f"{name} in {where}" for name in holding(content, self.canaries)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = tmp_path_factory.mktemp("canary") / "home"
    home.mkdir()
    repository = Repo.init(home / "models.git", bare=True, initial_branch="main")
    with repository.config_writer() as configuration:
        configuration.set_value("http", "receivepack", "true")
    with serving(home, f"{USER}:{PLANTED['GITHUB_TOKEN']}") as host:
        settings = PLANTED | {"MODEL_REPOSITORY": f"{host.url}/models.git", "MAX_ATTEMPTS": "2"}
        with running(home, HISTORY, settings) as world:
            canaries = planted(world)
            watch = Watch(canaries)
            watch.start()
            live_through(world)
            yield Run(world, canaries, watch)
            watch.over.set()


def planted(world: World) -> dict[str, list[bytes]]:
    own = {
        "the broker's password": world.home / "valkey" / "password",
        "the store's password": world.home / "mongo" / "password",
        "Flower's password": world.home / "secrets" / "flower_password",
        **{f"the broker's {path.name}": path for path in world.home.glob("valkey/password_*")},
        **{f"the store's {path.name}": path for path in world.home.glob("mongo/password_*")},
    }
    secrets = {name: path.read_text().strip() for name, path in own.items()}
    secrets |= {name: value for name, value in PLANTED.items() if name != "GITHUB_USERNAME"}
    secrets["DISCORD_WEBHOOK_URL"] = SECRET_PATH.rpartition("/")[2]
    return {name: spellings(secret) for name, secret in secrets.items()}


def live_through(world: World) -> None:
    """A first model and its publication, then every failure that names an address or a key."""
    with world.store() as store:
        assert wait_for(lambda: count(store, Publication) == 1, 60), world.process("publisher").log
        world.feed.fail("403", 1)
        assert wait_for(lambda: letters(store, "ingest"), 30)
        arm(world.repository, "rejects")
        for way in ("500", "html", "cut off"):
            world.feed.fail(way, 1)
        world.receiver.fail("404", 1)
        for hour in (SEASON_HOURS, SEASON_HOURS + 1):
            world.feed.show(hour)
            assert wait_for(lambda: letters(store, "publisher") or world.batches() > 1, 60)
        assert wait_for(lambda: letters(store, "publisher"), 60)
        assert wait_for(lambda: letters(store, "notifier"), 60)
    os.kill(world.process("valkey").pid or 0, signal.SIGKILL)
    assert wait_for(lambda: "onnect" in world.process("drift").last_words(), 30)
    restarted = datetime.now(UTC)
    for stage in ("publisher", "notifier", "ingest"):
        assert wait_for(lambda s=stage: lives(world, s, restarted), 60), stage  # type: ignore[misc]
        crash(world, stage)
        assert wait_for(lambda s=stage: "SIGABRT" in log_of(world, s), 30), stage  # type: ignore[misc]


def lives(world: World, stage: str, since: datetime) -> bool:
    world.supervise()
    alive = world.last_alive(stage)
    return alive is not None and alive > since


def log_of(world: World, stage: str) -> str:
    return world.process(stage).log.read_text(errors="replace")


def count(store: Store, kind: Any) -> int:
    return int(store.collection(kind).count_documents({}))


def letters(store: Store, stage: str) -> int:
    return int(store.collection(DeadLetter).count_documents({"stage": stage}))


def crash(world: World, stage: str) -> None:
    """Abort a stage's child, as a bug in a library of C does."""
    pid = world.process(stage).pid or 0
    assert wait_for(lambda: children(pid), 30), stage
    os.kill(children(pid)[0], signal.SIGABRT)


def children(pid: int) -> list[int]:
    """The children of a process, whichever of its threads has made them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def test_nothing_is_in_an_argument_list(run: Run) -> None:
    assert len(run.watch.seen) > 20
    assert run.watch.found == set()


def test_nothing_is_in_a_file_but_those_that_hold_the_secrets(run: Run) -> None:
    """Logs, the clones of the repository, the broker's file, what a crash leaves."""
    home, found, looked_at = run.world.home, [], 0
    theirs = {*home.glob("valkey/password*"), home / "valkey" / "valkey.conf"}
    theirs |= {*home.glob("mongo/password*"), *(home / "secrets").iterdir()}
    for path in home.rglob("*"):
        if path.is_file() and path not in theirs:
            looked_at += 1
            found += run.search(str(path), path.read_bytes())
    assert looked_at > 50
    assert found == []
    assert {path.stat().st_mode & 0o077 for path in theirs} == {0}


def test_a_crash_leaves_no_picture_of_the_memory(run: Run) -> None:
    for part in ("ingest", "publisher", "notifier", "beat", "flower", "mongod", "valkey"):
        limits = Path(f"/proc/{run.world.process(part).pid}/limits").read_text()
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"], part


def test_nothing_is_in_the_store(run: Run) -> None:
    found, documents = [], 0
    with run.world.store() as store:
        client = store.database.client
        for database in client.list_database_names():
            if database in ("admin", "config", "local"):  # MongoDB's own
                continue
            for name in client[database].list_collection_names():
                for document in client[database][name].find():
                    documents += 1
                    found += run.search(f"{database}.{name}", bson.encode(document))
    assert documents > 20
    assert found == []


def test_nothing_is_in_the_broker(run: Run) -> None:
    found = []
    with run.world.broker() as broker:
        keys = list(broker.scan_iter(count=1000))
        read = {
            b"string": broker.get,
            b"list": lambda key: broker.lrange(key, 0, -1),
            b"hash": broker.hgetall,
            b"set": broker.smembers,
            b"zset": lambda key: broker.zrange(key, 0, -1, withscores=True),
        }
        for key in keys:
            content = read[broker.type(key)](key)
            found += run.search(key.decode(), repr((key, content)).encode())
    assert keys
    assert found == []


def test_nothing_is_in_the_commits(run: Run) -> None:
    git = ["git", "-C", str(run.world.repository)]
    shown = subprocess.run(
        [*git, "log", "-p", "--all", "--text"], capture_output=True, check=True
    ).stdout
    assert b"Trimtab-Model:" in shown
    assert run.search("the commits", shown) == []


def test_nothing_is_in_flower(run: Run) -> None:
    """Its pages and its API, to one who has logged in."""
    password = (run.world.home / "secrets" / "flower_password").read_text().strip()
    base = f"http://127.0.0.1:{run.world.system.flower_port}"
    pages = ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks"]
    pages += ["/api/queues/length", "/api/task/types", "/metrics", "/healthcheck"]
    with httpx.Client(base_url=base, auth=("trimtab", password), timeout=30) as client:
        known = "/workers?json=1"
        assert wait_for(lambda: len(client.get(known).json()["data"]) >= 5, 60), "workers"
        assert wait_for(lambda: client.get("/api/tasks").json(), 30), "tasks"
        tasks = list(client.get("/api/tasks").json())[:50]
        pages.append(known)
        pages += [f"{place}/{task}" for task in tasks for place in ("/task", "/api/task/info")]
        answers = {page: client.get(page) for page in pages}
    assert {each.status_code for each in answers.values()} == {200}
    assert [
        found for page, answer in answers.items() for found in run.search(page, answer.content)
    ] == []


def test_flower_wants_a_login(run: Run) -> None:
    base = f"http://127.0.0.1:{run.world.system.flower_port}"
    for page in ("/", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/queues/length"):
        assert httpx.get(base + page).status_code == 401, page
        assert httpx.get(base + page, auth=("trimtab", "guess")).status_code == 401, page


def test_the_store_has_no_port_and_its_socket_is_its_owners(run: Run) -> None:
    assert listening(run.world.process("mongod").pid or 0) == set()
    assert (run.world.home / "mongo" / "mongodb.sock").stat().st_mode & 0o777 == 0o600
    log = (run.world.home / "mongo" / "mongod.log").read_text()
    assert log.count('"msg":"Listening on"') == 1  # and none in /tmp, as is its custom


def test_every_port_is_on_loopback_alone(run: Run) -> None:
    """The ports of a family of processes, as the kernel has them."""
    for part in ("valkey", "flower"):
        pid = run.world.process(part).pid
        addresses = listening(pid or 0)
        assert addresses, part
        assert addresses <= {"0100007F", "00000000000000000000000001000000"}, part


def listening(pid: int) -> set[str]:
    """The local addresses of a process's listening sockets, in the kernel's hexadecimal."""
    sockets = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            sockets.add(str(path.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def test_servers_want_their_passwords(run: Run) -> None:
    redis_url = (run.world.home / "secrets" / "redis_url_cli").read_text()
    mongodb_uri = (run.world.home / "secrets" / "mongodb_uri_cli").read_text()
    place = redis_url.partition("@")[2].partition("/")[0]
    with Redis.from_url(f"redis://{place}") as broker, pytest.raises(AuthenticationError):
        broker.keys()
    place = mongodb_uri.partition("@")[2].partition("/")[0]
    with (
        MongoClient[dict[str, Any]](f"mongodb://{place}") as client,
        pytest.raises(OperationFailure, match="authentication"),
    ):
        client.list_database_names()


@pytest.mark.parametrize(
    "command",
    [
        ("status", "--json"),
        ("history", "--json"),
        ("history", "show", "model:1", "--json"),
        ("dead-letters", "list", "--json"),
    ],
    ids=" ".join,
)
def test_nothing_is_in_what_the_commands_print(run: Run, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", *command, "--home", str(run.world.home)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout
    assert run.search(" ".join(command), done.stdout + done.stderr) == []


def test_the_search_finds_what_is_there(run: Run) -> None:
    """A search that finds nothing anywhere would find nothing here either."""
    for name, words in run.canaries.items():
        for word in words:
            assert run.search("a place", json.dumps("in the middle").encode() + word) == [
                f"{name} in a place"
            ]
