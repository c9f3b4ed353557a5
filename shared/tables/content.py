"""From a file or an answer to text: compression, encoding, and the bounds of both.

The content decides, not the name: what begins like gzip is unpacked, and a byte-order mark says the
encoding. Without a mark, text is UTF-8, or what the server of an answer has declared. What begins
like another format is refused by that format's name.
"""

import codecs
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

from shared.failures import WillNotPass
from shared.gunzip import MAGIC, BrokenGzip, GzipRefused, gunzip, gunzip_stream

LARGEST_TABLE_BYTES: Final = 1_000_000_000
"""Of a table that has to be in memory as a whole, once it is unpacked."""
BLOCK_BYTES: Final = 1 << 24
"""Text is read in blocks of about this size."""
LONGEST_LINE: Final = 2 * BLOCK_BYTES
"""Characters of a line of CSV or JSON lines."""
LARGEST_JSON: Final = 200_000_000
"""Characters of JSON that is one value: a list, or an answer around one."""
MOST_GROWTH: Final = 100
"""A packed file may unpack to this many times its size, or to `LEAST_UNPACKED`."""
LEAST_UNPACKED: Final = 20_000_000
MOST_ROWS: Final = 10_000_000
"""Of a table that has to be in memory as a whole. A row of one digit takes about 100 bytes there.
"""

Kind = Literal["csv", "json", "parquet"]

_KINDS: Final = ".csv, .json, .jsonl or .ndjson (each also .gz), or .parquet"
_CSV: Final = (".csv",)
_JSON: Final = (".json", ".jsonl", ".ndjson")
TEXT_SUFFIXES: Final = (*_CSV, *_JSON)
"""How the names of files end that hold a table as text; each also with .gz behind it."""
_PARQUET: Final = b"PAR1"
_BEGINNING_BYTES: Final = 512
_UNPACK: Final = "unpack it, or pack it with gzip instead"
_EXPORT: Final = "save the table as CSV or Parquet"
_FORMATS: Final = (
    (
        rb"PK(?:\x03\x04|\x05\x06|\x07\x08)",
        "a workbook or another ZIP archive; save the sheet as CSV, or unpack the archive",
    ),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Excel workbook or another Office document; save the sheet as CSV",
    ),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", f"packed with bzip2; {_UNPACK}"),
    (rb"\xfd7zXZ\x00", f"packed with xz; {_UNPACK}"),
    (rb"\x5d\x00\x00.{2}(?:\xff{8}|.{5}\x00{3})", f"packed with LZMA; {_UNPACK}"),
    (rb"[\x22-\x28]\xb5\x2f\xfd", f"packed with Zstandard; {_UNPACK}"),
    (rb"\x04\x22\x4d\x18", f"packed with LZ4; {_UNPACK}"),
    (rb"\xff\x06\x00\x00sNaPpY", f"packed with Snappy; {_UNPACK}"),
    (rb"\x1f[\x9d\xa0]", f"packed with compress; {_UNPACK}"),
    (rb"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive; {_UNPACK}"),
    (rb"Rar!\x1a\x07", f"a RAR archive; {_UNPACK}"),
    (rb".{257}ustar[ \x00]", "a tar archive; unpack it"),
    (rb"ARROW1\x00\x00", "an Arrow or Feather file; save the table as Parquet"),
    (rb"\xff{4}.{2}\x00\x00[\x04-\x20]\x00{3}", "a stream of Arrow; save the table as Parquet"),
    (rb"FEA1.*\x00", "a Feather file of version 1; save the table as Parquet"),
    (rb"ORC(?=.*\x00)", "an ORC file; save the table as Parquet"),
    (rb"Obj\x01", "an Avro file; save the table as Parquet"),
    (rb"PARE(?=.*\x00)", "a Parquet file with an encrypted footer; save it without encryption"),
    (rb"\x89HDF\r\n\x1a\n", f"an HDF5 file; {_EXPORT}"),
    (rb"\x93NUMPY", f"an array of NumPy; {_EXPORT}"),
    (rb"\x80[\x02-\x05][\x95}\]c(]", f"a pickle of Python; {_EXPORT}"),
    (rb"SQLite format 3\x00", f"an SQLite database; {_EXPORT}"),
    (
        rb"(?:HEADER RECORD\*{7}|<stata_dta>|\$FL2@\(#\))",
        f"a file of SAS, Stata or SPSS; {_EXPORT}",
    ),
    (rb"%PDF-", f"a PDF document; {_EXPORT}"),
)
"""How the content of other formats begins, and what is said of them. What may begin a text as well
is followed by more that no text has."""
_MARKUP: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)
_OTHER_FORMAT: Final = tuple((re.compile(begins, re.DOTALL), said) for begins, said in _FORMATS)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32 before UTF-16, whose mark its own begins with."""
_LONGEST_MARK: Final = 4
_NO_CHARSETS: Final = {"punycode", "idna", "undefined", "unicode_escape", "raw_unicode_escape"}
"""Codecs of Python that no table is written in; some take a time that is quadratic in the text."""


class UnreadableTable(WillNotPass):
    """What was read is no table; the text says why, and what to do."""


class UnreachableFile(UnreadableTable):
    """The machine does not let us read a file now; nothing is said of its content."""


@contextmanager
def named(name: object) -> Iterator[None]:
    """Errors of reading a file, with its name.

    Raises:
        UnreachableFile: the file is not there, or cannot be read now.
        UnreadableTable: it is no table.
    """
    try:
        yield
    except UnreadableTable as error:
        raise type(error)(f"{name}: {error}") from None
    except BrokenGzip as error:
        raise UnreadableTable(f"{name}: cannot be read: {error}") from None
    except GzipRefused as error:
        raise UnreadableTable(f"{name}: {error}") from None
    except (OSError, EOFError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        # only what the operating system says has a number; libraries' errors are of the content
        of_system = getattr(error, "errno", None) is not None
        kind = UnreachableFile if of_system else UnreadableTable
        raise kind(f"{name}: cannot be read: {why}") from None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def kind_of(path: Path) -> Kind:
    """What kind of table a file holds, by its name; Parquet also by its content.

    Raises:
        UnreadableTable: it is a folder, is empty, or is of another kind.
        OSError: it cannot be read.
    """
    if path.is_dir():
        raise UnreadableTable("a folder, not a file")
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
    _refuse_other_format(beginning)
    if _MARKUP.match(beginning):
        raise UnreadableTable("a web page or XML, not a table; download or save the table as CSV")
    name = path.name.lower()
    is_parquet = name.endswith(".parquet")
    name = name.removesuffix(".gz")
    if not is_parquet and not name.endswith(TEXT_SUFFIXES):
        raise UnreadableTable(f"of no known kind; use {_KINDS}")
    if not beginning:
        raise UnreadableTable("empty")
    if is_parquet and beginning.startswith(MAGIC):
        raise UnreadableTable("packed with gzip; unpack it, Parquet is packed within")
    if is_parquet or beginning.startswith(_PARQUET):
        return "parquet"
    return "csv" if name.endswith(_CSV) else "json"


def _refuse_other_format(beginning: bytes) -> None:
    """Refuse what begins like a format that is not read here.

    Raises:
        UnreadableTable: names the format, and says what to do.
    """
    for begins, said in _OTHER_FORMAT:
        if begins.match(beginning):
            raise UnreadableTable(said)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if they are gzip.

    Reading them raises `GzipRefused` if they are broken, gzip again, or grow beyond the bound.
    """
    with path.open("rb") as file:
        if not file.peek(len(MAGIC)).startswith(MAGIC):
            yield file
            return
        size = os.fstat(file.fileno()).st_size
        most_bytes = max(min(LEAST_UNPACKED, LARGEST_TABLE_BYTES), MOST_GROWTH * size)
        yield cast("BinaryIO", gunzip_stream(file, most_bytes))


def unpacked(
    data: bytes | bytearray, most_bytes: int, until: float | None = None
) -> bytes | bytearray:
    """The bytes, unpacked if they are gzip.

    Args:
        until: when unpacking is given up, as `time.monotonic` tells it; None: never.

    Raises:
        UnreadableTable: they are broken, gzip again, or more than `most_bytes` when unpacked.
        TimeoutError: it is too late.
    """
    if not data.startswith(MAGIC):
        return data
    try:
        return gunzip(data, most_bytes, until)
    except GzipRefused as error:
        raise UnreadableTable(str(error)) from None


def decode(data: bytes | bytearray, charset: str | None = None) -> str:
    """The text of bytes.

    Args:
        charset: what was declared; None: nothing, so it is UTF-8 unless a mark says otherwise.

    Raises:
        UnreadableTable: names the first byte that is not of the encoding.
    """
    return "".join(text_chunks(BytesIO(data), charset))


def text_blocks(
    stream: BinaryIO, charset: str | None = None, *, longest_line: int | None = None
) -> Iterator[str]:
    """The text of a stream in blocks that end with the end of a line, the last one excepted.

    Args:
        longest_line: in characters; None: as long as a table may be.

    Raises:
        UnreadableTable: names the first byte that is not of the encoding; or a line is too long.
    """
    longest_line = LARGEST_TABLE_BYTES if longest_line is None else longest_line
    line: list[str] = []
    characters = 0
    for text in text_chunks(stream, charset):
        end = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
        line.append(text[:end] if end else text)
        characters += len(text)
        if end:
            yield "".join(line)
            line, characters = [text[end:]], len(text) - end
        if characters > longest_line:
            raise UnreadableTable(f"a line of more than {longest_line:,} characters")
    if rest := "".join(line):
        yield rest


def text_chunks(stream: BinaryIO, charset: str | None = None) -> Iterator[str]:
    """The text of a stream, cut anywhere.

    Raises:
        UnreadableTable: names the first byte that is not of the encoding.
    """
    beginning = stream.read(_BEGINNING_BYTES)
    _refuse_other_format(beginning)
    if beginning.startswith(_PARQUET):
        raise UnreadableTable("Parquet that is packed with gzip; unpack it")
    encoding, mark = _encoding(beginning, charset)
    decoder = codecs.getincrementaldecoder(encoding)()
    position = len(mark)
    chunk = beginning[len(mark) :] + stream.read(BLOCK_BYTES)
    while True:
        yield _decoded(decoder, chunk, position, encoding)
        if not chunk:
            return
        position += len(chunk)
        chunk = stream.read(BLOCK_BYTES)


def bounded(blocks: Iterator[str], most: int | None = None) -> Iterator[str]:
    """The blocks, as long as they are not too much.

    Args:
        most: characters; None: as many as a table in memory may have.

    Raises:
        UnreadableTable: they are more.
    """
    most = LARGEST_TABLE_BYTES if most is None else min(most, LARGEST_TABLE_BYTES)
    characters = 0
    for block in blocks:
        characters += len(block)
        if characters > most:
            raise UnreadableTable(f"larger than {most:,} bytes")
        yield block


def require_few(rows: int) -> None:
    """Refuse a table that has too many rows to be in memory as a whole.

    Raises:
        UnreadableTable: it has.
    """
    if rows > MOST_ROWS:
        raise UnreadableTable(f"more than {MOST_ROWS:,} rows; cut it into several files")


def _encoding(beginning: bytes, charset: str | None) -> tuple[str, bytes]:
    """The encoding, and the mark that said so."""
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding, mark
    return _known(charset), b""


def _known(charset: str | None) -> str:
    """A declared encoding if Python has it; else UTF-8."""
    try:
        bytes(_LONGEST_MARK).decode(charset or "utf-8", "replace")  # refuses what is not for texts
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name == "ascii" or name in _NO_CHARSETS else name


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, position: int, encoding: str) -> str:
    try:
        return decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        at = position + len(chunk) - len(error.object) + error.start
        raise UnreadableTable(
            f"not {encoding.upper()}: byte {at} is {error.object[error.start]:#04x}; "
            "save it as UTF-8"
        ) from None
