"""Tables in files: CSV, Parquet and JSON lines, read in chunks.

Values of CSV stay texts until it is known which columns are numbers: a type read off the first
block may not fit the rest. Texts are trimmed, and one of `MISSING_TEXTS` is a missing value.
"""

import gzip
import json
import re
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from services.drift.tables.roles import MISSING_TEXTS, as_numbers, is_number, is_text
from shared.frames import storable

BLOCK_BYTES: Final = 1 << 24
"""CSV and JSON lines are read in blocks of about this size."""

_KINDS: Final = ".csv, .json, .jsonl or .ndjson (each also .gz), or .parquet"
_HEADER_BYTES: Final = 1 << 20
_MISSING: Final = rf"\A(?:{'|'.join(map(re.escape, sorted(MISSING_TEXTS)))})\z"
_NO_OBJECT: Final = re.compile(rb"^[^\S\n]*[^\s{]", re.MULTILINE)
"""A line of JSON that begins with something else than an object."""
_NO_TEXT: Final = pa.nulls(1, pa.string())[0]
"""Not `pa.scalar`, which imports pandas."""
_OTHER_SEPARATORS: Final = {b";": "semicolons", b"\t": "tabs"}


class UnreadableFile(ValueError):
    """A file is no table; the text says which file, and where it goes wrong."""


class TableFile(ABC):
    """A table in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        """The columns; of JSON those of the blocks that have been read."""

    def chunks(
        self, columns: Collection[str] | None = None, numbers: Collection[str] = ()
    ) -> Iterator[pa.Table]:
        """The rows in their order: a Parquet file's by row group, others' by block; at least one.

        Types are a chunk's own: what is text in one may be a number in the next.

        Args:
            columns: to read; None: all. A chunk has those of them that the file has.
            numbers: columns that are to be numbers in each chunk whose texts all spell some.

        Raises:
            UnreadableFile: the file is broken.
        """
        wanted = None if columns is None else frozenset(columns)
        table = None
        with _told(self.path):
            for block in self._blocks(wanted):
                table = _cleaned(block if wanted is None else _comparable(block, wanted))
                yield with_numbers(table, numbers)
        if table is None:
            yield pa.table({name: pa.nulls(0, pa.string()) for name in self.names})

    def table(self) -> pa.Table:
        """All rows and columns. Numbers of several types become floats, other mixtures texts.

        Raises:
            UnreadableFile: the file is broken.
        """
        chunks = list(self.chunks())
        with _told(self.path):
            return _joined(chunks)

    @abstractmethod
    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:
        """The rows as they stand in the file, with at least the wanted columns."""


def open_table(path: Path) -> TableFile:
    """The table in a file, whose kind is told by its name.

    Raises:
        UnreadableFile: it is not there, empty, of no known kind, or its beginning is broken.
    """
    with _told(path):
        if path.is_dir():
            raise UnreadableFile("is a folder, not a file")
        if not path.stat().st_size:
            raise UnreadableFile("is empty")
        return _reader(path)(path)


def _reader(path: Path) -> type[TableFile]:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _Parquet
    name = name.removesuffix(".gz")
    if name.endswith(".csv"):
        return _Csv
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return _JsonLines
    raise UnreadableFile(f"is of no known kind; use {_KINDS}")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading, with the file's name."""
    try:
        yield
    except UnreadableFile as error:
        raise UnreadableFile(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise UnreadableFile(f"{path}: is not UTF-8; save it as UTF-8") from None
    except pa.ArrowException as error:
        if "invalid utf8" in str(error).lower():
            raise UnreadableFile(f"{path}: is not UTF-8; save it as UTF-8") from None
        raise UnreadableFile(f"{path}: cannot be read: {_first_line(error)}") from None
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or _first_line(error)
        raise UnreadableFile(f"{path}: cannot be read: {why}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Csv(TableFile):
    """CSV with a header; values stay texts."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self._stream() as stream:
            _refuse_other_forms(stream.read(_HEADER_BYTES))
        with self._open(_HEADER_BYTES, {}, ()) as reader:
            self._published: list[str] = reader.schema.names
        self.names = [name.strip() for name in self._published]
        _refuse_repeated(self.names)

    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:
        chosen = [
            name for name in self._published if wanted is None or name.strip() in wanted
        ] or self._published  # for the number of rows
        with self._open(BLOCK_BYTES, dict.fromkeys(chosen, pa.string()), chosen) as reader:
            for batch in reader:
                names = [name.strip() for name in batch.schema.names]
                yield pa.Table.from_batches([batch]).rename_columns(names)

    def _open(
        self, block_bytes: int, types: dict[str, pa.DataType], columns: Collection[str]
    ) -> Any:
        from pyarrow import csv

        return csv.open_csv(
            self._stream(),
            csv.ReadOptions(block_size=block_bytes),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(column_types=types, include_columns=list(columns)),
        )

    def _stream(self) -> Any:
        return pa.input_stream(str(self.path), compression="gzip" if _is_gzip(self.path) else None)


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _refuse_other_forms(beginning: bytes) -> None:
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableFile("is UTF-16; save it as UTF-8")
    header = beginning.partition(b"\n")[0]
    for separator, spoken in _OTHER_SEPARATORS.items():
        if separator in header and b"," not in header:
            raise UnreadableFile(f"has values separated by {spoken}; save it with commas")


def _refuse_repeated(names: list[str]) -> None:
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise UnreadableFile(f"has two columns named {', '.join(map(repr, repeated))}")


class _Parquet(TableFile):
    """Parquet, read by row group."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        super().__init__(path)
        self._file = parquet.ParquetFile(path)
        self.names = self._file.schema_arrow.names
        _refuse_repeated(self.names)

    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:
        columns = [name for name in self.names if wanted is None or name in wanted]
        for group in range(self._file.num_row_groups):
            yield self._file.read_row_group(group, columns or self.names[:1])


class _JsonLines(TableFile):
    """One JSON object a line, or a list of objects."""

    def _blocks(self, wanted: frozenset[str] | None) -> Iterator[pa.Table]:  # noqa: ARG002
        for table in self._tables():
            self.names += [name for name in table.column_names if name not in self.names]
            yield table

    def _tables(self) -> Iterator[pa.Table]:
        with gzip.open(self.path) if _is_gzip(self.path) else self.path.open("rb") as file:
            if file.read(_HEADER_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
                file.seek(0)
                yield _table_of_list(file.read())
                return
            file.seek(0)
            lines = 0
            found = False
            while block := file.read(BLOCK_BYTES) + file.readline():
                if block.strip():
                    found = True
                    yield _table_of_lines(block, lines)
                lines += block.count(b"\n")
            if not found:
                raise UnreadableFile("is empty")


def _table_of_lines(block: bytes, lines_before: int) -> pa.Table:
    from pyarrow import json as arrow_json

    text = block.decode("utf-8-sig")  # which Arrow does not look at
    options = arrow_json.ReadOptions(block_size=len(block) + 1)
    if not _NO_OBJECT.search(block):  # on which Arrow's reader has been seen to end the process
        with suppress(pa.ArrowInvalid):  # broken, or a column of values of several types
            return arrow_json.read_json(pa.BufferReader(block), options)
    lines = enumerate(text.split("\n"), lines_before + 1)
    return _table_of_records(_record(line, number) for number, line in lines if line.strip())


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"line {number}: is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise UnreadableFile(f"line {number}: is not a JSON object")
    return record


def _table_of_list(text: bytes) -> pa.Table:
    decoded = text.decode("utf-8-sig")
    try:
        records = json.loads(decoded)
    except (ValueError, RecursionError) as error:  # also of a number of thousands of digits
        raise UnreadableFile(f"is not JSON: {error}") from None
    if not all(isinstance(record, dict) for record in records):
        raise UnreadableFile("is a JSON list, but not of objects")
    return _table_of_records(records)


def _table_of_records(records: Iterable[dict[str, Any]]) -> pa.Table:
    rows = list(records)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {storable(name): _array([row.get(name) for row in rows]) for name in names}
    return pa.table(columns)


def _array(values: list[Any]) -> pa.Array:
    """The values; as texts if their types differ."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return storable(value) if isinstance(value, str) else json.dumps(value)


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


def _comparable(table: pa.Table, wanted: frozenset[str]) -> pa.Table:
    """The wanted columns; lists and objects, which compare with nothing, are missing values."""
    columns = {
        field.name: pa.nulls(table.num_rows)
        if pa.types.is_nested(field.type)
        else table.column(field.name)
        for field in table.schema
        if field.name in wanted
    }
    return pa.table(columns) if columns else table.select([])


def _joined(chunks: list[pa.Table]) -> pa.Table:
    names = dict.fromkeys(name for chunk in chunks for name in chunk.column_names)
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
