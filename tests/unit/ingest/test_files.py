"""A watched folder: which files are new, in what order, and what becomes of the broken ones."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from services.ingest.files import NewFiles, read_new_files
from shared.failures import WillNotPass, WillPass
from shared.pipeline import FilesSource, Schema

SCHEMA = Schema.model_validate({"columns": {"x": {"type": "number", "aliases": ["y"]}}})
NOW = datetime(2026, 5, 1, tzinfo=UTC)
LONG_AGO = 1_000_000_000
NOTHING_KNOWN: frozenset[str] = frozenset()


def put(path: Path, text: str, changed: float = LONG_AGO) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (changed, changed))
    return path


def read(
    path: Path,
    known: frozenset[str] = NOTHING_KNOWN,
    pattern: str = "*",
    waited: NewFiles | None = None,
    now: datetime = NOW,
) -> NewFiles:
    source = FilesSource(kind="files", path=path, pattern=pattern)
    return read_new_files(source, SCHEMA, known, waited.waiting if waited else {}, now)


@contextmanager
def unreachable(path: Path, number: int = errno.ESTALE) -> Iterator[None]:
    """The operating system does not open the file."""
    open_ = Path.open

    def refuse(self: Path, *arguments: Any, **how: Any) -> Any:
        if self == path:
            raise OSError(number, os.strerror(number))
        return open_(self, *arguments, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        yield


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_waits_and_the_others_are_read(
    tmp_path: Path, number: int
) -> None:
    path = put(tmp_path / "a.csv", "x\n1\n")
    put(tmp_path / "b.csv", "x\n2\n")
    with unreachable(path, number):
        first = read(tmp_path)
    assert first.table["x"].tolist() == ["2"]
    assert first.set_aside == {}
    (waiting,) = first.waiting.values()
    assert waiting.reason == f"a.csv: cannot be read: {os.strerror(number)}"
    later = read(tmp_path, frozenset(first.read), waited=first, now=NOW + timedelta(minutes=1))
    assert later.table["x"].tolist() == ["1"]
    assert later.waiting == {}


def test_the_pauses_between_the_tries_grow_to_an_hour(tmp_path: Path) -> None:
    new, now, pauses = NewFiles(pd.DataFrame()), NOW, []
    with unreachable(put(tmp_path / "a.csv", "x\n1\n")):
        for _ in range(12):
            new = read(tmp_path, waited=new, now=now)
            (waiting,) = new.waiting.values()
            pauses.append(waiting.next_try_at - now)
            early = read(tmp_path, waited=new, now=waiting.next_try_at - timedelta(seconds=1))
            assert early.waiting == new.waiting
            now = waiting.next_try_at
    assert waiting.tries == 12
    assert waiting.since == NOW
    assert pauses[:3] == [timedelta(seconds=seconds) for seconds in (30, 60, 120)]
    assert pauses[-1] == timedelta(hours=1)
    assert read(tmp_path, waited=new, now=now).table["x"].tolist() == ["1"]


def test_a_broken_gzip_file_is_no_fault_of_the_machine(tmp_path: Path) -> None:
    put(tmp_path / "a.csv.gz", "no gzip")
    new = read(tmp_path)
    assert (len(new.set_aside), new.waiting) == (1, {})


def test_a_folder_that_cannot_be_read_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bool:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(WillPass, match="cannot be read: Stale file handle"):
        read(tmp_path)


def test_files_are_read_oldest_first_then_by_name(tmp_path: Path) -> None:
    put(tmp_path / "b.csv", "x\n2\n")
    put(tmp_path / "c.csv", "x\n3\n")
    put(tmp_path / "a.jsonl", '{"x": 4}', LONG_AGO + 1)
    put(tmp_path / "z.csv", "x\n1\n", LONG_AGO - 1)
    new = read(tmp_path)
    assert new.table["x"].tolist() == ["1", "2", "3", "4"]
    assert [mark.split()[0] for mark in new.read] == ["z.csv", "b.csv", "c.csv", "a.jsonl"]


def test_no_file_is_read_twice_unless_it_changed(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "x\n1\n")
    known = frozenset(read(tmp_path).read)
    again = read(tmp_path, known)
    assert again.table.empty
    assert again.read == []
    put(path, "x\n2\n", LONG_AGO + 1)
    assert read(tmp_path, known).table["x"].tolist() == ["2"]


def test_a_file_that_may_be_half_written_waits(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "x\n1\n", time.time())
    assert read(tmp_path).read == []
    put(path, "x\n1\n", time.time() - 3)
    assert len(read(tmp_path).read) == 1


def test_a_file_from_a_machine_whose_clock_is_ahead_is_read(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "x\n1\n", time.time() + 86_400)
    assert len(read(tmp_path).read) == 1


def test_hidden_files_folders_and_other_patterns_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / ".a.csv", "x\n1\n")
    put(tmp_path / ".hidden" / "b.csv", "x\n2\n")
    put(tmp_path / "c.txt", "x\n3\n")
    put(tmp_path / "folder.csv" / "d.csv", "x\n4\n")
    assert read(tmp_path, pattern="*.csv").read == []
    assert read(tmp_path, pattern="**/*.csv").table["x"].tolist() == ["4"]


def test_files_of_one_name_in_two_folders_are_two_files(tmp_path: Path) -> None:
    put(tmp_path / "one" / "a.csv", "x\n1\n")
    put(tmp_path / "two" / "a.csv", "x\n2\n")
    new = read(tmp_path, pattern="*/*.csv")
    assert len(set(new.read)) == 2
    assert read(tmp_path, frozenset(new.read[:1]), "*/*.csv").table["x"].tolist() == ["2"]


def test_a_broken_file_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "x\n1\n")
    put(tmp_path / "b.json", "{")
    put(tmp_path / "c.csv", "another\n2\n")
    put(tmp_path / "d.csv", "y\n4\n")
    new = read(tmp_path)
    assert new.table["x"].tolist() == ["1", "4"]
    reasons = {mark.split()[0]: reason for mark, reason in new.set_aside.items()}
    assert reasons.keys() == {"b.json", "c.csv"}
    assert reasons["b.json"].startswith("b.json: not JSON")
    assert "no column x; it has another" in reasons["c.csv"]
    assert read(tmp_path, frozenset([*new.read, *new.set_aside])).set_aside == {}


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    path = put(tmp_path / ".a.csv", "x\n1\n")
    assert read(path).table["x"].tolist() == ["1"]


def test_a_name_that_is_no_text_has_a_mark_that_can_be_stored(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv")), "x\n1\n")
    (mark,) = read(tmp_path).read
    assert mark.encode().startswith(rb"caf\xe9.csv")


def test_links_are_followed_and_links_to_nothing_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(put(tmp_path / "there.csv", "x\n1\n"))
    (tmp_path / "b.csv").symlink_to(tmp_path / "gone.csv")
    assert len(read(tmp_path).read) == 2


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WillNotPass, match=r"source\.path: .*nowhere is neither"):
        read(tmp_path / "nowhere")


def test_a_pattern_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(WillNotPass, match=r"source\.pattern"):
        read(tmp_path, pattern="/etc/*")
