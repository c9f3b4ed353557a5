"""From bytes to text: compression, encodings, bounds."""

import bz2
import gzip
import lzma
import pickle
import tarfile
import zipfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather, orc

from shared.gunzip import GzipRefused
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
    for name, data in (("a.csv", gzip.compress(b"a\n1\n", mtime=0)), ("a.csv.gz", b"a\n1\n")):
        (tmp_path / name).write_bytes(data)
        with opened(tmp_path / name) as stream:
            assert stream.read() == b"a\n1\n"


def test_bytes_are_unpacked_within_a_bound() -> None:
    assert unpacked(b"plain", 3) == b"plain"
    packed = gzip.compress(bytes(1_000), mtime=0)
    assert unpacked(packed, 1_000) == bytes(1_000)
    with pytest.raises(UnreadableTable, match="gzip of more than 999 bytes"):
        unpacked(packed, 999)
    with pytest.raises(UnreadableTable, match="broken gzip"):
        unpacked(packed[:-9], 1_000)


def test_what_the_machine_refuses_is_told_from_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UnreachableFile, match="it: cannot be read: No such file"), named("it"):
        kind_of(tmp_path / "none.csv")
    (tmp_path / "torn.csv").write_bytes(gzip.compress(b"a\n" * 99, mtime=0)[:-9])
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


TABLE = b"x,y\n" + b"1,2\n" * 99


def _in_zip(data: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", data)
    return buffer.getvalue()


def _in_tar(data: bytes) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        about = tarfile.TarInfo("a.csv")
        about.size = len(data)
        archive.addfile(about, BytesIO(data))
    return buffer.getvalue()


def _in_arrow(*, as_stream: bool) -> bytes:
    buffer = pa.BufferOutputStream()
    table = pa.table({"x": [1, 2], "y": ["a", "b"]})
    if as_stream:
        with pa.ipc.new_stream(buffer, table.schema) as stream:
            stream.write_table(table)
    else:
        feather.write_feather(table, buffer)
    return bytes(buffer.getvalue())


def _in_orc() -> bytes:
    buffer = BytesIO()
    orc.write_table(pa.table({"x": range(9), "y": ["a"] * 9}), buffer)
    return buffer.getvalue()


def _in_numpy() -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


def _in_parquet() -> bytes:
    buffer = BytesIO()
    pq.write_table(pa.table({"x": [1, 2]}), buffer)
    return buffer.getvalue()


def _packed_by_arrow(codec: str) -> bytes:
    buffer = BytesIO()
    with pa.CompressedOutputStream(buffer, codec) as stream:
        stream.write(TABLE)
        stream.flush()
        return buffer.getvalue()


OTHER_FORMATS = {
    "packed with bzip2; unpack it, or pack it with gzip": bz2.compress(TABLE),
    "packed with xz": lzma.compress(TABLE),
    "packed with LZMA": lzma.compress(TABLE, lzma.FORMAT_ALONE),
    "packed with Zstandard": _packed_by_arrow("zstd"),
    "packed with LZ4": _packed_by_arrow("lz4"),
    "a workbook or another ZIP archive; save the sheet as CSV, or unpack": _in_zip(TABLE),
    "a tar archive; unpack it": _in_tar(TABLE),
    "a 7-Zip archive": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(99),
    "a RAR archive": b"Rar!\x1a\x07\x01\0" + bytes(99),
    "an old Excel workbook": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
    "an Arrow or Feather file; save the table as Parquet": _in_arrow(as_stream=False),
    "a stream of Arrow": _in_arrow(as_stream=True),
    "a Feather file of version 1": b"FEA1" + bytes(9),
    "an ORC file": _in_orc(),
    "an Avro file": b"Obj\x01\x04\x14avro.codec",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "an array of NumPy": _in_numpy(),
    "a pickle of Python": pickle.dumps({"x": [1, 2]}),
    "an SQLite database": b"SQLite format 3\0" + bytes(99),
    "a PDF document": b"%PDF-1.7\n",
    "a web page or XML, not a table": b"\n<!DOCTYPE html>\n<html>",
}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz", "a.parquet", "a.other"])
@pytest.mark.parametrize("said", OTHER_FORMATS)
def test_another_format_is_named_whatever_the_file_is_called(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / name).write_bytes(OTHER_FORMATS[said])
    with pytest.raises(UnreadableTable, match=said):
        kind_of(tmp_path / name)


@pytest.mark.parametrize("said", [said for said in OTHER_FORMATS if "web page" not in said])
def test_another_format_is_named_in_an_answer_and_within_gzip(said: str) -> None:
    with pytest.raises(UnreadableTable, match=said):
        decode(unpacked(gzip.compress(OTHER_FORMATS[said], mtime=0), 100_000))


PACKED = gzip.compress(TABLE, mtime=0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(PACKED, mtime=0), "packed with gzip twice; unpack it once"),
        (gzip.compress(_in_parquet(), mtime=0), "Parquet that is packed with gzip; unpack it"),
    ],
)
def test_gzip_of_what_is_packed_already(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with (
        pytest.raises((UnreadableTable, GzipRefused), match=said),
        opened(tmp_path / "a.csv") as stream,
    ):
        list(text_blocks(stream))


def test_a_parquet_file_that_gzip_has_packed(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(gzip.compress(_in_parquet(), mtime=0))
    with pytest.raises(UnreadableTable, match="packed with gzip; unpack it"):
        kind_of(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "header",
    ["BZh,x", "PK,x", "ORC,x", "ORC\tx", "PARENT,x", "FEA1,x", "ARROW1,x", "Obj,x", "]x,y"],
)
def test_a_header_may_begin_like_another_format(tmp_path: Path, header: str) -> None:
    text = f"{header}\n1,é\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert kind_of(tmp_path / "a.csv") == "csv"
    assert decode(text.encode()) == text
