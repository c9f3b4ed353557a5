"""What `trimtab check` takes for a table, `ingest` and `replay` do too, and in the same words."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from services.cli.replay.play import recorded_files
from services.drift.tables.files import open_table
from services.drift.tables.frame import Frame
from services.ingest.tables import FAULT, read_file
from shared.tables.content import UnreadableTable

CSV = b"city,flag\nDelhi,True\nAgra,false\n"
ANSWER = {"status": "ok", "total": 2, "records": [{"city": "Delhi", "flag": True}]}
BOTH = {"city": ["Delhi", "Agra"], "flag": ["true", "false"]}


def for_ingest(path: Path) -> tuple[dict[str, list[str]], int]:
    """The columns and how many rows have a fault."""
    table = read_file(path)
    faults = table.pop(FAULT).notna() if FAULT in table else pd.Series(False, index=table.index)
    return table[~faults].to_dict("list"), int(faults.sum())


def for_check(path: Path) -> tuple[dict[str, list[str]], int]:
    file = open_table(path)
    frame = Frame(file.table())
    columns = {}
    for name in frame.names:
        codes, labels = frame.categories(name)
        columns[name] = [labels[code] for code in codes]
    return columns, file.set_aside.total()


@pytest.mark.parametrize(
    ("name", "data", "columns"),
    [
        ("a.csv", gzip.compress(CSV, mtime=0), BOTH),
        ("a.csv.gz", CSV, BOTH),
        ("a.csv", CSV.decode().encode("utf-16"), BOTH),
        ("a.csv", CSV.replace(b",", b";"), BOTH),
        ("a.csv", b"sep=|\r\n" + CSV.replace(b",", b"|"), BOTH),
        ("a.csv", CSV.replace(b"\n", b"\r"), BOTH),
        ("a.csv", CSV.replace(b"\n", b"\r\n\r\n"), BOTH),
        ("a.csv", CSV.replace(b",", b"\t"), BOTH),
        ("a.csv", b"city,flag,,\nDelhi,True,,\nAgra,false\n", BOTH),
        (
            "a.csv",
            b",city,flag,\n7,Delhi,True,\n8,Agra,false,\n",
            {"Unnamed: 0": ["7", "8"]} | BOTH,
        ),
        ("a.json", json.dumps(ANSWER["records"]).encode(), None),
        ("a.json", json.dumps(ANSWER).encode(), None),
        ("a.json", json.dumps(ANSWER, indent=1).encode(), None),
        ("a.jsonl", json.dumps(ANSWER, indent=1).encode(), None),
        ("a.json", b'{"city": "Delhi", "flag": true}\n', None),
        ("a.json.gz", gzip.compress(b'{"city": "Delhi", "flag": true}\n', mtime=0), None),
        ("a.ndjson", b'{"city": "Delhi", "flag": true}\n{"city": "Agra", "flag": false}\n', BOTH),
    ],
)
def test_they_read_the_same(
    tmp_path: Path, name: str, data: bytes, columns: dict[str, list[str]] | None
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    expected = columns or {"city": ["Delhi"], "flag": ["true"]}
    ingested, faults = for_ingest(path)
    assert {
        key: [text.lower() if key == "flag" else text for text in values]
        for key, values in ingested.items()
    } == expected
    assert (for_check(path), faults) == ((expected, 0), 0)
    assert recorded_files(tmp_path) == [path]


@pytest.mark.parametrize(
    ("name", "data", "kept"),
    [
        ("a.csv", b'a,b,c\n1,2,3\n1,"2,3\n4,5,6\n1,2\n', 3),
        ("a.csv", b"a,b,c\n1,2,3\n" + b"x" * 200_000 + b",2,3\n4,5\n", 2),
        ("a.csv", b'a,b,c\n1,2,"x\n4,5,6\n7,8,x"\n1,2\n', 3),
        ("a.jsonl", b'{"a": 1}\n{"a": 2}\n{"a"\n', 2),
        ("a.jsonl", b'{"a"\n{"a": 1}\n{"a": 2}\n', 2),
        ("a.json", b'[{"a": 1}, 7, {"a": 2}]', 2),
    ],
)
def test_they_set_the_same_rows_aside(tmp_path: Path, name: str, data: bytes, kept: int) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert for_check(path) == for_ingest(path)
    columns, faults = for_check(path)
    assert (len(columns["a"]), faults) == (kept, 1)


def test_a_broken_row_costs_the_others_nothing_in_a_large_file(tmp_path: Path) -> None:
    lines = [f"{n},{n % 7},k{n % 3}" for n in range(50_000)]
    lines[20_000] = '20000,"5,k1'
    lines[30_000] = "30000,1"
    (tmp_path / "a.csv").write_text("\n".join(["id,value,kind", *lines]))
    columns, faults = for_check(tmp_path / "a.csv")
    assert (len(columns["id"]), faults) == (49_999, 1)
    assert for_ingest(tmp_path / "a.csv") == (columns, faults)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"\n\n", "not a CSV table: empty, without even a header"),
        ("a.csv", b"a,a\n1,2\n", "a table with two columns named 'a'"),
        ("a.csv", b"a,b\n1,\xe9\n", "not UTF-8: byte 6 is 0xe9; save it as UTF-8"),
        ("a.csv", b"PK\x03\x04", "a workbook or another ZIP archive; save the sheet as CSV"),
        (
            "a.csv",
            gzip.compress(CSV, mtime=0)[:-9],
            "cannot be read: broken gzip: its end is missing",
        ),
        ("a.json", b"[1, 2]", "not a JSON list of objects, an object with such a list under"),
        ("a.json", b"{", "not JSON: Expecting property name enclosed in double quotes"),
        ("a.parquet", b"PAR1", "not a Parquet table: "),
        ("a.xlsx", b"PK", "of no known kind; use .csv"),
        ("none.csv", None, "cannot be read: No such file or directory"),
    ],
)
def test_they_refuse_in_the_same_words(
    tmp_path: Path, name: str, data: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UnreadableTable) as ingested:
        read_file(path)
    with pytest.raises(UnreadableTable) as checked:
        open_table(path).table()
    refusals = {str(each.value).partition(": ")[2] for each in (ingested, checked)}
    assert len(refusals) == 1
    assert refusals.pop().startswith(said)


def test_a_column_twice_in_parquet(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    parquet.write_table(twice, tmp_path / "a.parquet")
    for read in (read_file, open_table):
        with pytest.raises(UnreadableTable, match="a table with two columns named 'a'"):
            read(tmp_path / "a.parquet")


PARQUET = {
    "timestamp in s": (pa.array([1], pa.timestamp("s")), "1970-01-01 00:00:01.000"),
    "timestamp in ms": (pa.array([1], pa.timestamp("ms")), "1970-01-01 00:00:00.001"),
    "timestamp in us": (pa.array([1], pa.timestamp("us")), "1970-01-01 00:00:00.000001"),
    "timestamp in ns": (pa.array([1], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
    "timestamp in UTC": (pa.array([0], pa.timestamp("ms", "UTC")), "1970-01-01 00:00:00.000Z"),
    "timestamp in a zone": (
        pa.array([0], pa.timestamp("ms", "Asia/Kolkata")),
        "1970-01-01 05:30:00.000+0530",
    ),
    "date": (pa.array([1], pa.date32()), "1970-01-02"),
    "date64": (pa.array([86_400_000], pa.date64()), "1970-01-02"),
    "time": (pa.array([1], pa.time32("s")), "00:00:01.000"),
    "decimal": (pa.array([Decimal("0.25")]), "0.25"),
    "wide decimal": (pa.array([Decimal(2**90 + 1)], pa.decimal256(50, 0)), str(2**90 + 1)),
    "unsigned": (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
    "signed": (pa.array([2**53 + 1], pa.int64()), str(2**53 + 1)),
    "small": (pa.array([-7], pa.int8()), "-7"),
    "half": (pa.array(np.array([0.25], np.float16)), "0.25"),
    "single": (pa.array([0.25], pa.float32()), "0.25"),
    "flag": (pa.array([True]), "true"),
    "flag in 8 bits": (pa.array([1], pa.bool8()), "true"),
    "UUID": (pa.array([bytes(16)], pa.uuid()), "00000000-0000-0000-0000-000000000000"),
    "JSON": (pa.array(['{"a": 1}'], pa.json_()), '{"a": 1}'),
    "bytes of a text": (pa.array(["é".encode()]), "é"),
    "other bytes": (pa.array([b"\xff\x00"]), "0xff00"),
    "bytes of one length": (pa.array([b"ab"], pa.binary(2)), "ab"),
    "large text": (pa.array(["é"], pa.large_string()), "é"),
    "view of a text": (pa.array(["é"], pa.string_view()), "é"),
    "encoded text": (pa.array(["é"]).dictionary_encode(), "é"),
    "encoded bytes": (pa.array([b"ab"]).dictionary_encode(), "ab"),
    "encoded number": (pa.array([7]).dictionary_encode(), "7"),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_they_read_every_type_of_parquet_the_same(tmp_path: Path, kind: str) -> None:
    values, text = PARQUET[kind]
    column = pa.chunked_array([values, pa.nulls(1, values.type)])
    parquet.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet")["x"].tolist() == [text, None]
    codes, labels = Frame(open_table(tmp_path / "a.parquet").table()).categories("x")
    assert (codes.tolist(), labels) == ([0, -1], (text,))


@pytest.mark.parametrize(
    ("unit", "units", "seconds"),
    [
        ("s", 90, "90"),
        ("ms", 1_500, "1.5"),
        ("us", -1, "-0.000001"),
        ("ns", 2**62 + 1, "4611686018.427387905"),
    ],
)
def test_they_read_durations_as_seconds(
    tmp_path: Path, unit: str, units: int, seconds: str
) -> None:
    values = pa.array([units, None], pa.duration(unit))
    parquet.write_table(pa.table({"x": values}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet")["x"].tolist() == [seconds, None]
    numbers = Frame(open_table(tmp_path / "a.parquet").table()).numbers("x")
    np.testing.assert_allclose(numbers, [float(seconds), np.nan])
