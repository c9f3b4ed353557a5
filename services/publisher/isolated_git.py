"""Git, told only what it has to know, with failures that say what to do."""

import base64
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final
from urllib.parse import SplitResult, urlsplit

from git import Git
from pydantic import SecretStr

from services.publisher.host_answers import FULL_DISK_SECONDS, NO_SPACE, meaning, shown
from shared.addresses import is_loopback
from shared.failures import WillNotPass, WillPass
from shared.plain_text import printable

_TIMEOUT_SECONDS: Final = 600.0
_LONGEST_SAID: Final = 100_000
"""Characters of what Git and the host say that are looked at."""
_SCHEMES: Final = ("https", "http", "ssh", "file")
_KEPT_VARIABLES: Final = ("GIT_SSL_", "GIT_SSH", "GIT_PROXY_", "GIT_EXEC_PATH")
_UNSAFE_VARIABLES: Final = ("GIT_SSL_NO_VERIFY",)
"""Anybody could pose as the host, so no configuration takes them back."""

_CONFIGURATION: Final = {
    "core.hooksPath": os.devnull,
    "core.sshCommand": "ssh -o BatchMode=yes",
    "core.compression": "0",  # a joblib file is compressed already
    "fastimport.unpackLimit": "1",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "gpg.format": "ssh",
    "credential.helper": "",
    "gc.auto": "0",
    # Git would send the token to whatever address the host names.
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "protocol.allow": "never",
    **{f"protocol.{scheme}.allow": "always" for scheme in _SCHEMES},
}

_VARIABLES: Final = {
    "GIT_ASKPASS": "",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "SSH_ASKPASS_REQUIRE": "never",
}

_BROKEN: Final = re.compile(r"pack-objects died|bad object|object file .{0,200} is (empty|corrupt)")
_FULL_HERE: Final = re.compile(NO_SPACE, re.IGNORECASE)
_USER_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/@\s]+@")


class UnexpectedFailure(Exception):
    """Git failed in a way that nobody foresaw: the cache may be broken."""


def no_room(what: str) -> WillPass:
    """That the disk of this machine is full."""
    return WillPass(
        f"no room on the disk of GIT_CACHE: make some. It is tried again ({what})",
        retry_after=FULL_DISK_SECONDS,
    )


def checked_address(address: str) -> str:
    """The address of a repository as Git is to be given it: an URL, or an absolute path.

    Raises:
        WillNotPass: it holds credentials, or could make Git do something else than go there.
    """
    if "://" not in address:
        if address.startswith("-") or ":" in address:
            raise WillNotPass(
                "MODEL_REPOSITORY is not an address that may be used; give a path, or begin with "
                + " or ".join(f"{scheme}://" for scheme in _SCHEMES)
            )
        return str(Path(address).resolve())
    parts = _split(address)
    if parts.scheme not in _SCHEMES:
        raise WillNotPass(f"MODEL_REPOSITORY has a scheme other than {', '.join(_SCHEMES)}")
    if parts.password or (parts.username and parts.scheme != "ssh"):
        raise WillNotPass(
            "MODEL_REPOSITORY holds credentials; take them out, and set GITHUB_USERNAME and "
            "GITHUB_TOKEN"
        )
    if parts.query or parts.fragment or parts.netloc.startswith("-"):
        raise WillNotPass("MODEL_REPOSITORY is not the address of a repository")
    return address


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        raise WillNotPass("MODEL_REPOSITORY is not an address that can be read") from None


def _authorization(address: str, username: str | None, token: SecretStr | None) -> str | None:
    """The credentials as HTTP sends them; none without a token, or where HTTP is not spoken.

    Raises:
        WillNotPass: they would be sent in the clear.
    """
    parts = urlsplit(address)
    if not token or parts.scheme not in ("https", "http"):
        return None
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise WillNotPass(
            "MODEL_REPOSITORY begins with http://, which would send GITHUB_TOKEN in the clear; "
            "use https://"
        )
    pair = f"{username or 'x-access-token'}:{token.get_secret_value()}"
    return base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True)
class Limits:
    """What one command of Git may take."""

    seconds: float
    file_bytes: int
    """The largest file that it may write, such as what a fetch brings."""
    said_bytes: int = 1 << 20
    """The most that it may print."""


_SMALL_FILES: Final = ("sh", "-c", 'ulimit -f "$1"; shift; exec "$@"', "sh")
"""Runs a command that may write no file of more than so many blocks of 512 bytes."""


@dataclass(frozen=True)
class Answer:
    """How a Git command ended."""

    status: int
    output: str
    said: str

    @property
    def rejections(self) -> list[str]:
        """The refs that `push --porcelain` did not move, each with the reason."""
        return [line for line in self.output.splitlines() if line.startswith("!")]


class IsolatedGit:
    """Git in one bare repository, whose remote `origin` is one address.

    Configuration and variables of the machine's user do not reach it, except those on how to reach
    hosts (GIT_SSL_…, GIT_SSH…). The credentials stand in the environment of the commands that talk
    to the remote, and nowhere else: nobody else can read it, and Git keeps nothing of it.
    """

    def __init__(
        self,
        folder: Path,
        address: str,
        username: str | None,
        token: SecretStr | None,
        signing_key: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Run nothing yet. `signing_key` is the file of the SSH key that is signed with.

        Raises:
            WillNotPass: the token would be sent in the clear.
        """
        self._folder = folder
        self._limits = limits
        self._address = address
        configuration = {
            **_CONFIGURATION,
            "remote.origin.url": address,
            "remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*",
        }
        if signing_key:
            configuration["user.signingKey"] = str(signing_key)
        variables = {**_VARIABLES, "GIT_DIR": str(folder)}
        self._local = self._remote = variables | _as_variables(configuration)
        self._secrets: tuple[str, ...] = ()
        if token and (authorization := _authorization(address, username, token)):
            header = f"Authorization: Basic {authorization}"
            configuration[f"http.{address}.extraHeader"] = header
            self._remote = variables | _as_variables(configuration)
            self._secrets = (token.get_secret_value(), authorization)

    def local(self, *arguments: str, stdin: BinaryIO | None = None) -> str:
        """What a command that stays in the repository prints.

        Raises:
            WillPass: there is no room for what it writes.
            UnexpectedFailure: it failed.
        """
        answer = self.ask(*arguments, stdin=stdin)
        if answer.status != 0:
            words = shown(self.words(answer))
            raise self._full_disk(arguments[0], answer) or UnexpectedFailure(
                f"git {arguments[0]} in GIT_CACHE: {words}"
            )
        return answer.output

    def remote(self, *arguments: str) -> str:
        """What a command that talks to the remote prints.

        Raises:
            WillPass, WillNotPass, UnexpectedFailure: it failed, by the kind of its failure.
        """
        answer = self.ask(*arguments, remote=True)
        if answer.status != 0:
            raise self.failure(arguments[0], answer)
        return answer.output

    def ask(
        self,
        *arguments: str,
        remote: bool = False,
        stdin: BinaryIO | None = None,
        identity: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        """Run a command to its end, with the credentials if it talks to the remote.

        Args:
            identity: the variables that say who writes an object.
        """
        environment = {**(self._remote if remote else self._local), **identity}
        status, output, said = self._run(arguments, environment, stdin, as_text=True)
        return Answer(status, str(output), said)

    def content(self, blob: str) -> bytes:
        """The bytes of a blob, from the remote if they have stayed there.

        Raises:
            WillPass, WillNotPass, UnexpectedFailure: they cannot be had.
        """
        arguments = ("cat-file", "blob", blob)
        status, output, said = self._run(arguments, self._remote, None, as_text=False)
        if status != 0:
            raise self.failure("cat-file", Answer(status, "", said))
        assert isinstance(output, bytes)  # noqa: S101 - it was asked for
        return output

    def _run(
        self,
        arguments: tuple[str, ...],
        environment: Mapping[str, str],
        stdin: BinaryIO | None,
        *,
        as_text: bool,
    ) -> tuple[int, str | bytes | None, str]:
        command = [*_without_inherited(environment), "git", *arguments]
        if self._limits:
            return _run_within(self._limits, command, self._folder, environment, stdin)
        return Git(self._folder).execute(
            command,
            istream=stdin,
            env=environment,
            with_extended_output=True,
            with_exceptions=False,
            kill_after_timeout=_TIMEOUT_SECONDS,
            stdout_as_string=as_text,
            strip_newline_in_stdout=as_text,
        )

    def failure(self, command: str, answer: Answer) -> Exception:
        """What it means that a command failed that talks to the remote."""
        words = self.words(answer)
        # An address has words of its own, which say nothing about the failure.
        evidence = words.replace(self._address, "")
        about = f"git {command} {self._address}"
        if _BROKEN.search(evidence):
            return UnexpectedFailure(f"{about}: {shown(words)}")
        if command != "push" and (full := self._full_disk(command, answer)):
            return full
        return meaning(about, words, evidence) or UnexpectedFailure(f"{about}: {shown(words)}")

    def _full_disk(self, command: str, answer: Answer) -> WillPass | None:
        """A failure if Git found no room on this machine; lines of the host itself are marked."""
        said = _without_middle(answer.said)
        lines = [line for line in said.splitlines() if not line.startswith("remote:")]
        if _FULL_HERE.search(" ".join(lines)):
            return no_room(f"git {command}: {shown(self.words(answer))}")
        return None

    def words(self, answer: Answer) -> str:
        """What Git said, on one line, without its hints and without a secret."""
        said = _without_middle(answer.said)
        lines = [line for line in said.splitlines() if not line.startswith("hint:")]
        words = " ".join(printable(" ".join([*lines, *answer.rejections])).split())
        for secret in self._secrets:
            words = words.replace(secret, "***")
        return _USER_IN_ADDRESS.sub("***@", words)


def _without_middle(said: str) -> str:
    half = _LONGEST_SAID // 2
    return said if len(said) <= _LONGEST_SAID else f"{said[:half]}\n{said[-half:]}"


def _run_within(
    limits: Limits,
    command: list[str],
    folder: Path,
    environment: Mapping[str, str],
    stdin: BinaryIO | None,
) -> tuple[int, str, str]:
    """Run a command that may take no more than the limits: its status, what it printed and said."""
    blocks = str(limits.file_bytes // 512)
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*_SMALL_FILES, blocks, *command],
            cwd=folder if folder.is_dir() else None,
            env={**os.environ, "LC_ALL": "C", "LANGUAGE": "C", **environment},
            stdin=stdin or subprocess.DEVNULL,
            stdout=printed,
            stderr=said,
            start_new_session=True,
        )
        try:
            status = process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return 1, "", f"git did not complete in {limits.seconds:g} s"
        if os.fstat(printed.fileno()).st_size > limits.said_bytes:
            return 1, "", f"git printed more than {limits.said_bytes:,} bytes"
        return status, _beginning(printed, limits.said_bytes), _beginning(said, limits.said_bytes)


def _beginning(file: BinaryIO, size: int) -> str:
    file.seek(0)
    return file.read(size).decode("utf-8", "surrogateescape").removesuffix("\n")


def _as_variables(configuration: Mapping[str, str]) -> dict[str, str]:
    """Settings in the form in which Git takes them from its environment."""
    variables = {"GIT_CONFIG_COUNT": str(len(configuration))}
    for number, (key, value) in enumerate(configuration.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def _without_inherited(environment: Mapping[str, str]) -> list[str]:
    """What takes Git's other variables away: GitPython only adds to the environment."""
    inherited = (
        name
        for name in sorted(os.environ)
        if name.startswith("GIT_")
        and (name in _UNSAFE_VARIABLES or not name.startswith(_KEPT_VARIABLES))
        and name not in environment
    )
    unset = [f"--unset={name}" for name in inherited]
    return ["env", *unset] if unset else []
