"""From bytes to a table of texts, as published: nothing is interpreted here.

A table is a DataFrame of `str` objects, with None for a missing value. Only a table with a row of a
wrong form has the column `FAULT`, which says what is wrong with that row; its values mean nothing.
What is a table at all, `shared.tables` says, for `trimtab check` as well.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.frames import storable
from shared.tables import content
from shared.tables.arrow_types import in_plain_type, seconds_as_texts
from shared.tables.content import UnreadableTable, bounded, kind_of, named, opened, text_blocks
from shared.tables.csv_text import CsvText, Row, refuse_repeated
from shared.tables.json_text import ANSWER_KEY, NO_OBJECT, json_pieces

FAULT: Final = "\0fault"
"""No source can name a column so by accident."""

_POINTER_BYTES: Final = 8


def parse_csv(text: str) -> pd.DataFrame:
    """A table of CSV with a header. A row with more or fewer values than that has a fault.

    Raises:
        UnreadableTable: no header, or a column twice.
    """
    return _csv_table(iter([text]))


def _csv_table(blocks: Iterator[str]) -> pd.DataFrame:
    source = CsvText(blocks)
    rows = [row for piece in source.pieces() for row in source.rows_of(piece)]
    faults = [source.fault(len(row)) for row in rows]
    table = _squared(source.names, rows)
    empty = [at for at in source.nameless if not any(map(_says_something, table.iloc[:, at]))]
    if empty:
        table = table.drop(columns=[source.names[at] for at in empty])
    if any(faults):
        table[FAULT] = pd.Series(faults, dtype=object)
    return table


def _says_something(value: str | None) -> bool:
    return value is not None and bool(value.strip())


def _squared(names: list[str], rows: list[Row]) -> pd.DataFrame:
    width = len(names)
    if all(len(row) == width for row in rows):
        return pd.DataFrame(rows, columns=names, dtype=object)
    padded = [[*row, *[None] * width][:width] for row in rows]
    return pd.DataFrame(padded, columns=names, dtype=object)


def parse_json_value(text: str) -> Any:
    """A JSON value whose numbers are the texts that were published; NaN is None.

    Raises:
        UnreadableTable: the text is not JSON.
    """
    try:
        return _loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableTable(f"not JSON: {error}") from None


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=_constant)


def _constant(name: str) -> str | None:
    return None if name == "NaN" else name


def parse_json(text: str, records: str | None = None) -> pd.DataFrame:
    """A table of a JSON list of objects, or of the list under the key `records`.

    Args:
        records: the key; None: the list is the whole, or under the key of data.gov.in's answers.

    Raises:
        UnreadableTable: the text is something else.
    """
    value = parse_json_value(text)
    key = records or ANSWER_KEY
    if isinstance(value, dict):
        value = value.get(key)
    elif records is not None:
        value = None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        where = f"under the key {key!r}" if records is not None else "at the top"
        raise UnreadableTable(f"not a JSON list of objects {where}")
    return table_of_records(value)


def _json_table(blocks: Iterator[str]) -> pd.DataFrame:
    return table_of_records(
        record for piece in json_pieces(blocks, _loads) for record in _records(piece)
    )


def _records(piece: str | list[Any]) -> Iterator[dict[str, Any]]:
    if isinstance(piece, str):
        yield from (_record(line) for line in piece.split("\n") if line.strip())
        return
    yield from (each if isinstance(each, dict) else {FAULT: NO_OBJECT} for each in piece)


def _record(line: str) -> dict[str, Any]:
    try:
        record = _loads(line)
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) else {FAULT: NO_OBJECT}


def table_of_records(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A table of objects; a value that is no text becomes its JSON text."""
    texts = [{storable(key): _text(value) for key, value in row.items()} for row in records]
    table = pd.DataFrame(texts, dtype=object)
    return table.where(table.notna(), None)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return storable(value if isinstance(value, str) else json.dumps(value, default=str))


def read_file(path: Path) -> pd.DataFrame:
    """The table in a file: CSV, JSON or JSON lines (each also as gzip), or Parquet.

    Raises:
        UnreachableFile: the file is not there, or cannot be read now.
        UnreadableTable: it is of another kind, too large, or broken.
    """
    with named(path.name):
        kind = kind_of(path)
        if kind == "parquet":
            return _read_parquet(path)
        with opened(path) as stream:
            blocks = bounded(text_blocks(stream))
            return _csv_table(blocks) if kind == "csv" else _json_table(blocks)


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
    refuse_repeated(table.column_names)
    columns = [_column_texts(column) for column in table.columns]
    return pd.DataFrame(dict(zip(table.column_names, columns, strict=True)), dtype=object)


def _refuse_large(table_bytes: int) -> None:
    if table_bytes > content.LARGEST_TABLE_BYTES:
        raise UnreadableTable(f"larger than {content.LARGEST_TABLE_BYTES:,} bytes in memory")


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
    column = in_plain_type(column)
    if pa.types.is_duration(column.type):
        column = seconds_as_texts(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:  # lists, structs
        return [_text(value) for value in column.to_pylist()]
    return texts
