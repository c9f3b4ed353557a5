"""The model repository: one commit for each model, made beside the branch and pushed.

Commits are put together by `git fast-import` in a bare, shallow cache that leaves out the contents
of files where the host can do so. Nothing is checked out: what stands on the branch (links,
attributes, hooks) cannot act on this machine, and files that are not the model's stay as they are.
"""

import errno
import fcntl
import hashlib
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final

import structlog
from pydantic import SecretStr

from services.publisher.host_answers import shown
from services.publisher.isolated_git import (
    IsolatedGit,
    Limits,
    UnexpectedFailure,
    checked_address,
    no_room,
)
from services.publisher.signing import Signer
from shared.artifacts import sha256
from shared.failures import WillNotPass, WillPass
from shared.git_names import model_tag

log = structlog.get_logger(__name__)

_DEPTH: Final = 50
_TRIES: Final = 5
_MOST_PACKS: Final = 100
_MADE: Final = "refs/trimtab/made"
_RESTORED: Final = "refs/trimtab/restored"
_SEEN: Final = "refs/trimtab/seen"
_OF_A_LOOK: Final = Limits(seconds=120, file_bytes=1 << 30)
"""Where a host cannot leave contents out, a look brings all files of two commits."""
_UNKNOWN: Final = re.compile(r"not our ref|unadvertised object|couldn't find remote ref")
_MODEL_TRAILER: Final = "Trimtab-Model"
_RUN_TRAILER: Final = "Trimtab-Run"

_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_LONGEST_VALUE: Final = 100
"""Columns of a trailer's value that are looked at; with more it is none of ours."""

_MOVED: Final = re.compile(
    r"fetch first|non-fast-forward|stale info|already exists|cannot lock ref|incorrect old value|"
    r"failed to update ref|atomic transaction failed"
)


@dataclass(frozen=True)
class Commit:
    """What is to be on the branch."""

    pipeline: str
    version: int
    run: str
    """The trace id: tells this model from another system's of the same name and version."""
    files: Mapping[str, bytes | None]
    """Path in the repository -> content; None: not to be there. Other paths stay as they are."""
    model_file: str
    """The one of the paths that has the model itself."""
    subject: str
    body: str
    at: datetime
    committer: str
    """`name <address>`; the author is the same."""
    successors: Mapping[str, str] = field(default_factory=dict)
    """The models that took this one's place -> their runs. With one on the branch it is too late
    for this one: it would take the champion's place."""

    trailers: Mapping[str, str] = field(default_factory=dict)
    """Name -> value of those that say who asked for the model."""
    tag_trailers: Mapping[str, str] = field(default_factory=dict)
    """Of the tag's own message."""

    @property
    def tag(self) -> str:
        """The tag of the model."""
        return model_tag(self.pipeline, self.version)

    @property
    def message(self) -> str:
        """Subject, body and trailers."""
        trailers = {**self.trailers, _MODEL_TRAILER: self.tag, _RUN_TRAILER: self.run}
        return _message(f"{self.subject}\n\n{self.body}", trailers)

    @property
    def tag_message(self) -> str:
        """The commit's subject, and the tag's own trailers."""
        return _message(self.subject, self.tag_trailers)

    def entries(self) -> dict[str, str]:
        """Path -> mode, type and name of the file, as Git lists those that are to be there."""
        return {
            path: f"100644 blob {_blob_name(content)}"
            for path, content in self.files.items()
            if content is not None
        }


@dataclass(frozen=True)
class Published:
    """The model's commit on the branch."""

    commit: str
    already_there: bool
    tag_object: str | None = None
    """The tag that was pushed; none if it was there before."""


@dataclass(frozen=True)
class Expected:
    """What a repository holds if nobody has changed what was published."""

    commit: str
    tag: str
    tag_object: str | None
    """None: not known, or an earlier version made the tag without an object of its own."""
    paths: tuple[str, ...]
    """All that a publication may consist of."""
    model_file: str
    model: bytes


@dataclass(frozen=True)
class PublishedModel:
    """A commit of the branch's history, with the model that its trailers name, if any.

    Whoever may push can write any trailer.
    """

    commit: str
    model: str
    run: str

    def is_of(self, commit: Commit) -> bool:
        """Whether it says that it is what the commit is to be."""
        return (self.model, self.run) == (commit.tag, commit.run)

    def is_successor_of(self, commit: Commit) -> bool:
        """Whether it says that it took the commit's place."""
        return commit.successors.get(self.model) == self.run

    def is_before(self, commit: Commit) -> bool:
        """Whether it says that it is an earlier version of the commit's pipeline."""
        name, _, version = self.model.rpartition("/v")
        is_number = _VERSION.fullmatch(version) is not None
        return name == commit.pipeline and is_number and int(version) < commit.version


def _message(text: str, trailers: Mapping[str, str]) -> str:
    lines = [f"{name}: {value}" for name, value in trailers.items()]
    return "\n".join([text, *(["", *lines] if lines else []), ""])


class RemoteMoved(Exception):
    """Another writer was faster: the commit has to be made again, on top of theirs."""


class ModelRepository:
    """One branch of a Git repository, with a cache of its newest commits."""

    def __init__(
        self,
        address: str,
        branch: str,
        cache: Path,
        username: str | None,
        token: SecretStr | None,
        signer: Signer | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Check the address; nothing is sent yet. With a signer tags and commits are signed.

        Raises:
            WillNotPass: it is not one that may be used, or would send the token in the clear.
        """
        self.address = checked_address(address)
        self._branch = branch
        self._cache = cache.resolve() / sha256(f"{self.address} {branch}".encode())[:16]
        self._signer = signer
        self._git = IsolatedGit(
            self._cache, self.address, username, token, signer.key_file if signer else None, limits
        )

    @classmethod
    def for_a_look(
        cls, address: str, branch: str, cache: Path, username: str | None, token: SecretStr | None
    ) -> "ModelRepository":
        """A repository that is only looked at, within a time and a size.

        Raises:
            WillNotPass: as for any other.
        """
        return cls(address, branch, cache, username, token, limits=_OF_A_LOOK)

    def publish(self, commit: Commit) -> Published:
        """Put a commit and its tag on the repository, unless the branch has the model.

        Raises:
            WillPass: the repository is out of reach, or is being moved all the time.
            WillNotPass: it refuses, or a successor is there; the text says what to do.
        """
        with self._locked_cache():
            try:
                return self._publish(commit)
            except UnexpectedFailure as failure:
                log.warning("the git cache is made anew", reason=str(failure))
                shutil.rmtree(self._cache, ignore_errors=True)
            try:
                return self._publish(commit)
            except UnexpectedFailure as failure:
                raise WillNotPass(
                    f"{failure}. A new GIT_CACHE did not help: have `git fsck` look at "
                    f"{self.address}, or set publish.branch to a new branch"
                ) from None

    def files_of(self, commit: str, paths: Iterable[str]) -> dict[str, bytes] | None:
        """Those of the paths that a published commit has, with their content.

        None: the repository does not have the commit any more.

        Raises:
            WillPass: the repository is out of reach.
        """
        with self._locked_cache():
            try:
                return self._files_of(commit, paths)
            except (UnexpectedFailure, WillNotPass) as failure:
                log.warning("the commit cannot be had", commit=commit, reason=str(failure))
                return None

    def changes_since(self, expected: Expected) -> list[str]:
        """What differs from what was published, each in a sentence; empty if nothing does.

        Commits of others that leave the model's files and its tag alone are no difference. No
        content is fetched where the host can leave it out, and none is read.

        Raises:
            WillPass, WillNotPass: the repository does not answer, or with more than it may.
        """
        with self._locked_cache():
            try:
                return self._changes_since(expected)
            except (UnexpectedFailure, WillPass, WillNotPass) as failure:
                # What was cut short would pile up.
                shutil.rmtree(self._cache, ignore_errors=True)
                if isinstance(failure, UnexpectedFailure):
                    raise WillPass(str(failure)) from None
                raise

    def _changes_since(self, expected: Expected) -> list[str]:
        branch, tag = f"refs/heads/{self._branch}", f"refs/tags/{expected.tag}"
        listed = self._git.remote("ls-remote", "origin", branch, tag, f"{tag}^{{}}")
        refs = {ref: commit for commit, _, ref in map(_row, listed.splitlines())}
        changes = list(_changes_of_tag(expected, refs.get(tag), refs.get(f"{tag}^{{}}")))
        head = refs.get(branch)
        if head is None:
            return [*changes, f"The branch {self._branch} is gone."]
        if head == expected.commit:
            return changes
        self._prepare_cache()
        self._fetch_commit(head, _SEEN)
        wanted = self._entries_published(expected)
        if expected.model_file in wanted and len(wanted) == 1:
            changes.append(f"Commit {expected.commit[:10]} is no longer in the repository.")
        there = self._entries(head, expected.paths if len(wanted) > 1 else wanted)
        return [*changes, *_changes_of_files(wanted, there, self._branch)]

    def _entries_published(self, expected: Expected) -> dict[str, str]:
        """The files as they were published; the model alone if their commit is gone."""
        model = {expected.model_file: f"100644 blob {_blob_name(expected.model)}"}
        try:
            self._fetch_commit(expected.commit, _RESTORED)
        except UnexpectedFailure as failure:
            if not _UNKNOWN.search(str(failure)):
                raise
            return model
        return self._entries(expected.commit, expected.paths) | model

    def _fetch_commit(self, commit: str, ref: str) -> None:
        """Have one commit in the cache, without contents where the host can leave them out."""
        if commit not in self._git.local("rev-list", "--all").split():
            how = ("--quiet", "--no-tags", "--filter=blob:none", "--depth=1")
            self._git.remote("fetch", *how, "origin", f"+{commit}:{ref}")

    def _files_of(self, commit: str, paths: Iterable[str]) -> dict[str, bytes]:
        self._prepare_cache()
        self._fetch_commit(commit, _RESTORED)
        entries = self._entries(commit, paths)
        blobs = {path: about.split()[2] for path, about in entries.items() if " blob " in about}
        return {path: self._git.content(blob) for path, blob in blobs.items()}

    def _entries(self, commit: str, paths: Iterable[str]) -> dict[str, str]:
        """Those of the paths that a commit has -> mode, type and name of what stands there.

        Not every host looks at what it takes: in a broken tree a name can stand twice.
        """
        listed = self._git.local("ls-tree", "-z", commit, "--", *paths)
        entries: dict[str, str] = {}
        for about, _, path in (entry.partition("\t") for entry in listed.split("\0") if entry):
            entries[path] = "twice" if path in entries else about
        return entries

    def _prepare_cache(self) -> None:
        if not (self._cache / "HEAD").exists():
            self._cache.mkdir(exist_ok=True)
            self._git.local("init", "--quiet", "--bare", ".")

    def _publish(self, commit: Commit) -> Published:
        self._prepare_cache()
        reason = ""
        for attempt in range(_TRIES):
            try:
                return self._publish_once(commit)
            except RemoteMoved as move:
                reason = str(move)
                time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311
        raise WillPass(f"{self.address}: the branch moved {_TRIES} times in a row ({reason})")

    def _publish_once(self, commit: Commit) -> Published:
        head, tagged = self._remote_state(commit.tag)
        history = self._history_around(commit, head, tagged) if head else []
        found = self._found(commit, tagged, history)
        if not found:
            self._require_no_successor(commit, history)
        wanted = found or self._make(commit, head)
        if tagged not in (None, wanted):
            raise WillNotPass(
                f"{self.address}: tag {commit.tag} stands on {tagged}, which is not this model's "
                f"commit on {self._branch}: another system publishes here under the same pipeline "
                "name, or somebody moved the tag or the branch. Rename the pipeline, or delete the "
                "tag there if it is not needed"
            )
        pushed = None
        if not (found and tagged):
            pushed = self._tag(commit, wanted)
            self._push(wanted, commit.tag, pushed, None if found else (head or ""))
            self._confirm(wanted, commit.tag)
            log.info("commit pushed", commit=wanted, branch=self._branch, tag=commit.tag)
        return Published(wanted, already_there=found is not None, tag_object=pushed)

    def _remote_state(self, tag: str) -> tuple[str | None, str | None]:
        """The commits that the branch and the tag stand on at the remote.

        Raises:
            WillNotPass: one of them cannot be made, since another ref is in the way.
        """
        branch, tag = f"refs/heads/{self._branch}", f"refs/tags/{tag}"
        around = (*_folders(branch), f"{branch}/*", *_folders(tag), f"{tag}/*")
        listed = self._git.remote("ls-remote", "origin", branch, tag, f"{tag}^{{}}", *around)
        rows = (row.partition("\t") for row in listed.splitlines())
        refs = {ref: commit for commit, _, ref in rows}
        self._require_possible(branch, refs)
        self._require_possible(tag, refs)
        return refs.get(branch), refs.get(f"{tag}^{{}}", refs.get(tag))

    def _require_possible(self, wanted: str, refs: Iterable[str]) -> None:
        """Refuse a ref beside which there are others that Git cannot have at the same time."""
        for ref in refs:
            if ref in _folders(wanted) or ref.startswith(f"{wanted}/"):
                raise WillNotPass(
                    f"{self.address}: {ref} is in the way of {wanted}, Git cannot have both; "
                    "delete it there, or set publish.branch, or rename the pipeline"
                )

    def _history_around(
        self, commit: Commit, head: str, tagged: str | None
    ) -> list[PublishedModel]:
        """The branch's commits, as far back as the model's own can be.

        Versions are published in order, so an earlier version of the pipeline in the window of
        newest commits says that this one is not before it. Without one, or with the model's tag
        somewhere, all history is fetched.
        """
        self._fetch(head)
        history = self._history(head)
        if (self._cache / "shallow").exists() and not self._found(commit, tagged, history):
            is_new = not tagged and any(entry.is_before(commit) for entry in history)
            if not is_new:
                self._fetch_branch("--unshallow")
                history = self._history(head)
        return history

    def _found(
        self, commit: Commit, tagged: str | None, history: Iterable[PublishedModel]
    ) -> str | None:
        """The newest commit that is the model's: that has its trailers, and its files.

        Anybody can write trailers. Under the model's tag the model itself is enough: its card may
        have been in other words, if this system was upgraded since.
        """
        claims = [entry.commit for entry in history if entry.is_of(commit)]
        wanted = commit.entries() if claims else {}
        for claim in claims:
            there = self._entries(claim, commit.files)
            has_model = there.get(commit.model_file) == wanted[commit.model_file]
            if there == wanted or (has_model and claim == tagged):
                return claim
        return None

    def _require_no_successor(self, commit: Commit, history: list[PublishedModel]) -> None:
        later = next((entry for entry in history if entry.is_successor_of(commit)), None)
        if later:
            raise WillNotPass(
                f"{self.address}: {later.model}, which took the place of {commit.tag}, is on "
                f"{self._branch} already (commit {later.commit[:10]}), so {commit.tag} is not "
                "published any more: `trimtab dead-letters dismiss` closes this, "
                "`trimtab rollback` makes the version the champion again"
            )

    def _fetch(self, head: str) -> None:
        """Have the branch up to its head in the cache."""
        known = self._git.ask("rev-parse", "--quiet", "--verify", self._tracking_ref)
        if known.status != 0:
            self._fetch_branch(f"--depth={_DEPTH}")
        elif known.output != head:
            self._fetch_branch()

    def _fetch_branch(self, *extent: str) -> None:
        ref = f"+refs/heads/{self._branch}:{self._tracking_ref}"
        how = ("--quiet", "--no-tags", "--filter=blob:none", *extent)
        self._git.remote("fetch", *how, "origin", ref)

    @property
    def _tracking_ref(self) -> str:
        return f"refs/remotes/origin/{self._branch}"

    def _history(self, head: str) -> list[PublishedModel]:
        """The commits of the branch that the cache has, newest first."""
        values = (
            f"%<({_LONGEST_VALUE},trunc)%(trailers:key={key},valueonly,unfold,separator=%x2C)"
            for key in (_MODEL_TRAILER, _RUN_TRAILER)
        )
        layout = "%x09".join(("%H", *values))
        listed = self._git.local("log", "-z", "--topo-order", f"--format={layout}", head)
        rows = listed.split("\0")  # a message may hold any other character
        return [PublishedModel(*map(str.rstrip, row.split("\t", 2))) for row in rows if row]

    def _make(self, commit: Commit, parent: str | None) -> str:
        """The commit as an object in the cache.

        Raises:
            WillNotPass: what is on the branch does not let it have its files.
        """
        if parent:
            self._require_free(commit.files, parent)
        with tempfile.TemporaryFile(dir=self._cache) as stream:
            stream.writelines(fast_import_stream(commit, parent))
            stream.seek(0)
            made = self._git.local(
                "fast-import", "--quiet", "--force", "--date-format=raw", stdin=stream
            )
        if self._entries(made, commit.files) != commit.entries():
            raise WillNotPass(
                f"{self.address}: the files of {self._branch} are not as Git keeps them, a name "
                "stands twice: `git fsck` says where. Repair them there, or set publish.branch"
            )
        return self._signed_commit(commit, made, parent) if self._signer else made

    def _signed_commit(self, commit: Commit, made: str, parent: str | None) -> str:
        """The same commit with a signature; Ed25519 gives the same one each time."""
        parents = ("-p", parent) if parent else ()
        arguments = ("commit-tree", "-S", *parents, "-F", "-", f"{made}^{{tree}}")
        return self._written(arguments, commit, commit.message)

    def _tag(self, commit: Commit, target: str) -> str:
        """The tag as an object in the cache, signed if there is a signer."""
        kind = "--sign" if self._signer else "--annotate"
        arguments = ("tag", "--force", kind, "--cleanup=verbatim", "-F", "-")
        self._written((*arguments, "--", commit.tag, target), commit, commit.tag_message)
        return self._git.local("rev-parse", f"refs/tags/{commit.tag}")

    def _written(self, arguments: tuple[str, ...], commit: Commit, message: str) -> str:
        """Run a command of Git that writes a message, and may sign it.

        Raises:
            WillNotPass: it failed, as when somebody has changed the key's file.
        """
        with tempfile.TemporaryFile(dir=self._cache) as stream:
            stream.write(message.encode())
            stream.seek(0)
            identity = _identity(commit)
            answer = self._git.ask(*arguments, stdin=stream, identity=identity)
        if answer.status != 0:
            says = f"Git says: {shown(self._git.words(answer))}"
            if self._signer is None:
                raise WillNotPass(f"git {arguments[0]} failed. {says}")
            raise WillNotPass(
                f"GIT_SIGNING_KEY_FILE: git {arguments[0]} could not sign with it. {says}"
            )
        return answer.output

    def _require_free(self, paths: Iterable[str], head: str) -> None:
        """Refuse to put a file where the branch has a folder, or a folder where it has a file."""
        paths = sorted(paths)
        parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        folders = parents - {"."}
        for line in self._git.local("ls-tree", head, "--", *folders, *paths).splitlines():
            about, _, path = line.partition("\t")
            if (about.split()[1] == "tree") != (path in folders):
                raise WillNotPass(
                    f"{self.address}: {path} on {self._branch} is in the way of the model's files; "
                    "set publish.directory"
                )

    def _push(self, commit: str, tag: str, tag_object: str, stands_on: str | None) -> None:
        """Put the tag, and with `stands_on` the branch, on a commit: both or neither.

        Args:
            tag_object: what the tag is to be: a signed tag of the commit, or the commit itself.
            stands_on: the head that the branch has to have, empty for no branch; the lease makes
                the push a compare-and-swap. None: the branch has the commit.

        Raises:
            RemoteMoved: the branch or the tag is not what it was.
        """
        refs = [f"{tag_object}:refs/tags/{tag}"]
        options = ["--porcelain", "--no-thin"]  # a thin pack needs contents that stay at the host
        if stands_on is not None:
            refs.append(f"{commit}:refs/heads/{self._branch}")
            options.append(f"--force-with-lease=refs/heads/{self._branch}:{stands_on}")
        answer = self._git.ask("push", "--atomic", *options, "origin", *refs, remote=True)
        if "does not support --atomic" in answer.said:
            answer = self._git.ask("push", *options, "origin", *refs, remote=True)
        if answer.status == 0:
            return
        if move := _MOVED.search(" ".join(answer.rejections)):
            raise RemoteMoved(move.group())
        raise self._git.failure("push", answer)

    def _confirm(self, commit: str, tag: str) -> None:
        """Ask the remote whether it has what it took."""
        head, tagged = self._remote_state(tag)
        if head == commit == tagged:
            return
        if head and tagged == commit:
            self._fetch(head)  # another writer may have built on the commit already
            if self._git.ask("merge-base", "--is-ancestor", commit, head).status == 0:
                return
        raise WillPass(f"{self.address} took the push but does not show commit {commit}")

    @contextmanager
    def _locked_cache(self) -> Iterator[None]:
        """The cache, for this process alone; one that has grown large is thrown away at the end.

        Raises:
            WillPass: its disk is full.
        """
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            with self._cache.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
                if len(list(self._cache.glob("objects/pack/*.pack"))) > _MOST_PACKS:
                    shutil.rmtree(self._cache)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_room(str(error.strerror)) from None
            raise


def _row(line: str) -> tuple[str, str, str]:
    return line.partition("\t")


def _changes_of_tag(expected: Expected, stands: str | None, peeled: str | None) -> Iterator[str]:
    commit = peeled or stands
    if commit is None:
        yield f"The tag {expected.tag} is gone."
    elif commit != expected.commit:
        yield (
            f"The tag {expected.tag} stands on commit {commit[:10]}; "
            f"{expected.commit[:10]} was published."
        )
    elif expected.tag_object and stands != expected.tag_object:
        yield f"The tag {expected.tag} was replaced by another tag on the same commit."


def _changes_of_files(
    wanted: Mapping[str, str], there: Mapping[str, str], branch: str
) -> Iterator[str]:
    for path in sorted(wanted.keys() | there.keys()):
        if path not in there:
            yield f"{path} is gone from {branch}."
        elif path not in wanted:
            yield f"{path} on {branch} was not published."
        elif there[path] != wanted[path]:
            yield f"{path} on {branch} is not the file that was published."


def fast_import_stream(commit: Commit, parent: str | None) -> Iterator[bytes]:
    """The commit in the language of `git fast-import`, which answers with the commit's id.

    The same commit on the same parent has the same id: its dates are those of its event.
    """
    at = f"{commit.committer} {int(commit.at.timestamp())} +0000"
    yield f"commit {_MADE}\nmark :1\nauthor {at}\ncommitter {at}\n".encode()
    yield from _data(commit.message.encode())
    if parent:
        yield f"from {parent}\n".encode()
    for path, content in sorted(commit.files.items()):
        if content is None:
            yield f"D {path}\n".encode()
        else:
            yield f"M 100644 inline {path}\n".encode()
            yield from _data(content)
    yield b"get-mark :1\n"


def _identity(commit: Commit) -> dict[str, str]:
    """Who writes an object and when, in the variables in which Git takes it."""
    name, _, address = commit.committer.rpartition(" ")
    at = f"{int(commit.at.timestamp())} +0000"
    return {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", address.strip("<>")), ("DATE", at))
    }


def _folders(ref: str) -> list[str]:
    """The names that no ref may have beside this one: Git keeps it as a file in these folders."""
    return [str(folder) for folder in PurePosixPath(ref).parents[:-3]]


def _blob_name(content: bytes) -> str:
    """The name that Git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _data(content: bytes) -> Iterator[bytes]:
    yield f"data {len(content)}\n".encode()
    yield content
    yield b"\n"
