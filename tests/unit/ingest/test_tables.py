"""From bytes to a table of texts: every kind of file, and what is wrong with a broken one."""

import contextlib
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.tables import FAULT, MOST_OTHER_COLUMNS, parse_csv, parse_json, read_file
from shared.tables import content
from shared.tables.content import UnreadableTable, decode
from shared.tables.json_rows import LONGEST_VALUE

ROWS = [{"id": "007", "value": "1.50"}, {"id": "a, b", "value": None}]
CSV = 'id,value\r\n007,1.50\r\n"a, b",NA\r\n'

cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1))
def test_csv_values_are_as_published(rows: list[tuple[str, str]]) -> None:
    while rows and not any(cell.strip(" \t") for cell in rows[-1]):
        rows.pop()  # without a value at the end, as a spreadsheet leaves them behind
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    table = parse_csv("\n".join(["a,b", *lines]))
    assert [tuple(row) for row in table.to_numpy()] == rows


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_the_csv_reader(text: str) -> None:
    with contextlib.suppress(UnreadableTable):
        assert parse_csv(text).columns.is_unique


def test_a_csv_row_of_another_length_has_a_fault_and_the_others_have_none() -> None:
    table = parse_csv("a,b,c\n1,2,3\n1,2\n\n1,2,3,4\n5,6,7\n")
    assert table[FAULT].tolist() == [
        None,
        "fewer values than columns",
        "more values than columns",
        None,
    ]
    assert table.loc[3, ["a", "b", "c"]].tolist() == ["5", "6", "7"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty, without even a header"),
        ("\n\n", "empty, without even a header"),
        ("a,b,a\n1,2,3\n", "two columns named 'a'"),
    ],
)
def test_what_is_no_csv_table(text: str, fault: str) -> None:
    with pytest.raises(UnreadableTable, match=fault):
        parse_csv(text)


def test_json_numbers_keep_their_published_digits() -> None:
    text = '[{"a": 1, "b": 1.50, "c": 12345678901234567890123}, {"b": null, "c": NaN, "d": true}]'
    table = parse_json(text)
    assert table.to_dict("records") == [
        {"a": "1", "b": "1.50", "c": "12345678901234567890123", "d": None},
        {"a": None, "b": None, "c": None, "d": "true"},
    ]


def test_json_numbers_longer_than_python_reads_are_texts() -> None:
    assert parse_json('[{"a": ' + "9" * 5_000 + "}]")["a"].tolist() == ["9" * 5_000]


def test_json_infinity_is_no_missing_value() -> None:
    assert parse_json('[{"a": Infinity}]')["a"].tolist() == ["Infinity"]


def test_nested_json_is_its_text() -> None:
    assert parse_json('[{"a": {"b": ["c", 1]}}]')["a"].tolist() == ['{"b": ["c", "1"]}']


def test_lone_surrogates_cannot_stop_the_store() -> None:
    table = parse_json(r'[{"a\ud800": "b\udfff", "c": "\ud83d\ude00"}]')
    assert table.to_dict("records") == [{"a?": "b?", "c": "😀"}]


@pytest.mark.parametrize(
    ("text", "records", "fault"),
    [
        ("{", None, "not JSON"),
        ("[1]", None, "not a JSON list of objects at the top"),
        ('{"error": "no"}', None, "not a JSON list of objects at the top"),
        ('{"rows": 1}', "rows", "under the key 'rows'"),
        ("[]", "rows", "under the key 'rows'"),
        ("[" * 200_000, None, "not JSON"),
    ],
)
def test_what_is_no_json_table(text: str, records: str | None, fault: str) -> None:
    with pytest.raises(UnreadableTable, match=fault):
        parse_json(text, records)


def test_json_under_a_key() -> None:
    assert parse_json('{"rows": [{"a": 1}]}', "rows")["a"].tolist() == ["1"]


def test_a_json_line_that_is_no_object_is_a_row_with_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n[2]\n{"a": 3\n{"a": 4}\n')
    table = read_file(tmp_path / "a.jsonl")
    assert table["a"].tolist() == ["1", None, None, "4"]
    assert table[FAULT].tolist() == [None, "not a JSON object", "not a JSON object", None]


def test_text_with_and_without_byte_order_mark() -> None:
    assert decode("é".encode()) == decode("é".encode("utf-8-sig")) == "é"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_that_is_not_utf8_is_named_by_its_byte(mark: bytes) -> None:
    with pytest.raises(UnreadableTable, match=rf"byte {len(mark) + 3} is 0xe9; save it as UTF-8"):
        decode(mark + b"caf\xe9")


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "a.json", "a.jsonl", "a.ndjson"])
def test_every_kind_of_text_file(tmp_path: Path, name: str) -> None:
    text = {
        "csv": "\ufeff" + CSV,
        "json": json.dumps(ROWS),
        "jsonl": "\r\n".join(map(json.dumps, ROWS)),
    }
    kind = {"CSV": "csv", "gz": "csv", "ndjson": "jsonl"}.get(name.split(".")[-1]) or name[2:]
    data = text[kind].encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    table = read_file(tmp_path / name)
    assert table.columns.tolist() == ["id", "value"]
    assert table["id"].tolist() == ["007", "a, b"]
    assert table["value"].tolist() == ["1.50", "NA" if kind == "csv" else None]


def test_parquet_values_become_texts(tmp_path: Path) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    frame = pd.DataFrame(
        {
            "number": [1.5, None],
            "whole": [1, 2],
            "text": ["x", None],
            "kind": pd.Categorical(["u", "v"]),
            "time": [noon, noon],
            "nested": [[1], [2]],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    first, second = read_file(tmp_path / "a.parquet").to_dict("records")
    assert first == {
        "number": "1.5",
        "whole": "1",
        "text": "x",
        "kind": "u",
        "time": "2026-01-01 12:00:00.000000Z",
        "nested": "[1]",
    }
    assert second["number"] is None
    assert second["text"] is None


def test_a_nan_of_parquet_is_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([float("nan"), 2.0])}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet")["a"].tolist() == [None, "2"]


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("a.xlsx", b"PK", r"a\.xlsx: of no known kind; use \.csv"),
        ("a.csv", b"a\n\xff\n", r"a\.csv: not UTF-8: byte 2 is 0xff"),
        ("a.csv.gz", gzip.compress(b"a\n1\n" * 99, mtime=0)[:-12], r"a\.csv\.gz: cannot be read"),
        ("a.parquet", b"PAR1", r"a\.parquet: not a Parquet table"),
        ("a.json", b"{", r"a\.json: not JSON"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, name: str, data: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableTable, match=fault):
        read_file(tmp_path / name)


def test_a_damaged_gzip_stream(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(bytes(range(256)) * 50))
    data[20:60] = b"\xff" * 40
    (tmp_path / "a.csv.gz").write_bytes(data)
    with pytest.raises(UnreadableTable, match="cannot be read"):
        read_file(tmp_path / "a.csv.gz")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match=r"gone\.csv: cannot be read: No such file"):
        read_file(tmp_path / "gone.csv")


def test_two_parquet_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UnreadableTable, match="two columns named 'a'"):
        read_file(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.parquet"])
def test_a_small_file_of_a_large_table(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "LARGEST_TABLE_BYTES", 50_000)
    frame = pd.DataFrame({"a": ["x"] * 40_000})
    frame.to_parquet(tmp_path / name) if name.endswith("t") else frame.to_csv(
        tmp_path / name, index=False
    )
    assert (tmp_path / name).stat().st_size < 50_000
    with pytest.raises(UnreadableTable, match=r"(larger|gzip of more) than 50,000 bytes"):
        read_file(tmp_path / name)


def test_a_missing_list_of_parquet_is_a_missing_value(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [[1, 2], None]}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet")["a"].tolist() == ["[1, 2]", None]


def test_of_json_the_schemas_columns_are_kept_and_some_others() -> None:
    rows = [{f"k{number}": 1} for number in range(300)] + [{"wanted": 2, "\0fault": "mine"}]
    table = parse_json(json.dumps(rows), wanted={"wanted"})
    assert len(table.columns) == MOST_OTHER_COLUMNS + 1 + 1
    assert FAULT not in table
    assert table["wanted"].tolist() == [None] * 300 + ["2"]
    assert table["k7"].tolist() == [None] * 7 + ["1"] + [None] * 293


def test_a_deeply_nested_value_costs_its_row() -> None:
    deep = "[" * 65 + "]" * 65
    table = parse_json(f'[{{"a": 1}}, {{"a": {deep}}}, {{"a": {deep[1:-1]}}}]')
    assert table[FAULT].tolist() == [None, "a value nested more than 64 deep", None]


def test_a_large_list_is_read_row_by_row(tmp_path: Path) -> None:
    rows = [{"a": number, "b": "x" * 90} for number in range(60_000)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert (tmp_path / "a.json").stat().st_size > LONGEST_VALUE
    assert read_file(tmp_path / "a.json")["a"].tolist() == [str(n) for n in range(60_000)]
    (tmp_path / "b.json").write_text(json.dumps({"n": 1, "records": [7, *rows]}))
    assert read_file(tmp_path / "b.json")[FAULT].notna().sum() == 1
    (tmp_path / "a.json").write_text(json.dumps(rows)[:-1])
    with pytest.raises(UnreadableTable, match="not JSON: "):
        read_file(tmp_path / "a.json")
