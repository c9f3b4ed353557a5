"""From bytes to a table of texts, as published: nothing is interpreted here.

A table is a DataFrame of `str` objects, with None for what is missing. Only a table with a row of a
wrong form has the column `FAULT`, which says what is wrong with that row; its values mean nothing.
"""

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.failures import WillNotPass
from shared.frames import storable

FAULT: Final = "\0fault"
"""No source can name a column so by accident."""

LARGEST_TABLE_BYTES: Final = 1_000_000_000
_CHUNK: Final = 1 << 20
_POINTER_BYTES: Final = 8


class UnreadableTable(WillNotPass):
    """The bytes are not a table of the format; the text says where they go wrong."""


class UnreachableFile(UnreadableTable):
    """The machine does not let us read the file now; nothing is said of its content."""


def parse_csv(text: str) -> pd.DataFrame:
    """A table of CSV with a header. A row with more or fewer values than that has a fault.

    Raises:
        UnreadableTable: no header, a column twice, or quotes that do not match.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise UnreadableTable(f"not a CSV table: line {reader.line_num}: {error}") from None
    if not rows:
        raise UnreadableTable("not a CSV table: empty, without even a header")
    header = [name.strip() for name in rows[0]]
    _refuse_repeated(header)
    return _squared(header, rows[1:])


def _refuse_repeated(header: Iterable[str]) -> None:
    if repeated := sorted(name for name, times in Counter(header).items() if times > 1):
        raise UnreadableTable(f"a table with two columns named {', '.join(map(repr, repeated))}")


def _squared(header: list[str], rows: list[list[str]]) -> pd.DataFrame:
    width = len(header)
    faults = [_length_fault(len(row), width) for row in rows]
    if not any(faults):
        return pd.DataFrame(rows, columns=header, dtype=object)
    padded = [[*row, *[None] * width][:width] for row in rows]
    table = pd.DataFrame(padded, columns=header, dtype=object)
    table[FAULT] = pd.Series(faults, dtype=object)
    return table


def _length_fault(values: int, columns: int) -> str | None:
    if values == columns:
        return None
    return f"{'more' if values > columns else 'fewer'} values than columns"


def parse_json_value(text: str) -> Any:
    """A JSON value whose numbers are the texts that were published; NaN is None.

    Raises:
        UnreadableTable: the text is not JSON.
    """
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableTable(f"not JSON: {error}") from None


def _constant(name: str) -> str | None:
    return None if name == "NaN" else name


def parse_json(text: str, records: str | None = None) -> pd.DataFrame:
    """A table of a JSON list of objects, or of the list under the key `records`.

    Raises:
        UnreadableTable: the text is something else.
    """
    content = parse_json_value(text)
    if records is not None:
        content = content.get(records) if isinstance(content, dict) else None
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        where = f"under the key {records!r}" if records is not None else "at the top"
        raise UnreadableTable(f"not a JSON list of objects {where}")
    return table_of_records(content)


def parse_json_lines(text: str) -> pd.DataFrame:
    """A table of one JSON object a line. A line that is none is a row with a fault."""
    return table_of_records(_record(line) for line in text.split("\n") if line.strip())


def _record(line: str) -> dict[str, Any]:
    try:
        record = parse_json_value(line)
    except UnreadableTable:
        record = None
    return record if isinstance(record, dict) else {FAULT: "not a JSON object"}


def table_of_records(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A table of objects; a value that is no text becomes its JSON text."""
    texts = [{storable(key): _text(value) for key, value in row.items()} for row in records]
    table = pd.DataFrame(texts, dtype=object)
    return table.where(table.notna(), None)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return storable(value if isinstance(value, str) else json.dumps(value, default=str))


def decode(data: bytes | bytearray) -> str:
    """The text of UTF-8 bytes, with or without a byte-order mark.

    Raises:
        UnreadableTable: names the first byte that is not UTF-8.
    """
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UnreadableTable(
            f"not UTF-8: byte {error.start} is {data[error.start]:#04x}; save it as UTF-8"
        ) from None


def read_file(path: Path) -> pd.DataFrame:
    """The table in a file: .csv, .csv.gz, .json, .jsonl, .ndjson or .parquet.

    Raises:
        UnreachableFile: the file is not there, or cannot be read now.
        UnreadableTable: it is of another kind, too large, or broken.
    """
    try:
        return _read(path)
    except UnreadableTable as error:
        raise UnreadableTable(f"{path.name}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        # only what the operating system says has a number; libraries' errors are of the content
        of_system = getattr(error, "errno", None) is not None
        kind = UnreachableFile if of_system else UnreadableTable
        raise kind(f"{path.name}: cannot be read: {why}") from None


def _read(path: Path) -> pd.DataFrame:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _read_parquet(path)
    if name.endswith((".csv", ".csv.gz")):
        return parse_csv(decode(_read_bytes(path)))
    if name.endswith(".json"):
        return parse_json(decode(_read_bytes(path)))
    if name.endswith((".jsonl", ".ndjson")):
        return parse_json_lines(decode(_read_bytes(path)))
    raise UnreadableTable("of no known kind; use .csv, .csv.gz, .json, .jsonl or .parquet")


def _read_bytes(path: Path) -> bytearray:
    content = bytearray()
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            content += chunk
            if len(content) > LARGEST_TABLE_BYTES:
                raise UnreadableTable(f"larger than {LARGEST_TABLE_BYTES:,} bytes")
    return content


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        schema = pq.read_schema(path)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            _refuse_large(_plain_bytes(file.metadata))
            table = file.read()
        _refuse_large(sum(map(_text_bytes, table.columns)))
    except pa.ArrowException as error:
        raise UnreadableTable(f"not a Parquet table: {error}") from None
    _refuse_repeated(table.column_names)
    columns = [_column_texts(column) for column in table.columns]
    return pd.DataFrame(dict(zip(table.column_names, columns, strict=True)), dtype=object)


def _refuse_large(table_bytes: int) -> None:
    if table_bytes > LARGEST_TABLE_BYTES:
        raise UnreadableTable(f"larger than {LARGEST_TABLE_BYTES:,} bytes in memory")


def _plain_bytes(metadata: Any) -> int:
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    pointers = metadata.num_rows * metadata.num_columns * _POINTER_BYTES
    return int(pointers + sum(group.total_byte_size for group in groups))


def _text_bytes(column: Any) -> int:
    """The bytes of a column's texts once each row has its own; the file says each but once."""
    if not pa.types.is_dictionary(column.type):
        return 0
    total = 0
    for chunk in column.chunks:
        if pa.types.is_string(chunk.dictionary.type):
            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
            total += pc.sum(lengths).as_py() or 0
    return total


def _column_texts(column: Any) -> list[str | None]:
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:  # lists, structs, bytes
        return [_text(value) for value in column.to_pylist()]
    return texts
