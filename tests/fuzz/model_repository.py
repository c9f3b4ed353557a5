"""The model repository as a reader's input: what others have put there before we publish.

Commits with any message, header and tree, tags and branches of any name on anything; then a model
is published by the real code, and what is there afterwards is compared with what was there before.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from services.publisher.repository import Commit, ModelRepository, Published
from shared.failures import WillNotPass
from tests.fuzz.git_objects import FILE, FOLDER, Objects

LONGEST_SECONDS: Final = 5.0
"""Of the processor's time of all Git commands of a case."""
LONGEST_TEXT: Final = 2_000
REMEDIES: Final = ("set publish.", "delete ", "dismiss")
BRANCH: Final = "main"
RUN: Final = "a" * 32
MODEL: Final = b"\x78\x9c\x00\xff\r\n no text\n"
AT: Final = b"Another <another@localhost> 1700000000 +0000"
LINK: Final = b"120000"
SUBMODULE: Final = b"160000"


def commit_of(version: int, directory: str = "") -> Commit:
    """What is to be published, the same in every case."""
    return Commit(
        pipeline="air_quality",
        version=version,
        run=RUN,
        files={
            f"{directory}model.joblib": MODEL,
            f"{directory}README.md": b"# Card\n",
            f"{directory}drift_report.json": None,
        },
        model_file=f"{directory}model.joblib",
        subject=f"Publish air_quality v{version}: why",
        body="mae 6.4",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        committer="Trimtab <trimtab@localhost>",
        successors={f"air_quality/v{version + 1}": RUN},
    )


@dataclass(frozen=True)
class Foreign:
    """A commit of somebody else."""

    message: bytes
    files: tuple[tuple[bytes, bytes, bytes], ...] = ()
    """Path, mode, content. The last of several at one place counts."""
    headers: bytes = b""
    author: bytes = AT
    parents: tuple[int, ...] = (1,)
    """How many commits back each is; those before the first one are left out."""
    twice: bool = False
    """Whether its tree has every entry two times, which is no tree."""


@dataclass(frozen=True)
class Ref:
    """A ref that is there already, and what it stands on: a commit, or tags around something."""

    name: bytes
    kind: str
    """Of what is at the end: commit, tree or blob."""
    back: int = 0
    """Which commit it is, or belongs to: the head is 0."""
    tags: int = 0
    """How many tag objects are around it."""


@dataclass(frozen=True)
class Place:
    """A repository, and what is to be published there."""

    commit: Commit
    history: tuple[Foreign, ...] = ()
    """The oldest first; the branch stands on the last one."""
    refs: tuple[Ref, ...] = ()
    padding: int = 0
    """Commits of no interest on top, more than the publisher's cache has at first."""
    shallow: bool = False
    """Whether its history ends at the first commit although that names a parent."""


HOSTILE: Final = (
    *(b"", b"\xb2", "\u00b2".encode(), b"9" * 5_000, b"v1,v2", b"\t", b"\0", b"\r", b"\x1e", b"\\"),
    *("\u2028".encode(), b"\xff\xfe", b"%H%x00", b"$(touch canary)", b"../..", b"a" * 70_000),
)
DIGITS: Final = ("\u00b2".encode(), "\u0661".encode(), b"9" * 5_000, b"-1", b"01", b"1e3", b"")
TRAILERS: Final = (b"Trimtab-Model", b"Trimtab-Run", b"trimtab-model", b"TRIMTAB-RUN", b"Trimtab")
BETWEEN: Final = (b": ", b": ", b":", b" : ", b"=", b":\t", b":\n ", b": \r\n ")
ODD_NAMES: Final = (
    *(b".git", b".GIT", b"git~1", b"..", b".", b"-x", b"a\nb", b"\xff\xfe", b"\t", b'"', b"*"),
    *(b"n" * 255, b"n" * 5_000, "\u202e".encode(), b"C:\\x", b":(top)", b"HEAD", b"model.joblib "),
)
OUR_PLACES: Final = (
    *(b"model.joblib", b"README.md", b"drift_report.json", b"models", b"models/model.joblib"),
    *(b"models/README.md", b"models/air/model.joblib", b"models/air", b"README.md/x"),
)
TRAPS: Final = (
    (b".gitattributes", FILE, b"* filter=trap diff=trap merge=trap text=auto ident\n"),
    (b".gitconfig", FILE, b'[filter "trap"]\nsmudge = touch canary\nclean = touch canary\n'),
    (b"config", FILE, b"[core]\nhooksPath = hooks\nfsmonitor = touch canary\n"),
    (b"hooks/pre-push", b"100755", b"#!/bin/sh\ntouch canary\n"),
    (b".gitmodules", FILE, b'[submodule "x"]\npath = x\nurl = ext::touch canary\nupdate = !x\n'),
    (b".mailmap", FILE, b"A <a> <b>\n"),
)


def _values(commit: Commit) -> st.SearchStrategy[bytes]:
    tags = (commit.tag, *commit.successors, f"air_quality/v{commit.version - 1}", "parcels/v1")
    known = [text.encode() for text in (*tags, *tags, RUN, RUN, "b" * 32)]
    numbers = [b"air_quality/v" + digits for digits in DIGITS]
    return st.sampled_from(known) | st.sampled_from([*HOSTILE, *numbers]) | st.binary(max_size=8)


@st.composite
def messages(draw: st.DrawFn, commit: Commit) -> bytes:
    """Words with trailers of ours, or nearly; our own message, bent; or anything."""
    match draw(st.integers(0, 20)):
        case 0 | 1:
            return draw(st.binary(max_size=40))
        case 2 | 3 | 4:
            return commit.message.encode()
        case 5:
            successor = replace(commit, version=commit.version + 1)
            return successor.message.encode()
    ending = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    lines = [b"A change", b""] * draw(st.integers(0, 1))
    for _ in range(draw(st.integers(0, 4))):
        name, between = draw(st.sampled_from(TRAILERS)), draw(st.sampled_from(BETWEEN))
        lines.append(name + between + draw(_values(commit)))
    lines += draw(st.sampled_from([[], [], [b"", b"Words after."], [b""] * 3, [b"---"]]))
    return ending.join(lines) + ending


def _contents(commit: Commit) -> st.SearchStrategy[bytes]:
    ours = [content for content in commit.files.values() if content is not None]
    return st.sampled_from([b"", b"theirs", b"/etc/passwd", b"../../canary", *ours])


@st.composite
def files(draw: st.DrawFn, commit: Commit) -> tuple[tuple[bytes, bytes, bytes], ...]:
    """Trees with odd names, where our files are to be, with what would run in a checkout."""
    names = st.sampled_from(ODD_NAMES) | st.sampled_from([b"a", b"b"]) | st.binary(min_size=1)
    chosen = []
    if draw(st.integers(0, 3)) == 0:
        chosen += [
            (path.encode(), FILE, content) for path, content in commit.files.items() if content
        ]
    for _ in range(draw(st.integers(0, 3))):
        parts = draw(st.lists(names, min_size=1, max_size=3))
        path = b"/".join(part.replace(b"/", b"_").replace(b"\0", b"_") for part in parts)
        path = draw(st.sampled_from([*[path] * 9, *OUR_PLACES]))
        mode = draw(st.sampled_from([FILE, FILE, b"100755", LINK, SUBMODULE, FOLDER]))
        chosen.append((path, mode, draw(_contents(commit))))
    chosen += draw(st.lists(st.sampled_from(TRAPS), max_size=2))
    return tuple(chosen)


HEADERS: Final = (
    *(b"", b"", b"encoding ISO-8859-1\n", b"encoding UTF-16\n", b"encoding \xff\n", b"encoding\n"),
    *(b"gpgsig x\n y\n", b"mergetag object\n x\n", b"x" * 70_000 + b"\n", b"parent 00\n"),
)
AUTHORS: Final = (
    *(AT, AT, b"", b"<", b"A <a> -1 +0000", b"A <a> 99999999999999999999 +9999", b"\xff <\xff>"),
)


@st.composite
def histories(draw: st.DrawFn, commit: Commit) -> tuple[Foreign, ...]:
    """Up to five commits: lines, merges, several roots."""
    return tuple(
        Foreign(
            draw(messages(commit)),
            draw(files(commit)),
            draw(st.sampled_from(HEADERS)),
            draw(st.sampled_from(AUTHORS)),
            draw(st.sampled_from([(1,), (1,), (1, 2), (2, 1, 3), (), (1, 1)])),
            twice=draw(st.integers(0, 30)) == 0,
        )
        for _ in range(draw(st.integers(0, 5)))
    )


@st.composite
def refs(draw: st.DrawFn, commit: Commit) -> tuple[Ref, ...]:
    """Tags where ours is to be, refs in its way, names that look like ours, odd ones."""
    ours = f"refs/tags/{commit.tag}".encode()
    names = st.sampled_from(
        (
            *(ours, ours, ours, ours + b"/x", b"refs/tags/air_quality", b"refs/tags/v1"),
            *(b"refs/heads/main", b"refs/heads/main/x", b"refs/heads/HEAD", b"refs/heads/-x"),
            *(b"refs/x/refs/heads/main", b"refs/x/" + ours, b"refs/trimtab/made", b"refs/stash"),
            *("refs/x\u2028/refs/heads/main".encode(), b"refs/heads/\xff\xfe", b"refs/tags/x"),
            *(b"refs/heads/" + b"n" * 250, b"refs/remotes/origin/main"),
            *(b"refs/replace/" + b"a" * 40, b"refs/notes/commits"),
        )
    )
    return tuple(
        Ref(
            draw(names),
            draw(st.sampled_from(["commit", "commit", "commit", "tree", "blob"])),
            draw(st.integers(0, 4)),
            draw(st.sampled_from([0, 0, 1, 2])),
        )
        for _ in range(draw(st.integers(0, 3)))
    )


@st.composite
def places(draw: st.DrawFn) -> Place:
    """Repositories, from the empty one to one with a shallow end, and a model for each."""
    directory = draw(st.sampled_from(["", "", "models/", "models/air/"]))
    commit = commit_of(draw(st.integers(1, 3)), directory)
    return Place(
        commit,
        draw(histories(commit)),
        draw(refs(commit)),
        draw(st.sampled_from([0] * 9 + [55])),
        shallow=draw(st.integers(0, 9)) == 0,
    )


def build(place: Place, repository: Path) -> Objects:
    """Lay the repository out, and return what is in it."""
    command = ["git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", "."]
    subprocess.run(command, cwd=repository, check=True)
    objects = Objects(repository)
    trees: list[str] = []
    commits: list[str] = []
    history = (*place.history, *[Foreign(b"More")] * place.padding)
    for number, foreign in enumerate(history):
        trees.append(_write_tree(foreign, objects))
        parents = [commits[-back] for back in foreign.parents if back <= len(commits)]
        if place.shallow and number == 0:
            parents.append("b" * 40)
        commits.append(_write_commit(foreign, trees[-1], parents, objects))
    if commits:
        objects.write_ref(f"refs/heads/{BRANCH}".encode(), commits[-1])
        if place.shallow:
            (repository / "shallow").write_text(f"{commits[0]}\n")
    for ref in place.refs:
        objects.write_ref(ref.name, _write_target(ref, trees, commits, objects))
    return objects


def _write_tree(foreign: Foreign, objects: Objects) -> str:
    root: dict[bytes, object] = {}
    for path, mode, content in foreign.files:
        *folders, name = path.split(b"/")
        folder = root
        for part in folders:
            inner = folder.get(part)
            if not isinstance(inner, dict):
                inner = folder[part] = {}
            folder = inner
        folder[name] = {} if mode == FOLDER else (mode, content)
    return _write_folder(root, objects, 2 if foreign.twice else 1)


def _write_folder(folder: dict[bytes, object], objects: Objects, times: int) -> str:
    entries = []
    for name, inner in folder.items():
        match inner:
            case dict():
                entries.append((FOLDER, name, _write_folder(inner, objects, times)))
            case (bytes(mode), _) if mode == SUBMODULE:
                entries.append((mode, name, "c" * 40))
            case (bytes(mode), bytes(content)):
                entries.append((mode, name, objects.write(b"blob", content)))
    return objects.write_tree(entries * times)


def _write_commit(foreign: Foreign, tree: str, parents: Iterable[str], objects: Objects) -> str:
    named = b"".join(b"parent %s\n" % parent.encode() for parent in dict.fromkeys(parents))
    head = b"tree %s\n%sauthor %s\ncommitter %s\n" % (tree.encode(), named, foreign.author, AT)
    return objects.write(b"commit", head + foreign.headers + b"\n" + foreign.message)


def _write_target(ref: Ref, trees: list[str], commits: list[str], objects: Objects) -> str:
    kind, target = "blob", objects.write(b"blob", b"theirs")
    if ref.kind != "blob" and commits:
        back = -1 - min(ref.back, len(commits) - 1)
        kind, target = ref.kind, (trees if ref.kind == "tree" else commits)[back]
    for _ in range(ref.tags):
        content = f"object {target}\ntype {kind}\ntag x\ntagger {AT.decode()}\n\nApproved\n"
        kind, target = "tag", objects.write(b"tag", content.encode())
    return target


def publish_to(place: Place) -> str:
    """Publish, compare, publish once more; returns what became of it."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "models.git")
        folder.mkdir()
        objects = build(place, folder)
        began = _seconds_of_children()
        outcome = _published(place, objects, Path(root, "cache"))
        seconds = _seconds_of_children() - began
        assert seconds < LONGEST_SECONDS, f"Git took {seconds:.1f} s"
        _require_nothing_run(Path(root))
    return outcome


def _seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _require_nothing_run(root: Path) -> None:
    assert {path.name for path in root.iterdir()} <= {"models.git", "cache"}
    assert not list(root.rglob("*canary*"))
    assert {path.name for path in (root / "models.git").iterdir()} <= {
        *("HEAD", "config", "objects", "refs", "shallow", "branches", "description"),
        *("hooks", "info", "packed-refs"),
    }
    assert not (root / "models.git" / "packed-refs").exists()


def _published(place: Place, objects: Objects, cache: Path) -> str:
    repository = ModelRepository(str(objects.repository), BRANCH, cache, None, None)
    before = objects.refs()
    try:
        published = repository.publish(place.commit)
    except WillNotPass as refusal:
        _require_nothing_pushed(before, objects)
        return _kind_of(str(refusal))
    _compare(place.commit, published, before, objects)
    assert repository.publish(place.commit) == Published(published.commit, already_there=True)
    found = repository.files_of(published.commit, place.commit.files)
    assert found is not None
    assert found[place.commit.model_file] == MODEL
    for name in sorted(set(before.values())):
        repository.files_of(name, place.commit.files)  # of any object; it may say that it has none
    return "there already" if published.already_there else "published"


def _require_nothing_pushed(before: dict[str, str], objects: Objects) -> None:
    assert objects.refs() == before, "something was pushed, and then refused"


def _kind_of(refusal: str) -> str:
    """Why, in few words; the text has to say what to do."""
    assert len(refusal) < LONGEST_TEXT
    assert any(remedy in refusal for remedy in REMEDIES), refusal
    for words in ("in the way", "stands on", "took the place"):
        if words in refusal:
            return f"refused: {words}"
    assert "git fsck" in refusal, refusal
    return "refused: broken"


def _compare(
    commit: Commit, published: Published, before: dict[str, str], objects: Objects
) -> None:
    """The branch and the tag stand where they should, and nothing of the others' is gone."""
    branch, tag = f"refs/heads/{BRANCH}", f"refs/tags/{commit.tag}"
    after = objects.refs()
    others = {ref: target for ref, target in before.items() if ref not in (branch, tag)}
    assert {ref: after[ref] for ref in after if ref not in (branch, tag)} == others
    tree, parents, message = _read_commit(published.commit, objects)
    assert _peeled(after[tag], objects) == published.commit
    there = {path: (mode, name) for path, mode, name in objects.files(tree)}
    ours = {path.encode(): content for path, content in commit.files.items()}
    assert objects.read(there[commit.model_file.encode()][1]) == MODEL
    if not published.already_there or tag not in before:
        for path, content in ours.items():
            assert (path in there) == (content is not None)
            assert content is None or there[path][0] == FILE
            assert content is None or objects.read(there[path][1]) == content
    if published.already_there:
        assert after[branch] == before[branch]
        return
    head = before.get(branch)
    assert after[branch] == published.commit
    assert parents == ([_peeled(head, objects)] if head else [])
    assert message == commit.message.encode()
    if parents:
        old = objects.files(_read_commit(parents[0], objects)[0])
        assert [entry for entry in old if entry[0] not in ours] == [
            entry for entry in objects.files(tree) if entry[0] not in ours
        ]


def _read_commit(name: str, objects: Objects) -> tuple[str, list[str], bytes]:
    """Tree, parents and message."""
    head, _, message = objects.read(name).partition(b"\n\n")
    lines = [line.partition(b" ") for line in head.split(b"\n")]
    (tree,) = (value.decode() for key, _, value in lines[:1] if key == b"tree")
    return tree, [value.decode() for key, _, value in lines if key == b"parent"], message


def _peeled(name: str, objects: Objects) -> str:
    """What is inside the tags around it."""
    content = objects.read(name)
    while content.startswith(b"object "):
        name = content[7:47].decode()
        content = objects.read(name)
    return name
