"""From bytes to a table of texts, as published: nothing is interpreted here.

A table is a DataFrame of `str` objects; a missing JSON value is None.
"""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any, Final

import pandas as pd

from shared.failures import WillNotPass

LARGEST_TABLE_BYTES: Final = 1_000_000_000
_CHUNK: Final = 1 << 20


class UnreadableTable(WillNotPass):
    """The bytes are not a table of the format; the text says where they go wrong."""


def table_of_records(records: list[dict[str, Any]]) -> pd.DataFrame:
    """A table of JSON objects; values become texts."""
    frame = pd.DataFrame.from_records(records).astype(object)
    return frame.map(_text)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    return value if isinstance(value, str) else json.dumps(value, default=str).strip('"')


def parse_csv(text: str) -> pd.DataFrame:
    """A table of CSV with a header.

    Raises:
        UnreadableTable: no header, a column twice, or a row whose length differs from the header's.
    """
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UnreadableTable(f"not a CSV table: {error}") from None
    rows = [row for row in rows if row]
    if not rows:
        raise UnreadableTable("empty: not even a header")
    header = [name.strip() for name in rows[0]]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise UnreadableTable(f"the header names {', '.join(map(repr, twice))} twice")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UnreadableTable(
                f"row {number} has {len(row)} values, the header {len(header)} columns"
            )
    return pd.DataFrame(rows[1:], columns=header, dtype=object)


def parse_json(text: str, records: str | None = None) -> pd.DataFrame:
    """A table of a JSON list of objects, or of the list under the key `records`.

    Raises:
        UnreadableTable: the text is something else.
    """
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnreadableTable(f"not JSON: {error}") from None
    if records is not None:
        content = content.get(records) if isinstance(content, dict) else None
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        where = f"under the key {records!r}" if records else "at the top"
        raise UnreadableTable(f"not a list of objects {where}")
    return table_of_records(content)


def parse_json_lines(text: str) -> pd.DataFrame:
    """A table of one JSON object a line.

    Raises:
        UnreadableTable: names the first line that is none.
    """
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UnreadableTable(f"line {number} is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise UnreadableTable(f"line {number} is not a JSON object")
        records.append(record)
    return table_of_records(records)


def decode(data: bytes) -> str:
    """The text of UTF-8 bytes, with or without a byte-order mark.

    Raises:
        UnreadableTable: names the first byte that is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableTable(
            f"not UTF-8: byte {error.start} is {data[error.start]:#04x}; save it as UTF-8"
        ) from None


def read_file(path: Path) -> pd.DataFrame:
    """The table in a file: .csv, .csv.gz, .json, .jsonl, .ndjson or .parquet.

    Raises:
        UnreadableTable: the file is not there, of another kind, too large, or broken.
    """
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return _read_parquet(path)
        if name.endswith((".csv", ".csv.gz")):
            return parse_csv(decode(_read_bytes(path)))
        if name.endswith(".json"):
            return parse_json(decode(_read_bytes(path)))
        if name.endswith((".jsonl", ".ndjson")):
            return parse_json_lines(decode(_read_bytes(path)))
    except UnreadableTable as error:
        raise UnreadableTable(f"{path.name}: {error}") from None
    except (OSError, EOFError) as error:
        raise UnreadableTable(f"{path.name}: cannot be read: {error}") from None
    raise UnreadableTable(
        f"{path.name}: no kind of table that is known; use .csv, .csv.gz, .json, .jsonl or .parquet"
    )


def _read_bytes(path: Path) -> bytes:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        content = bytearray()
        while chunk := file.read(_CHUNK):
            content += chunk
            if len(content) > LARGEST_TABLE_BYTES:
                raise UnreadableTable(f"larger than {LARGEST_TABLE_BYTES:,} bytes")
    return bytes(content)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        texts = [column.cast(pa.string()).to_pylist() for column in table.columns]
    except pa.ArrowException as error:
        raise UnreadableTable(f"not a Parquet table of plain columns: {error}") from None
    return pd.DataFrame(dict(zip(table.column_names, texts, strict=True)), dtype=object)
