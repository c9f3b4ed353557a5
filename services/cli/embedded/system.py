"""The embedded system: every part as a process of its own, wired by nothing but addresses.

A part whose address is set in the environment (REDIS_URL, MONGODB_URI, FEED_URL, …) is not started:
the one at that address is used.
"""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from typing import Final

from git import Repo

import services.flower
from services.cli.embedded.addresses import connected, environment_file, is_set, settings_of
from services.cli.embedded.process import (
    Process,
    StartFailed,
    claim_port,
    free_port,
    wait_until_listening,
)
from services.cli.embedded.servers import Mongo, Valkey, secret_file, write_private
from shared.broker import Broker
from shared.celery_app import celery_app
from shared.events import STAGES
from shared.installation import claim
from shared.operators import make_key
from shared.rights import BROKER_USERS, STORE_USERS, Service
from shared.settings import Settings, read_settings
from shared.stage import BROKER_ERRORS
from shared.status import PARTS

FLOWER_PORT: Final = 5555
FLOWER_USER: Final = "trimtab"
SIMULATED_FEED: Final = ("simulate",)
_FLOWER_CONFIGURATION: Final = Path(services.flower.__file__).parent / "configuration.py"
_START_SECONDS: Final = 60.0
_CONCURRENCY: Final = {"ingest": 2}
_PLACES: Final = ("MONGODB_DATABASE", "REDIS_KEY_PREFIX")
"""Where in the servers the records and messages are; the commands have to know it too."""
_OPERATORS_OWN: Final = frozenset({"OPERATOR_KEY", "OPERATOR_KEY_FILE"})
"""What a worker must not have: it could sign what a person asks for."""
_NOT_FLOWERS: Final = ("EVENT_KEY", "EVENT_KEY_FILE", "MODEL_SIGNING_KEY", "MODEL_SIGNING_KEY_FILE")
"""Flower's user may look and not act, so the key that makes messages count is not for Flower."""
_BROKER_URL, _STORE_URI = "REDIS_URL_FILE", "MONGODB_URI_FILE"
_CELERY: Final = (sys.executable, "-m", "celery")
_WORKER_OPTIONS: Final = ("--without-gossip", "--without-mingle", "-O", "fair")

_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._@-]+")

Progress = Callable[[str], None]


@dataclass
class System:
    """All parts of the system on this machine, with their state in the folder `home`."""

    home: Path
    pipelines: Path
    feed_arguments: tuple[str, ...] = SIMULATED_FEED
    """What `trimtab feed` is called with, if a feed is to be started."""
    extra_environment: Mapping[str, str] = field(default_factory=dict)
    flower_port: int = 0
    feed_url: str | None = None
    valkey: Valkey | None = None
    """The broker, if it is not elsewhere."""
    mongo: Mongo | None = None
    """The store, if it is not elsewhere."""
    _processes: list[Process] = field(default_factory=list)
    _flower_claim: socket.socket | None = None

    def start(self, progress: Progress) -> None:
        """Start every part and return when all of them work.

        Raises:
            StartFailed: a part did not come up. Those that did are still running: call `stop`.
            SettingsError: the broker is a cluster, another installation works on it, or the store
                holds records of a version before EVENT_KEY.
        """
        environment = self.start_servers(progress)
        self._claim_broker()
        given = {name: os.environ[name] for name in os.environ.keys() - _OPERATORS_OWN}
        self._start_workers(given | environment | dict(self.extra_environment), progress)

    def start_servers(self, progress: Progress) -> dict[str, str]:
        """Start the servers alone, and return the settings that lead to them."""
        self.home = self.home.resolve()
        for folder in ("logs", "secrets"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        environment = self._addresses(progress)
        recorded = environment | self._of_commands()
        write_private(environment_file(self.home), json.dumps(recorded, indent=2))
        return environment

    def _of_commands(self) -> dict[str, str]:
        """The settings that commands have and no worker has."""
        key = self._secret("operator_key")
        return {"OPERATOR_KEY_FILE": str(key)} if key.exists() else {}

    def _claim_broker(self) -> None:
        """Start no worker on a broker that another installation works on, or starts on just now."""
        with connected(self.home) as resources, suppress(*BROKER_ERRORS):
            claim(resources.store.make_installation(), resources.broker, resources.settings)
            resources.store.require_authenticated()

    def _addresses(self, progress: Progress) -> dict[str, str]:
        """Start the servers, and return the settings that lead to them."""
        given = os.environ
        environment = {
            "PIPELINES": str(self.pipelines.resolve()),
            "MODEL_REPOSITORY": given.get("MODEL_REPOSITORY") or self._bare_repository(),
            "GIT_CACHE": str(self.home / "git"),
            **{name: given[name] for name in _PLACES if given.get(name)},
        }
        if not is_set("REDIS_URL"):
            progress("starting Valkey")
            self._start_valkey()
            environment[_BROKER_URL] = self._address_of("redis_url", "cli")
        if not is_set("MONGODB_URI"):
            progress("starting MongoDB")
            self._start_mongo()
            environment[_STORE_URI] = self._address_of("mongodb_uri", "cli")
        for name in ("EVENT_KEY", "MODEL_SIGNING_KEY"):
            if not is_set(name):
                secret_file(self._secret(name.lower()))
                environment[f"{name}_FILE"] = str(self._secret(name.lower()))
        if not is_set("OPERATORS"):
            environment["OPERATORS_FILE"] = self._operators()
        if not is_set("FEED_URL") and not is_set("DATA_GOV_IN_API_KEY"):
            progress("starting the feed")
            self.feed_url = self._start_feed()
            environment["FEED_URL"] = self.feed_url
        return environment

    def _operators(self) -> str:
        """The list of operators; made with the key of the first one if it is not there."""
        key, listed = self._secret("operator_key"), self._secret("operators")
        if not listed.exists():
            private, line = make_key(_name_of_user())
            write_private(key, private)
            write_private(listed, line)
        return str(listed)

    def _secret(self, name: str) -> Path:
        return self.home / "secrets" / name

    def _bare_repository(self) -> str:
        path = self.home / "models.git"
        if not path.exists():
            repository = Repo.init(path, bare=True, initial_branch="main")
            with repository.config_writer() as configuration:
                # A pushed model stays in the one pack it came in.
                configuration.set_value("receive", "unpackLimit", 1)
        return str(path)

    def _start_valkey(self) -> None:
        server = self.valkey = Valkey(self.home / "valkey", self._place.key_prefix)
        self._own(server.start, lambda: server.process)
        self._secret("redis_url").unlink(missing_ok=True)  # of versions with one user for all
        for service in BROKER_USERS:
            write_private(self._secret(f"redis_url_{service}"), server.url_of(service))

    def _start_mongo(self) -> None:
        server = self.mongo = Mongo(self.home / "mongo", self._place.mongodb_database)
        self._own(server.start, lambda: server.process)
        self._secret("mongodb_uri").unlink(missing_ok=True)
        for service in STORE_USERS:
            write_private(self._secret(f"mongodb_uri_{service}"), server.uri_of(service))

    @property
    def _place(self) -> Settings:
        """The settings that say where in the servers the records and the messages are."""
        return read_settings(redis_url="redis://127.0.0.1")

    def _address_of(self, kind: str, service: Service) -> str:
        return str(self._secret(f"{kind}_{service}"))

    def environment_of(self, service: Service, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment with the addresses of a service's own users in place of others."""
        own = dict(environment)
        if self.valkey:
            own[_BROKER_URL] = self._address_of("redis_url", service)
        if self.mongo:
            own.pop(_STORE_URI, None)
            if service in STORE_USERS:
                own[_STORE_URI] = self._address_of("mongodb_uri", service)
        return own

    def _own(self, start: Callable[[], None], process: Callable[[], Process | None]) -> None:
        """Start a server; it is ours to stop, also if its start fails half-way."""
        try:
            start()
        finally:
            if started := process():
                self._processes.append(started)

    def _start_feed(self) -> str:
        port = free_port()
        feed = self._process(
            "feed",
            [
                *(sys.executable, "-m", "services.cli.main", "feed"),
                *(*self.feed_arguments, "--port", str(port)),
            ],
            dict(os.environ),
        )
        wait_until_listening(feed, port)
        return f"http://127.0.0.1:{port}"

    def _process(self, name: str, command: list[str], environment: dict[str, str]) -> Process:
        process = Process(name, command, self.home / "logs" / f"{name}.log", environment)
        self._processes.append(process)
        process.start()
        return process

    def _start_workers(self, environment: dict[str, str], progress: Progress) -> None:
        progress("starting the workers, beat and Flower")
        started_at = datetime.now(UTC)
        for stage in STAGES:
            own = self.environment_of(stage, environment)
            self._process(stage, worker_command(stage), own)
        self._process("beat", beat_command(), self.environment_of("beat", environment))
        secret_file(self._secret("flower_password"))
        login = {"FLOWER_PASSWORD_FILE": str(self._secret("flower_password"))}
        own = self.environment_of("flower", environment)
        known = {name: value for name, value in own.items() if name not in _NOT_FLOWERS}
        flower = self._process("flower", self._flower_command(), known | login)
        wait_until_listening(flower, self.flower_port, _START_SECONDS)
        self._wait_until_alive(started_at, progress)

    def _flower_command(self) -> list[str]:
        self._flower_claim = claim_port(FLOWER_PORT)
        self.flower_port = free_port(FLOWER_PORT if self._flower_claim else 0)
        return [
            *(*_CELERY, "-A", "shared.celery_app", "flower"),
            *("--address=127.0.0.1", f"--port={self.flower_port}"),
            f"--conf={_FLOWER_CONFIGURATION}",
        ]

    def _wait_until_alive(self, since: datetime, progress: Progress) -> None:
        """Return once every worker consumes, one has swept, and beat ticks."""
        settings = settings_of(self.home)
        broker = Broker(celery_app(lambda: settings))
        waited_for: set[str] = set(PARTS)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self.require_running()
            alive = broker.last_alive()
            waited_for -= {part.partition("@")[0] for part in alive if alive[part] >= since}
            if not waited_for:
                return
            progress(f"waiting for {', '.join(sorted(waited_for))}")
            time.sleep(0.1)
        raise StartFailed(
            f"no sign of life from {', '.join(sorted(waited_for))} after {_START_SECONDS:.0f} s; "
            f"see {self.home / 'logs'}"
        )

    def require_running(self) -> None:
        """Raise StartFailed if a part has ended."""
        for process in self._processes:
            process.require_running()

    def restart_ended(self) -> list[str]:
        """Start again every part that has ended by itself; returns their names."""
        ended = [process for process in self._processes if process.exit_status is not None]
        for process in ended:
            process.kill()
            process.start()
        return [process.name for process in ended]

    def process(self, name: str) -> Process:
        """The process of a part."""
        return next(process for process in self._processes if process.name == name)

    def stop(self) -> None:
        """Stop everything: those that make work first, the servers last. Leaves no process."""
        servers = {"feed", "valkey", "mongod"}
        workers = [process for process in self._processes if process.name not in servers]
        for process in workers:
            process.ask_to_stop()
        for process in workers:
            process.stop()
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        if self._flower_claim:
            self._flower_claim.close()


@contextmanager
def running(system: System, progress: Progress) -> Iterator[System]:
    """The system, started; it is stopped at the end, whatever happens."""
    try:
        system.start(progress)
        yield system
    finally:
        system.stop()


def worker_command(stage: str) -> list[str]:
    """How the worker of a stage is started."""
    return [
        *(*_CELERY, "--quiet", "-A", f"services.{stage}.tasks", "worker"),
        *("-Q", stage, "-n", f"{stage}@%h", "-c", str(_CONCURRENCY.get(stage, 1))),
        *_WORKER_OPTIONS,
    ]


def beat_command() -> list[str]:
    """How beat is started."""
    return [
        *(*_CELERY, "--quiet", "-A", "shared.celery_app", "beat"),
        *("-S", "services.ingest.schedule:PipelineScheduler", "--pidfile="),
    ]


def _name_of_user() -> str:
    """The name of whoever runs this process, as one word."""
    try:
        return _NOT_IN_A_NAME.sub("-", getuser())
    except (KeyError, OSError):  # a number without a name, as in a container
        return f"user-{os.getuid()}"
