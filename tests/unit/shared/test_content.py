"""From bytes to text: compression, encodings, bounds."""

import gzip
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.tables import content
from shared.tables.content import (
    UnreachableFile,
    UnreadableTable,
    decode,
    kind_of,
    named,
    opened,
    text_blocks,
    unpacked,
)

ENCODINGS = ("utf-8-sig", "utf-16", "utf-32")
"""Those that write a mark."""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_mark_says_the_encoding_whatever_was_declared(encoding: str) -> None:
    assert decode("größe\n1\n".encode(encoding), "latin-1") == "größe\n1\n"


def test_without_a_mark_the_declared_encoding_counts() -> None:
    assert decode("größe".encode("latin-1"), "ISO-8859-1") == "größe"
    assert decode("größe €".encode("cp1252"), "windows-1252") == "größe €"
    assert decode("größe".encode()) == "größe"


@pytest.mark.parametrize("charset", ["us-ascii", "no such", "rot13", "punycode", "idna", "\0", ""])
def test_what_is_no_encoding_of_tables_is_taken_for_utf8(charset: str) -> None:
    assert decode("größe".encode(), charset) == "größe"


@pytest.mark.parametrize("block", [1, 3, 1 << 24])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"caf\xe9", "not UTF-8: byte 3 is 0xe9; save it as UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9", "not UTF-8: byte 6 is 0xe9"),
        ("é" * 10 + "\n", None),
        ("é".encode() * 10 + b"\xc3", "not UTF-8: byte 20 is 0xc3"),
        ("ab\n".encode("utf-16") + b"\x00", "not UTF-16-LE: byte 8 is 0x00"),
    ],
)
def test_what_is_not_of_the_encoding_is_named_by_its_byte(
    data: bytes | str, said: str | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "BLOCK_BYTES", block)
    if isinstance(data, str):
        assert decode(data.encode()) == data
        return
    with pytest.raises(UnreadableTable, match=said):
        decode(data)


@settings(deadline=None)
@given(text=st.text(st.sampled_from("aé\n\r,"), max_size=60), block=st.integers(1, 9))
def test_blocks_are_the_text_and_end_with_lines(text: str, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "BLOCK_BYTES", block)
        blocks = list(text_blocks(BytesIO(text.encode())))
    assert "".join(blocks) == text
    for each, following in pairwise(blocks):
        assert each.endswith(("\n", "\r"))
        assert not (each.endswith("\r") and following.startswith("\n"))


def test_a_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "LARGEST_TABLE_BYTES", 1_000)
    monkeypatch.setattr(content, "BLOCK_BYTES", 100)
    assert sum(map(len, text_blocks(BytesIO(b"x\n" * 10_000)))) == 20_000
    with pytest.raises(UnreadableTable, match="a line of more than 1,000 characters"):
        list(text_blocks(BytesIO(b"x" * 2_000)))


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    for name, data in (("a.csv", gzip.compress(b"a\n1\n")), ("a.csv.gz", b"a\n1\n")):
        (tmp_path / name).write_bytes(data)
        with opened(tmp_path / name) as stream:
            assert stream.read() == b"a\n1\n"


def test_bytes_are_unpacked_within_a_bound() -> None:
    assert unpacked(b"plain", 3) == b"plain"
    packed = gzip.compress(bytes(1_000))
    assert unpacked(packed, 1_000) == bytes(1_000)
    with pytest.raises(UnreadableTable, match="gzip of more than 999 bytes"):
        unpacked(packed, 999)
    with pytest.raises(UnreadableTable, match="broken gzip"):
        unpacked(packed[:-9], 1_000)


def test_what_the_machine_refuses_is_told_from_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UnreachableFile, match="it: cannot be read: No such file"), named("it"):
        kind_of(tmp_path / "none.csv")
    (tmp_path / "torn.csv").write_bytes(gzip.compress(b"a\n" * 99)[:-9])
    with (
        pytest.raises(
            UnreadableTable, match="it: cannot be read: broken gzip: its end is missing"
        ) as torn,
        named("it"),
        opened(tmp_path / "torn.csv") as stream,
    ):
        stream.read()
    assert torn.type is UnreadableTable


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.CSV", b"x", "csv"),
        ("a.csv.gz", b"x", "csv"),
        ("a.ndjson", b"x", "json"),
        ("a.json.gz", b"x", "json"),
        ("a.parquet", b"x", "parquet"),
        ("a.csv", b"PAR1", "parquet"),
    ],
)
def test_kinds_of_files(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert kind_of(tmp_path / name) == kind
