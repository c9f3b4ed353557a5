"""CSV as it is published: which separator, which names, and what a stray quote may cost.

The rules, which `docs/input.md` states:

- The header says what separates values: the most frequent of comma, semicolon and tab outside its
  quotes; or a line `sep=;` before it does, as Excel writes it.
- Spreadsheets leave empty columns behind: a column without a name and without a value is no column.
  A column without a name that has a value is called `Unnamed: N`, as pandas calls it; N counts the
  columns from 0.
- Spreadsheets leave empty rows behind: rows without a value at the end are no rows.
- A quote opens a quoted value only at a value's beginning. If the value is not properly closed, its
  lines are read again one by one, as if no value had several lines. The same holds for a row of
  several lines that has the wrong number of values, or within which every line would be a whole row
  of at least three values. If a line's own quotes are not closed, they are part of its values.
"""

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from shared.tables.content import BLOCK_BYTES, UnreadableTable

csv.field_size_limit(sys.maxsize)  # of the whole process; a table's size is bounded elsewhere

Row = list[str]

_SEPARATORS: Final = ",;\t"
_BLANK: Final = " \t\r\n\v\f\N{NO-BREAK SPACE}\N{ZERO WIDTH NO-BREAK SPACE}"
"""Around a column's name; the last is a byte-order mark that was written twice."""
_TELLING_COLUMNS: Final = 3
"""A line that is a row of at least this many values is a row, not a line of a text value."""
_STATED: Final = re.compile(r'"?(?i:sep)=([!#-/:-@[-^`{-~]|\t)"?\s*')
"""A line before the header, which Excel writes and reads."""
_QUOTED: Final = re.compile(r'"[^"]*+"')


class CsvText:
    """A table in CSV, read block by block."""

    def __init__(self, blocks: Iterator[str]) -> None:
        """Read the header.

        Args:
            blocks: of text, each ending with the end of a line, the last one excepted.

        Raises:
            UnreadableTable: there is no header, or it names two columns alike.
        """
        self._blocks = blocks
        lines = _first_lines(blocks)
        stated = _STATED.fullmatch(lines[0])
        if stated:
            lines = _first_lines(iter(["".join(lines[1:])]))
        self.separator = stated[1] if stated else _separator(lines)
        header, read = self._header(lines)
        self._rest = "".join(lines[read:])
        given = [name.strip(_BLANK) for name in header]
        self.names = [name or f"Unnamed: {at}" for at, name in enumerate(given)]
        self.nameless = frozenset(at for at, name in enumerate(given) if not name)
        """Positions of the columns that the header does not name."""
        refuse_repeated(self.names)
        self._least_values = max((at + 1 for at, name in enumerate(given) if name), default=0)
        self._well_quoted = _well_quoted(self.separator)
        self._no_value = _no_value(self.separator)

    def pieces(self) -> Iterator[str | list[Row]]:
        """The rows in their order, of any number of values: as text, or as values.

        In a piece of text every line is a row whose quotes are closed, so that any reader of CSV
        reads it alike. Empty lines are no rows, nor are rows without a value at the end.
        """
        held: list[str | list[Row]] = []
        for piece in self._pieces():
            given, empty = self._parted(piece)
            if given:
                yield from (*held, given)
                held = []
            if empty:
                held.append(empty)

    def _pieces(self) -> Iterator[str | list[Row]]:
        carried = ""
        for block in self._ahead():
            text = carried + block if carried else block
            carried = ""
            if '"' not in text or self._well_quoted.fullmatch(text):
                yield text
                continue
            rows, carried = self._rows(_lines(text), may_go_on=len(text) <= 2 * BLOCK_BYTES)
            yield rows
        if carried:
            yield self._rows(_lines(carried), may_go_on=False)[0]

    def _parted(self, piece: str | list[Row]) -> tuple[str | list[Row], str | list[Row]]:
        """A piece, and what is at its end without a value."""
        at = len(piece)
        if isinstance(piece, str):
            while at:
                line = piece.rfind("\n", 0, at - 1) + 1
                if not self._no_value.fullmatch(piece, line, at):
                    break
                at = line
        else:
            while at and not any(value.strip(" \t\r\n") for value in piece[at - 1]):
                at -= 1
        return piece[:at], piece[at:]

    def rows_of(self, piece: str | list[Row]) -> list[Row]:
        """The rows of a piece, as values."""
        if not isinstance(piece, str):
            return piece
        lines = io.StringIO(piece, newline="")
        return [row for row in csv.reader(lines, delimiter=self.separator, strict=True) if row]

    def fault(self, values: int) -> str | None:
        """What is wrong with a row of this many values. Values of trailing columns without a name
        may be left out, as Excel does in some rows."""
        if self._least_values <= values <= len(self.names):
            return None
        return f"{'more' if values > len(self.names) else 'fewer'} values than columns"

    def _ahead(self) -> Iterator[str]:
        if self._rest:
            yield self._rest
        yield from self._blocks

    def _header(self, lines: list[str]) -> tuple[Row, int]:
        """The names, and how many lines they take."""
        reader = csv.reader(iter(lines), delimiter=self.separator, strict=True)
        try:
            return next(reader), reader.line_num
        except csv.Error:
            return self._line(lines[0]), 1

    def _rows(self, lines: list[str], *, may_go_on: bool) -> tuple[list[Row], str]:
        """The rows of lines, and the text of a row that may go on behind them.

        Each line is read at most three times, whatever its quotes are: what fails ends at the first
        quote that does not fit, and reading begins again in the line of that quote.
        """
        rows: list[Row] = []
        begin = 0
        while begin < len(lines):
            begin, end = self._strictly(lines, begin, rows)
            if begin == len(lines):
                break
            if end == len(lines) and may_go_on:
                return rows, "".join(lines[begin:])
            again = max(end - 1, begin + 1)
            rows += filter(None, map(self._line, lines[begin:again]))
            begin = again
        return rows, ""

    def _strictly(self, lines: list[str], begin: int, rows: list[Row]) -> tuple[int, int]:
        """Read rows until one is wrong: the line in which it begins, and the one behind its end."""
        first = begin
        following = (lines[at] for at in range(first, len(lines)))
        reader = csv.reader(following, delimiter=self.separator, strict=True)
        try:
            for row in reader:
                end = first + reader.line_num
                if end - begin > 1 and self._is_swallowed(row, lines[begin:end]):
                    return begin, end
                if row:
                    rows.append(row)
                begin = end
        except csv.Error:
            return begin, first + reader.line_num
        return len(lines), len(lines)

    def _is_swallowed(self, row: Row, lines: list[str]) -> bool:
        """Whether a stray quote has made one row of several."""
        if self.fault(len(row)):
            return True
        inner = lines[1:-1] if len(self.names) >= _TELLING_COLUMNS else []
        return bool(inner) and not any(self.fault(len(self._line(line))) for line in inner)

    def _line(self, line: str) -> Row:
        """The values of a line by itself."""
        try:
            return next(csv.reader([line], delimiter=self.separator, strict=True))
        except csv.Error:
            bare = csv.reader([line], delimiter=self.separator, quoting=csv.QUOTE_NONE)
            return next(bare)


def refuse_repeated(names: Iterable[str]) -> None:
    """Refuse a header that names two columns alike.

    Raises:
        UnreadableTable: it does.
    """
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise UnreadableTable(f"a table with two columns named {', '.join(map(repr, repeated))}")


def _lines(text: str) -> list[str]:
    """With their ends: line feeds, carriage returns, or both together."""
    return list(io.StringIO(text, newline=""))


def _first_lines(blocks: Iterator[str]) -> list[str]:
    """The lines of the first block that has any, from the header on."""
    for block in blocks:
        lines = _lines(block)
        header = next((at for at, line in enumerate(lines) if line.strip("\r\n")), None)
        if header is not None:
            return lines[header:]
    raise UnreadableTable("not a CSV table: empty, without even a header")


def _separator(lines: list[str]) -> str:
    """The most frequent in the header; of two as frequent ones the comma before the others."""
    header = _QUOTED.sub("", lines[0])
    if "\0" in header:
        raise UnreadableTable(
            "not a CSV table: its header holds the character 0; if it is UTF-16, save it as UTF-8"
        )
    return max(_SEPARATORS, key=header.count)


def _well_quoted(separator: str) -> re.Pattern[str]:
    """Text in which every quoted value begins and ends in one line and at a separator."""
    between = rf"{re.escape(separator)}\r\n"
    value = rf'"[^"\r\n]*+(?:""[^"\r\n]*+)*+"|[^"{between}][^{between}]*+'
    return re.compile(rf"(?:(?:{value})?+(?:[{between}]|\Z))*+")


def _no_value(separator: str) -> re.Pattern[str]:
    """A line in which every value is empty."""
    between = rf"{re.escape(separator)}\r\n"
    return re.compile(rf'(?:[ \t{between}]|"[ \t]*"(?=[{between}]|\Z))*+')
