"""From bytes to a table of texts, as published: nothing is interpreted here.

A table is a DataFrame of `str` objects, with None for a missing value. Only a table with a row of a
wrong form has the column `FAULT`, which says what is wrong with that row; its values mean nothing.
What is a table at all, `shared.tables` says, for `trimtab check` as well.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from io import StringIO
from json import JSONDecoder
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.frames import storable
from shared.tables import content
from shared.tables.arrow_types import in_plain_type, seconds_as_texts
from shared.tables.content import (
    LARGEST_JSON,
    LONGEST_LINE,
    UnreadableTable,
    bounded,
    kind_of,
    named,
    opened,
    require_few,
    text_blocks,
)
from shared.tables.csv_text import CsvText, Row, refuse_repeated
from shared.tables.json_rows import (
    LONGEST_VALUE,
    TOO_DEEP,
    JsonRows,
    NotJson,
    is_too_deep,
    require_filled,
)
from shared.tables.json_text import ANSWER_KEY, NO_OBJECT, chunks_of, json_pieces

FAULT: Final = "\0fault"
"""A column of this name that a source has is left out."""
MOST_OTHER_COLUMNS: Final = 100
"""Of JSON, those keys are kept that the schema names, and at most this many others: a text names
them where one of the schema is missing."""

_POINTER_BYTES: Final = 8


def parse_csv(text: str | Iterator[str]) -> pd.DataFrame:
    """A table of CSV with a header. A row with more or fewer values than that has a fault.

    Args:
        text: at once, or in blocks that end with the end of a line.

    Raises:
        UnreadableTable: no header, a column twice, or hardly any value.
    """
    source = CsvText(iter([text]) if isinstance(text, str) else text)
    rows: list[Row] = []
    for piece in source.pieces():
        rows += source.rows_of(piece)
        require_few(len(rows))
    width = len(source.names)
    require_filled(len(rows), width, sum(min(len(row), width) for row in rows))
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


def _constant(name: str) -> str | None:
    return None if name == "NaN" else name


DECODER: Final = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_constant)
"""Numbers are the texts that were published; NaN is None."""


def parse_json(
    text: str | Iterator[str], records: str | None = None, wanted: Collection[str] = ()
) -> pd.DataFrame:
    """A table of a JSON list of objects, or of the list under the key `records`.

    Args:
        text: at once, or in chunks.
        records: the key; None: the list is the whole, or under the key of data.gov.in's answers.
        wanted: the columns that the schema names.

    Raises:
        UnreadableTable: the text is something else, or hardly any value is there.
    """
    key = records or ANSWER_KEY
    where = f"under the key {key!r}" if records is not None else "at the top"
    no_table = UnreadableTable(f"not a JSON list of objects {where}")
    rows = JsonRows(chunks_of(text) if isinstance(text, str) else text, DECODER, key)

    def objects() -> Iterator[dict[str, Any]]:
        for row in rows:
            if not isinstance(row, dict):
                raise no_table
            yield row

    try:
        table = table_of_records(objects(), wanted)
    except NotJson as error:
        raise UnreadableTable(f"not JSON: {error}") from None
    if not rows.is_found or (records is not None and not rows.is_object):
        raise no_table
    return table


def _json_table(blocks: Iterator[str], wanted: Collection[str]) -> pd.DataFrame:
    return table_of_records(
        (record for piece in json_pieces(blocks, DECODER) for record in _records(piece)), wanted
    )


Record = dict[str, Any] | str
"""A row, or what is wrong with it."""


def _records(piece: str | list[Any]) -> Iterator[Record]:
    if isinstance(piece, str):
        lines = StringIO(piece, newline="\n")
        yield from (_record(line) for line in lines if line.strip())
        return
    yield from (each if isinstance(each, dict) else NO_OBJECT for each in piece)


def _record(line: str) -> Record:
    if len(line) > LONGEST_VALUE:
        return f"a row of more than {LONGEST_VALUE:,} characters"
    try:
        record = DECODER.decode(line)
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) else NO_OBJECT


def table_of_records(records: Iterable[Record], wanted: Collection[str] = ()) -> pd.DataFrame:
    """A table of objects; a value that is no text becomes its JSON text.

    Args:
        wanted: the columns that the schema names; of others no more than `MOST_OTHER_COLUMNS`.

    Raises:
        UnreadableTable: hardly any value is there.
    """
    table = _Columns(wanted)
    for record in records:
        table.add(record)
    return table.frame()


class _Columns:
    """A table of texts that grows row by row. Its columns may be shorter than it has rows."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = frozenset(wanted)
        self._rows = 0
        self._given = 0
        self._values: dict[str, list[str | None]] = {}
        self._faults: list[str | None] = []

    def add(self, record: Record) -> None:
        """Add a row, or what is wrong with it.

        Raises:
            UnreadableTable: hardly any value is there.
        """
        self._rows += 1
        require_few(self._rows)
        require_filled(self._rows, len(self._values), self._given)
        if isinstance(record, str):
            self._set(self._faults, record)
            return
        for key, value in record.items():
            values = self._values.get(key)
            if values is None and (values := self._column(storable(key))) is None:
                continue
            self._given += 1
            if isinstance(value, str):
                self._set(values, storable(value))
            elif isinstance(value, dict | list) and is_too_deep(value):
                self._set(self._faults, TOO_DEEP)
            elif value is not None:
                self._set(values, _text(value))

    def _column(self, name: str) -> list[str | None] | None:
        """The values of a column; None if it is not kept."""
        if name in self._values:
            return self._values[name]
        is_one_more = len(self._values) >= MOST_OTHER_COLUMNS + len(self._wanted)
        if name == FAULT or (is_one_more and name not in self._wanted):
            return None
        require_filled(self._rows, len(self._values) + 1, self._given)
        return self._values.setdefault(name, [])

    def _set(self, values: list[str | None], value: str) -> None:
        """Set a value of the newest row."""
        before = self._rows - 1
        if len(values) != before:
            values += [None] * (before - len(values))
            del values[before:]
        values.append(value)

    def frame(self) -> pd.DataFrame:
        """The table."""
        if self._faults:
            self._values[FAULT] = self._faults
        for values in self._values.values():
            values.extend([None] * (self._rows - len(values)))
        return pd.DataFrame(self._values, index=range(self._rows), dtype=object)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else storable(json.dumps(value, default=str))


def read_file(path: Path, wanted: Collection[str] = ()) -> pd.DataFrame:
    """The table in a file: CSV, JSON or JSON lines (each also as gzip), or Parquet.

    Args:
        wanted: the columns that the schema names.

    Raises:
        UnreachableFile: the file is not there, or cannot be read now.
        UnreadableTable: it is of another kind, too large, or broken.
    """
    with named(path.name):
        kind = kind_of(path)
        if kind == "parquet":
            return _read_parquet(path)
        with opened(path) as stream:
            if kind == "csv":
                return parse_csv(bounded(text_blocks(stream, longest_line=LONGEST_LINE)))
            blocks = bounded(text_blocks(stream, longest_line=LARGEST_JSON))
            return _json_table(blocks, wanted)


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
    if FAULT in table.column_names:
        table = table.drop_columns([FAULT])
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
        return [None if value is None else _text(value) for value in column.to_pylist()]
    return texts
