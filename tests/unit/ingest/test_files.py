"""A watched folder: which files are new, in what order, and what becomes of the broken ones."""

import os
import time
from pathlib import Path

import pytest

from services.ingest.files import NewFiles, read_new_files
from shared.failures import WillNotPass
from shared.pipeline import FilesSource, Schema

SCHEMA = Schema.model_validate({"columns": {"x": {"type": "number", "aliases": ["y"]}}})
LONG_AGO = 1_000_000_000
NOTHING_KNOWN: frozenset[str] = frozenset()


def put(path: Path, text: str, changed: float = LONG_AGO) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (changed, changed))
    return path


def read(path: Path, known: frozenset[str] = NOTHING_KNOWN, pattern: str = "*") -> NewFiles:
    return read_new_files(FilesSource(kind="files", path=path, pattern=pattern), SCHEMA, known)


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
