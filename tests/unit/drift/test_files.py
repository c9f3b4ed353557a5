"""Tables in files, good and bad: real files of every kind."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from services.drift.tables.files import open_table, with_numbers
from services.drift.tables.frame import Frame
from shared.tables import content
from shared.tables.content import UnreadableTable

ROWS = [
    {"city": "Delhi", "value": "1.5", "note": "a"},
    {"city": " Agra ", "value": "NA", "note": "b, c"},
    {"city": "", "value": "3", "note": "two\nlines"},
]
Write = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def as_csv() -> bytes:
    lines = [",".join(f'"{value}"' for value in row.values()) for row in ROWS]
    return "\n".join(["city,value,note", *lines, ""]).encode()


def as_json_lines() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", as_csv()),
        ("A.CSV", b"\xef\xbb\xbf" + as_csv().replace(b"city", b" city ")),
        ("a.csv.gz", gzip.compress(as_csv(), mtime=0)),
        ("a.jsonl", as_json_lines()),
        ("a.ndjson", b"\xef\xbb\xbf" + as_json_lines()),
        ("a.jsonl.gz", gzip.compress(as_json_lines(), mtime=0)),
        ("a.json", as_json_lines()),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
    ],
)
def test_every_kind_of_text_gives_the_same_table(write: Write, name: str, data: bytes) -> None:
    file = open_table(write(name, data))
    table = file.table()
    assert table.column_names == file.names == ["city", "value", "note"]
    assert table.column("city").to_pylist() == ["Delhi", "Agra", None]
    assert table.column("value").to_pylist() == ["1.5", None, "3"]
    assert table.column("note").to_pylist() == ["a", "b, c", "two\nlines"]


def test_parquet_is_read_by_row_group_and_only_the_columns_that_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {"x": range(10), "y": [" NA "] * 10, "c": pa.array(["u", "v"] * 5).dictionary_encode()}
    )
    parquet.write_table(table, path, row_group_size=4)
    chunks = list(open_table(path).chunks(["c", "y", "no such column"]))
    assert [chunk.num_rows for chunk in chunks] == [4, 4, 2]
    assert chunks[0].column_names == ["y", "c"]
    assert chunks[0].column("y").to_pylist() == [None] * 4
    assert chunks[0].column("c").to_pylist() == ["u", "v", "u", "v"]
    assert open_table(path).table().num_rows == 10


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_rows_are_counted_if_no_column_is_wanted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        parquet.write_table(pa.table({"x": [1, 2, 3]}), path)
    else:
        path.write_text("x\n1\n2\n3\n" if name == "a.csv" else '{"x": 1}\n' * 3)
    assert sum(chunk.num_rows for chunk in open_table(path).chunks(["y"])) == 3


def test_what_follows_the_first_block_may_be_of_another_type(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "BLOCK_BYTES", 1 << 10)
    rows = [str(row) for row in range(1000)] + ["broken", "1e3", ""]
    path = write("a.csv", "\n".join(["x,y", *(f"{value},k" for value in rows)]).encode())
    chunks = list(open_table(path).chunks(["x"], numbers=["x"]))
    assert len(chunks) > 2
    assert {chunk.schema.field("x").type for chunk in chunks} == {pa.float64(), pa.string()}
    values = np.concatenate([Frame(chunk).numbers("x") for chunk in chunks])
    assert values[:1000].tolist() == list(range(1000))
    np.testing.assert_array_equal(values[1000:], [np.nan, 1000.0, np.nan])


def test_json_lines_whose_types_change(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "BLOCK_BYTES", 64)
    lines = [{"x": i, "z": None} for i in range(20)]
    lines += [{"x": 0.5}, {"x": "broken"}, {"x": None, "new": True}, {"x": 2**70}]
    path = write("a.jsonl", "\n".join(map(json.dumps, lines)).encode())
    file = open_table(path)
    table = file.table()
    assert table.column_names == file.names == ["x", "z", "new"]
    values = Frame(table).numbers("x")
    np.testing.assert_array_equal(values, [*range(20), 0.5, np.nan, np.nan, 2.0**70])
    assert np.isnan(Frame(table).numbers("z")).all()


def test_whole_numbers_and_fractions_in_different_blocks_stay_numbers(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "BLOCK_BYTES", 16)
    table = open_table(write("a.jsonl", b'{"x": 1}\n' * 5 + b'{"x": 1.5}\n' * 5)).table()
    assert table.column("x").to_pylist() == [1.0] * 5 + [1.5] * 5


def test_lists_and_objects_are_missing_where_they_are_to_be_compared(write: Write) -> None:
    path = write("a.jsonl", b'{"x": [1, 2], "y": {"z": 1}}\n{"x": null, "y": {"z": 2}}\n')
    (chunk,) = open_table(path).chunks(["x", "y"], numbers=["x"])
    frame = Frame(chunk)
    assert frame.rows == 2
    assert np.isnan(frame.numbers("x")).all()
    assert frame.categories("y")[0].tolist() == [-1, -1]


@pytest.mark.parametrize("line", [b'null{"co', b'[]{"a', b"7", b'"a"', b"nul", b'\xef\xbb\xbf1{"a'])
def test_a_line_that_is_no_object_does_not_end_the_process(write: Write, line: bytes) -> None:
    """Arrow's reader did, on the first of these."""
    with pytest.raises(UnreadableTable, match="JSON"):
        open_table(write("a.jsonl", line)).table()
    for data in (b'{"a": 1}\n' + line + b"\n", line + b'\n{"a": 1}'):
        file = open_table(write("a.jsonl", data))
        assert file.table().to_pydict() == {"a": [1]}
        assert file.set_aside == {"not a JSON object": 1}


def test_lines_of_json_that_are_not_utf8_are_refused(write: Write) -> None:
    with pytest.raises(UnreadableTable, match="not UTF-8: byte 8 is 0x80; save it as UTF-8"):
        open_table(write("a.jsonl", b'{"x": "a\x80"}\n')).table()


def test_half_characters_of_json_do_not_stop_the_reader(write: Write) -> None:
    path = write("a.jsonl", b'{"\\ud800x": "\\udfff", "y": 1}\n{"y": "\\ud83d"}\n')
    table = open_table(path).table()
    assert table.column("?x").to_pylist() == ["?", None]
    assert table.column("y").to_pylist() == ["1", "?"]


def test_a_header_without_rows_is_a_table_without_rows(write: Write) -> None:
    (chunk,) = open_table(write("a.csv", b"x,y\n")).chunks(["x"])
    assert chunk.num_rows == 0


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"\n\n", "empty, without even a header"),
        ("a.csv", b"x,y\n1,2\n3\n4\n", "2 of 3 rows are broken, most often with 'fewer values"),
        ("a.csv", b"Report\nx,y\n1,2\n", "more values than columns'; its header names 'Report'"),
        ("a.csv", b"x,x\n1,2\n", "two columns named 'x'"),
        ("a.csv", b"x, x\n1,2\n", "two columns named 'x'"),
        ("a.csv", "x,y\n1,é\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", "é,y\n1,2\n".encode("latin-1"), "not UTF-8"),
        (
            "a.csv",
            "x,y\n1,2\n".encode("utf-16-le"),
            "character 0; if it is UTF-16, save it as UTF-8",
        ),
        ("a.csv", "x,y\n1,2\n".encode("utf-16") + b"\x00", "not UTF-16-LE: byte 18 is 0x00"),
        (
            "a.csv",
            b"PK\x03\x04 and so on",
            "a workbook or another ZIP archive; save the sheet as CSV",
        ),
        ("a.csv.gz", gzip.compress(b"x,y\n" + b"1,2\n" * 9999, mtime=0)[:-20], "cannot be read"),
        ("a.parquet", b"PAR1 and so on", "not a Parquet table"),
        (
            "a.json",
            b'{"x": 1}\n[2]\n3\n',
            "2 of 3 rows are broken, most often with 'not a JSON obj",
        ),
        (
            "a.json",
            b"[1, 2]",
            "not a JSON list of objects, an object with such a list under 'records'",
        ),
        ("a.json", b'[{"x": 1}', "not JSON"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.jsonl", '{"x": "é"}\n'.encode("latin-1"), "not UTF-8"),
        ("a.jsonl", b"\n \n", "empty"),
        ("a.jsonl.gz", gzip.compress(b'{"x": 1}\n' * 9999, mtime=0)[:-20], "cannot be read"),
        ("a.xlsx", b"PK", "of no known kind; use .csv"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(write: Write, name: str, data: bytes, said: str) -> None:
    path = write(name, data)
    with pytest.raises(UnreadableTable, match=said) as raised:
        open_table(path).table()
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_parquet_file_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"x": range(10_000)}), path)
    content = bytearray(path.read_bytes())
    content[100:5000] = bytes(4900)
    path.write_bytes(content)
    with pytest.raises(UnreadableTable, match="cannot be read"):
        open_table(path).table()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match=r"none\.csv: cannot be read: No such file"):
        open_table(tmp_path / "none.csv")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match="a folder"):
        open_table(tmp_path)


def test_texts_become_numbers_only_if_all_of_them_spell_some() -> None:
    table = pa.table({"x": ["1", None, "-2.5e3"], "y": ["1", "two", "3"], "z": ["1", "2", "3"]})
    typed = with_numbers(table, ["x", "y"])
    assert typed.column("x").to_pylist() == [1.0, None, -2500.0]
    assert typed.column("y").to_pylist() == ["1", "two", "3"]
    assert typed.schema.field("z").type == pa.string()


VALUES = st.one_of(
    st.none(),
    st.floats(allow_nan=False),
    st.integers(),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(VALUES, min_size=1), block=st.integers(1, 200))
def test_json_lines_give_the_numbers_that_python_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[object], block: int
) -> None:
    """Whatever the mixture of types and wherever the blocks end."""
    monkeypatch.setattr(content, "BLOCK_BYTES", block)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"x": value}) + "\n" for value in values))
    chunks = open_table(path).chunks(["x"], numbers=["x"])
    found = np.concatenate([Frame(chunk).numbers("x") for chunk in chunks])
    expected = [_number(value) for value in values]
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found[np.isfinite(found)], np.array(expected)[np.isfinite(expected)])


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def test_a_large_list_of_json_is_read_in_pieces(tmp_path: Path) -> None:
    rows = [{"a": number, "b": "x" * 90} for number in range(60_000)]
    (tmp_path / "a.json").write_text(json.dumps({"n": 1, "records": [7, *rows]}))
    file = open_table(tmp_path / "a.json")
    chunks = list(file.chunks())
    assert len(chunks) > 1
    assert [value for chunk in chunks for value in chunk["a"].to_pylist()] == list(range(60_000))
    assert file.set_aside.total() == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"a\\"b": 1, "c": [2]}',
        '{"a" : 1, "c":{"d": [2]}}',
        '{"a": "}{[]:,\\"", "c": 1}',
        '{"a": "x\\": ", "c": 1}',
    ],
)
def test_lines_that_arrow_may_not_read_are_read_alike(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{line}\n" * 5)
    table = open_table(tmp_path / "a.jsonl").table()
    assert table.num_rows == 5
    assert table.column_names == list(json.loads(line))
