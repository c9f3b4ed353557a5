"""The model repository: commits made beside it and pushed, once for each model.

Commits are put together from Git's own objects in a bare, shallow cache. Nothing is checked out, so
nothing on the branch (links, attributes, hooks) can act on this machine, and files that are not the
model's stay as they are.
"""

import base64
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from git import Git
from pydantic import SecretStr

from shared.artifacts import sha256
from shared.failures import WillNotPass, WillPass

_DEPTH: Final = 5
_CACHED_COMMITS: Final = 50
_TIMEOUT_SECONDS: Final = 120
_TRIES: Final = 5
_SCHEMES: Final = ("https", "http", "ssh", "file")

_PASSES: Final = re.compile(
    r"could not resolve host|timed? ?out|connection (refused|reset|closed)|couldn't connect|"
    r"failed to connect|early EOF|hung up|RPC failed|error: (408|429|5\d\d)|unable to access.*"
    r"(52\d|50\d|429)|temporarily unavailable|did not complete in|network is unreachable|"
    r"GnuTLS recv error|SSL_ERROR_SYSCALL",
    re.IGNORECASE,
)
_MOVED: Final = re.compile(
    r"fetch first|non-fast-forward|stale info|cannot lock ref|reference already exists|"
    r"incorrect old value|failed to update ref",
    re.IGNORECASE,
)
_REMEDIES: Final = (
    (r"GH001|exceeds GitHub's file size limit", "the host refuses a file of this size: see "
     "publish.max_file_bytes, and make the model smaller by training.parameters"),
    (r"GH013|secret", "the host's rules refuse the push: see its message"),
    (r"Authentication failed|could not read (Username|Password)|\b401\b|terminal prompts disabled",
     "the host does not accept the credentials: check GITHUB_USERNAME and GITHUB_TOKEN"),
    (r"\b403\b|Permission|denied", "no right to write: the token needs 'contents: write' on it"),
    (r"not found|does not exist|does not appear to be a git repository|\b404\b",
     "no such repository, or no right to see it: check MODEL_REPOSITORY and GITHUB_TOKEN"),
    (r"protected branch|hook declined", "the host's rules refuse the push: see its message"),
)  # fmt: skip


@dataclass(frozen=True)
class Commit:
    """What is to be on the branch."""

    files: Mapping[str, bytes]
    """Path in the repository -> content. Other paths of the branch stay as they are."""
    message: str
    """With the trailers that identify it as its last paragraph."""
    identity: str
    """The trailer that no other commit has; plain text without a special meaning to grep."""
    tag: str
    at: datetime


@dataclass(frozen=True)
class Published:
    """What is on the branch."""

    commit: str
    already_there: bool


class RemoteMoved(Exception):
    """Another writer was faster: the commit has to be made again, on top of theirs."""


class ModelRepository:
    """One branch of a Git repository, with a cache of its newest commits."""

    def __init__(
        self, address: str, branch: str, cache: Path, username: str | None, token: SecretStr | None
    ) -> None:
        """Check the address.

        Raises:
            WillNotPass: it is not one that may be used.
        """
        self.address = _checked_address(address)
        self._branch = f"refs/heads/{branch}"
        self._cache = cache.resolve() / sha256(f"{self.address} {branch}".encode())[:16]
        self._environment = _environment(self.address, username, token)

    def publish(self, commit: Commit) -> Published:
        """Put a commit on the branch, unless it is there.

        Raises:
            WillPass: the repository is out of reach, or is being moved all the time.
            WillNotPass: it refuses; the text says what to do.
        """
        with self._locked_cache():
            for _ in range(_TRIES):
                try:
                    return self._publish_once(commit)
                except RemoteMoved:
                    continue
        raise WillPass(f"{self.address}: other writers were faster {_TRIES} times")

    def _publish_once(self, commit: Commit) -> Published:
        refs = self._remote_refs(commit.tag)
        head = refs.get(self._branch)
        if tagged := refs.get(f"refs/tags/{commit.tag}"):
            self._require_own(tagged, commit)
            return Published(tagged, already_there=True)
        if head:
            self._fetch(head)
            if found := self._find(head, commit.identity):
                return Published(found, already_there=True)
        made = self._make(commit, head)
        self._push(made, commit.tag)
        if self._remote_refs(commit.tag).get(f"refs/tags/{commit.tag}") != made:
            raise WillPass(f"{self.address} took the push but does not show the commit")
        self._git("update-ref", f"refs/cache/{made}", made)
        return Published(made, already_there=False)

    def _remote_refs(self, tag: str) -> dict[str, str]:
        """The branch and the tag as the remote has them now: ref -> commit."""
        listed = self._git("ls-remote", self.address, self._branch, f"refs/tags/{tag}")
        pairs = (line.split("\t") for line in listed.splitlines() if "\t" in line)
        return {ref: commit for commit, ref in pairs}

    def _fetch(self, ref: str) -> None:
        """Have the newest commits up to one in the cache; a cache that is broken is made anew."""
        if self._has(ref):
            return
        depth, kept = f"--depth={_DEPTH}", f"+{ref}:refs/cache/{ref}"
        fetch = ("fetch", "--quiet", "--no-tags", depth, self.address, kept)
        try:
            self._git(*fetch)
        except WillNotPass:
            shutil.rmtree(self._cache, ignore_errors=True)
            self._init()
            self._git(*fetch)

    def _has(self, commit: str) -> bool:
        """Whether a commit that was fetched or pushed is in the cache, whole."""
        try:
            self._git("rev-parse", "--quiet", "--verify", f"refs/cache/{commit}^{{tree}}")
        except WillNotPass:
            return False
        return True

    def _require_own(self, tagged: str, commit: Commit) -> None:
        self._fetch(tagged)
        if self._find(tagged, commit.identity) != tagged:
            raise WillNotPass(
                f"{self.address}: tag {commit.tag} stands on {tagged[:10]}, not this model; "
                "another system publishes here under the same pipeline name, or the tag was moved"
            )

    def _find(self, head: str, identity: str) -> str | None:
        """The newest commit with a line that is this trailer, among those in the cache."""
        found = self._git(*("log", "--format=%H", "--max-count=1", f"--grep=^{identity}$", head))
        return found.strip() or None

    def _make(self, commit: Commit, parent: str | None) -> str:
        """The commit as objects in the cache."""
        with tempfile.TemporaryDirectory(dir=self._cache) as name:
            folder = Path(name)
            contents = [folder / str(number) for number in range(len(commit.files))]
            for path, data in zip(contents, commit.files.values(), strict=True):
                path.write_bytes(data)
            (folder / "message").write_text(commit.message, encoding="utf-8")
            index = {"GIT_INDEX_FILE": str(folder / "index")}
            self._git("read-tree", parent or "--empty", **index)
            hashes = self._git("hash-object", "-w", "--no-filters", *map(str, contents)).split()
            entries = [
                argument
                for blob, path in zip(hashes, commit.files, strict=True)
                for argument in ("--cacheinfo", f"100644,{blob},{path}")
            ]
            self._git("update-index", "--add", "--replace", *entries, **index)
            tree = self._git("write-tree", **index).strip()
            parents = ["-p", parent] if parent else []
            at = f"{int(commit.at.timestamp())} +0000"
            dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
            message = str(folder / "message")
            return self._git("commit-tree", tree, *parents, "-F", message, **dates).strip()

    def _push(self, commit: str, tag: str) -> None:
        """Branch and tag together or neither.

        Raises:
            RemoteMoved: the branch is not what the commit stands on any more.
        """
        refs = (f"{commit}:{self._branch}", f"{commit}:refs/tags/{tag}")
        try:
            self._git("push", "--quiet", "--atomic", self.address, *refs)
        except WillNotPass as error:
            if _MOVED.search(str(error)):
                raise RemoteMoved from None
            raise

    def _git(self, *arguments: str, **environment: str) -> str:
        """Run Git in the cache and return what it prints.

        Raises:
            WillPass, WillNotPass: it failed, by the kind of its failure.
        """
        status, output, said = Git(self._cache).execute(
            ["git", *arguments],
            env=self._environment | environment,
            with_extended_output=True,
            with_exceptions=False,
            kill_after_timeout=_TIMEOUT_SECONDS,
        )
        if status == 0:
            return str(output)
        raise self._failure(arguments[0], f"{said}\n{output}")

    def _failure(self, command: str, said: str) -> WillPass | WillNotPass:
        text = " ".join(said.split())[-600:]
        if _PASSES.search(text):
            return WillPass(f"git {command} {self.address}: {text}")
        remedies = (remedy for pattern, remedy in _REMEDIES if re.search(pattern, text, re.I))
        remedy = next(remedies, "see Git's message")
        return WillNotPass(f"git {command} {self.address}: {remedy}. Git says: {text}")

    @contextmanager
    def _locked_cache(self) -> Iterator[None]:
        """The cache, for this process alone."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache.parent / f"{self._cache.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if len(list((self._cache / "refs" / "cache").glob("*"))) > _CACHED_COMMITS:
                shutil.rmtree(self._cache)
            if not (self._cache / "HEAD").exists():
                self._init()
            yield

    def _init(self) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        self._git("init", "--quiet", "--bare", ".")


def _checked_address(address: str) -> str:
    if "://" not in address:
        if address.startswith("-") or ":" in address:
            raise WillNotPass(
                f"MODEL_REPOSITORY: not an address that may be used; begin with one of "
                f"{', '.join(f'{scheme}://' for scheme in _SCHEMES)} or give a path"
            )
        return str(Path(address).resolve())
    parts = urlsplit(address)
    if parts.scheme not in _SCHEMES:
        raise WillNotPass(
            f"MODEL_REPOSITORY: {parts.scheme}:// is not one of {', '.join(_SCHEMES)}"
        )
    if parts.password or (parts.username and parts.scheme != "ssh"):
        raise WillNotPass(
            "MODEL_REPOSITORY holds credentials: take them out; set GITHUB_USERNAME, GITHUB_TOKEN"
        )
    if (parts.hostname or "").startswith("-"):
        raise WillNotPass("MODEL_REPOSITORY: not the name of a host")
    return address


def _environment(address: str, username: str | None, token: SecretStr | None) -> dict[str, str]:
    """What Git is told by its environment: where nobody else can read it, and nothing is kept."""
    configuration = {
        "core.hooksPath": os.devnull,
        "commit.gpgSign": "false",
        "gc.auto": "0",
        # The one large file is compressed already.
        "core.compression": "0",
        "pack.window": "0",
        "credential.helper": "",
        "safe.directory": "*",
        "protocol.allow": "never",
        **{f"protocol.{scheme}.allow": "always" for scheme in _SCHEMES},
    }
    parts = urlsplit(address)
    if token and parts.scheme in {"https", "http"}:
        pair = f"{username or 'x-access-token'}:{token.get_secret_value()}"
        header = f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}"
        configuration[f"http.{parts.scheme}://{parts.netloc}/.extraHeader"] = header
    environment = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Trimtab",
        "GIT_AUTHOR_EMAIL": "trimtab@localhost",
        "GIT_COMMITTER_NAME": "Trimtab",
        "GIT_COMMITTER_EMAIL": "trimtab@localhost",
        "GIT_TRACE": "0",
        "GIT_TRACE_CURL": "0",
        "GIT_TRACE_PACKET": "0",
        "GIT_TRACE2": "0",
        "GIT_TRACE2_EVENT": "0",
        "LC_ALL": "C",
        "GIT_CONFIG_COUNT": str(len(configuration)),
    }
    for number, (key, value) in enumerate(configuration.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment
