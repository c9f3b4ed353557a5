"""Tables in files: CSV, Parquet and JSON, read in chunks.

Values of CSV stay texts until it is known which columns are numbers: a type read off the first
block may not fit the rest. Texts are trimmed, and one of `MISSING_TEXTS` is a missing value.
What is a table at all, `shared.tables` says, for ingestion as well.
"""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from json import JSONDecoder
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from services.drift.tables.frame import MISSING_TEXTS
from services.drift.tables.numbers import as_numbers, is_number, is_text
from shared.frames import storable
from shared.tables.content import (
    LARGEST_JSON,
    LONGEST_LINE,
    Kind,
    UnreadableTable,
    first_line,
    kind_of,
    named,
    opened,
    text_blocks,
)
from shared.tables.csv_text import CsvText, Row, refuse_repeated
from shared.tables.json_rows import (
    LONGEST_VALUE,
    MOST_NESTING,
    TOO_DEEP,
    is_too_deep,
    require_filled,
)
from shared.tables.json_text import NO_OBJECT, json_pieces

MOST_SET_ASIDE: Final = 0.5
"""If a larger share of a file's rows is of a wrong form, the file is no table."""

MOST_JSON_COLUMNS: Final = 10_000
"""Different keys of a JSON file."""

_MOST_COLUMNS_BY_ARROW: Final = 10_000
"""Arrow's reader of CSV takes about 9 kB for each column of the header."""
_MOST_DIGITS: Final = 400
_NAMES_SHOWN: Final = 5
_MISSING: Final = rf"\A(?:{'|'.join(map(re.escape, sorted(MISSING_TEXTS)))})\z"
_SPACED_COLON: Final = re.compile(r'"[ \t\r]++:')
_NO_OBJECT_LINE: Final = re.compile(r"^[^\S\n]*[^\s{]", re.MULTILINE)
"""A line of JSON that begins with something else than an object."""
_NO_TEXT: Final = pa.nulls(1, pa.string())[0]
"""Not `pa.scalar`, which imports pandas."""


class TableFile(ABC):
    """A table in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        """The columns; all of them are known once the chunks are read."""
        self.nested: set[str] = set()
        """Wanted columns of lists or objects in the chunks that have been read."""
        self.set_aside: Counter[str] = Counter()
        """What is wrong with rows of the chunks that have been read -> rows. They are left out."""

    def chunks(
        self, columns: Collection[str] | None = None, numbers: Collection[str] = ()
    ) -> Iterator[pa.Table]:
        """The rows in their order: a Parquet file's by row group, others' by block; at least one.

        Types are a chunk's own: what is text in one may be a number in the next.

        Args:
            columns: to read; None: all. A chunk has those of them that the file has.
            numbers: columns that are to be numbers in each chunk whose texts all spell some.

        Raises:
            UnreadableTable: the file is broken, or most of its rows are.
        """
        wanted = None if columns is None else frozenset(columns)
        table = None
        rows = 0
        with _told(self.path):
            for block in self._blocks(wanted):
                table = _cleaned(block if wanted is None else self._comparable(block, wanted))
                rows += table.num_rows
                yield with_numbers(table, numbers)
            self._refuse_broken(rows)
        if table is None:
            yield pa.table({name: pa.nulls(0, pa.string()) for name in self.names})

    def table(self) -> pa.Table:
        """All rows and columns. Numbers of several types become floats, other mixtures texts.

        Raises:
            UnreadableTable: the file is broken.
        """
        chunks = list(self.chunks())
        with _told(self.path):
            rows = sum(chunk.num_rows for chunk in chunks)
            require_filled(rows, len(self.names), sum(map(_given, chunks)))
            return _joined(chunks, self.names)

    def _comparable(self, table: pa.Table, wanted: frozenset[str]) -> pa.Table:
        """The wanted columns; lists and objects, which compare with nothing, are missing values."""
        columns = {}
        for field in table.schema:
            if field.name in wanted:
                is_nested = pa.types.is_nested(field.type)
                self.nested |= {field.name} if is_nested else set()
                nothing = pa.nulls(table.num_rows)
                columns[field.name] = nothing if is_nested else table.column(field.name)
        return pa.table(columns) if columns else table.select([])

    def _refuse_broken(self, rows: int) -> None:
        broken = self.set_aside.total()
        if broken > MOST_SET_ASIDE * (rows + broken):
            (fault, _), *_ = self.set_aside.most_common(1)
            header = f"; its header names {some_of(self.names)}" if self.names else ""
            raise UnreadableTable(
                f"{broken:,} of {rows + broken:,} rows are broken, most often with '{fault}'"
                f"{header}"
            )

    @abstractmethod
    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:
        """The rows as they stand in the file, with at least the wanted columns."""


def open_table(path: Path) -> TableFile:
    """The table in a file, whose kind is told by its name.

    Raises:
        UnreadableTable: it is not there, empty, of no known kind, or its beginning is broken.
    """
    with _told(path):
        return _READERS[kind_of(path)](path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading, with the file's name."""
    with named(path):
        try:
            yield
        except pa.ArrowException as error:
            raise UnreadableTable(f"cannot be read: {first_line(error)}") from None


class _Csv(TableFile):
    """CSV with a header; values stay texts."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with opened(path) as stream:
            source = CsvText(text_blocks(stream, longest_line=LONGEST_LINE))
        self.names = [name for at, name in enumerate(source.names) if at not in source.nameless]

    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:
        with opened(self.path) as stream:
            source = CsvText(text_blocks(stream, longest_line=LONGEST_LINE))
            chosen = [
                at
                for at, name in enumerate(source.names)
                if wanted is None or name in wanted or at in source.nameless
            ]
            for piece in source.pieces():
                table = self._table(source, piece, chosen or [0])  # for the number of rows
                empty = [name for name in self._nameless(source) if _is_blank(table.column(name))]
                self._name(source, table.drop_columns(empty).column_names)
                yield table

    def _nameless(self, source: CsvText) -> list[str]:
        """Columns without a name, of which no value has been seen so far."""
        names = (source.names[at] for at in source.nameless)
        return [name for name in names if name not in self.names]

    def _name(self, source: CsvText, found: Collection[str]) -> None:
        if any(name not in self.names for name in found):
            known = {*self.names, *found}
            self.names = [name for name in source.names if name in known]

    def _table(self, source: CsvText, piece: str | list[Row], chosen: list[int]) -> pa.Table:
        names = [source.names[at] for at in chosen]
        if isinstance(piece, str):
            whole = self._read(source, piece, names)
            if whole is not None:
                return whole
        rows = []
        for row in source.rows_of(piece):
            if fault := source.fault(len(row)):
                self.set_aside[fault] += 1
            else:
                rows.append(row)
        require_filled(len(rows), len(chosen), sum(map(len, rows)))
        return pa.table(
            {
                name: pa.array([row[at] if at < len(row) else None for row in rows], pa.string())
                for name, at in zip(names, chosen, strict=True)
            }
        )

    def _read(self, source: CsvText, text: str, names: list[str]) -> pa.Table | None:
        """The table of a text in which each line is a row; None if a row is of another width."""
        from pyarrow import csv

        if len(source.names) > _MOST_COLUMNS_BY_ARROW:
            return None
        if not text.strip("\r\n"):
            return pa.table({name: pa.nulls(0, pa.string()) for name in names})
        try:
            return csv.read_csv(
                pa.BufferReader(text.encode()),
                csv.ReadOptions(column_names=source.names),
                csv.ParseOptions(delimiter=source.separator),
                csv.ConvertOptions(
                    include_columns=names, column_types=dict.fromkeys(names, pa.string())
                ),
            )
        except pa.ArrowInvalid:
            return None


def _is_blank(column: pa.ChunkedArray) -> bool:
    return not pc.any(pc.not_equal(pc.utf8_trim_whitespace(column), "")).as_py()


class _Parquet(TableFile):
    """Parquet, read by row group."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        super().__init__(path)
        try:
            self._file = parquet.ParquetFile(path)
        except pa.ArrowException as error:
            raise UnreadableTable(f"not a Parquet table: {first_line(error)}") from None
        self.names = self._file.schema_arrow.names
        refuse_repeated(self.names)

    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:
        columns = [name for name in self.names if wanted is None or name in wanted]
        for group in range(self._file.num_row_groups):
            yield self._file.read_row_group(group, columns or self.names[:1])

    def table(self) -> pa.Table:
        """All rows and columns, with what pandas has written about them."""
        return super().table().replace_schema_metadata(self._file.schema_arrow.metadata)


class _Json(TableFile):
    """A list of objects, an answer around one, or one JSON object a line."""

    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:  # noqa: ARG002
        known = set(self.names)
        with opened(self.path) as stream:
            blocks = text_blocks(stream, longest_line=LARGEST_JSON)
            for piece in json_pieces(blocks, _DECODER):
                tables = (
                    self._tables_of_lines(piece)
                    if isinstance(piece, str)
                    else [self._table_of_records(piece)]
                )
                for table in tables:
                    self.names += [name for name in table.column_names if name not in known]
                    known.update(table.column_names)
                    if len(known) > MOST_JSON_COLUMNS:
                        raise UnreadableTable(f"more than {MOST_JSON_COLUMNS:,} different keys")
                    yield table

    def _tables_of_lines(self, text: str) -> Iterator[pa.Table]:
        from pyarrow import json as arrow_json

        block = text.encode()
        options = arrow_json.ReadOptions(block_size=len(block) + 1)
        if text.strip() and _may_be_read_by_arrow(text):
            with suppress(pa.ArrowInvalid):  # broken, or a column of values of several types
                yield arrow_json.read_json(pa.BufferReader(block), options)
                return
        for lines in _cut(text):
            yield self._table_of_records(_value(line) for line in lines)

    def _table_of_records(self, values: Iterable[Any]) -> pa.Table:
        rows = []
        for value in values:
            if not isinstance(value, dict):
                self.set_aside[NO_OBJECT] += 1
            elif any(map(is_too_deep, value.values())):
                self.set_aside[TOO_DEEP] += 1
            else:
                rows.append(value)
        names = dict.fromkeys(name for row in rows for name in row)
        require_filled(len(rows), len(names), sum(map(len, rows)))
        columns = {storable(name): _array([row.get(name) for row in rows]) for name in names}
        return pa.table(columns)


def _may_be_read_by_arrow(text: str) -> bool:
    """Whether Arrow's reader reads lines of JSON safely.

    On a line that begins with no object, and at 20,000 lists within each other, it has been seen to
    end the process. And it makes room for each key in each row, whether it is there or not. Keys
    are counted without reading the text, so it must have none that could be counted wrongly.
    """
    if _NO_OBJECT_LINE.search(text) or '\\"' in text or _SPACED_COLON.search(text):
        return False
    rows = 0
    for line in StringIO(text, newline="\n"):
        rows += 1
        if line.count("{") + line.count("[") > MOST_NESTING:
            return False
    before_colons = text.split('":')[:-1]
    names = {piece[piece.rfind('"') + 1 :] for piece in before_colons}
    try:
        require_filled(rows, len(names), len(before_colons))
    except UnreadableTable:
        return False
    return len(names) <= MOST_JSON_COLUMNS


def _cut(text: str) -> Iterator[list[str]]:
    """The lines that are not empty, in parts whose values may be in memory at once."""
    part: list[str] = []
    characters = 0
    for line in StringIO(text, newline="\n"):
        if not line.isspace():
            part.append(line)
            characters += len(line)
        if characters > LONGEST_VALUE:
            yield part
            part, characters = [], 0
    yield part


def _given(table: pa.Table) -> int:
    """How many values a table has."""
    return sum(table.num_rows - column.null_count for column in table.columns)


_READERS: Final[dict[Kind, Callable[[Path], TableFile]]] = {
    "csv": _Csv,
    "json": _Json,
    "parquet": _Parquet,
}


def _whole_number(digits: str) -> int | float:
    """Python makes no whole number of thousands of digits."""
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)


_DECODER: Final = JSONDecoder(parse_int=_whole_number)


def _value(line: str) -> Any:
    """The JSON value of a line; None if it is none, or too large."""
    if len(line) > LONGEST_VALUE:
        return None
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError):
        return None


def _array(values: list[Any]) -> pa.Array:
    """The values; as texts if their types differ. Lists and objects are never compared, so a
    column of them has empty lists: a type of Arrow's has room for each key in each row."""
    if any(isinstance(value, dict | list) for value in values) and all(
        value is None or isinstance(value, dict | list) for value in values
    ):
        return pa.array([None if value is None else [] for value in values])
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return storable(value) if isinstance(value, str) else json.dumps(value)


def some_of(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(map(repr, list(names)[:_NAMES_SHOWN]))
    further = len(names) - _NAMES_SHOWN
    return f"{shown} and {further:,} more" if further > 0 else shown


def with_numbers(table: pa.Table, names: Collection[str]) -> pa.Table:
    """The table with those of the named text columns as floats whose texts all spell numbers."""
    for index, name in enumerate(table.column_names):
        if name in names:
            table = table.set_column(index, name, as_numbers(table.column(index)))
    return table


def _cleaned(table: pa.Table) -> pa.Table:
    """The table with its texts trimmed, and those that stand for a missing value missing."""
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_dictionary(field.type) and is_text(field.type.value_type):
            column = column.cast(pa.string())
        if is_text(column.type):
            texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
            missing = pc.match_substring_regex(texts, _MISSING)
            given = pc.if_else(missing, _NO_TEXT, texts)
            table = table.set_column(index, field.name, given)
    return table


def _joined(chunks: list[pa.Table], names: list[str]) -> pa.Table:
    schema = pa.schema([(name, _common_type(name, chunks)) for name in names])
    return pa.concat_tables([_cast(chunk, schema) for chunk in chunks])


def _common_type(name: str, chunks: list[pa.Table]) -> pa.DataType:
    types = {chunk.schema.field(name).type for chunk in chunks if name in chunk.column_names}
    types.discard(pa.null())
    if len(types) < 2:
        return types.pop() if types else pa.string()
    return pa.float64() if all(map(is_number, types)) else pa.string()


def _cast(chunk: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        chunk.column(field.name).cast(field.type)
        if field.name in chunk.column_names
        else pa.nulls(chunk.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
