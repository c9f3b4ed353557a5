"""JSON read row by row: a list of objects, or the list under a key of the object around it.

One value is in memory at a time, and each has a bound. Without it 50 MB of `{},{},{}` would become
more than a gigabyte of objects.
"""

import re
from collections.abc import Collection, Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final

from shared.tables.content import UnreadableTable

LONGEST_VALUE: Final = 4_000_000
"""Characters of a row, or of another value of the object around the rows."""
MOST_MEMBERS: Final = 1_000
"""Keys of the object around the rows."""
MOST_NESTING: Final = 64
"""Lists and objects within each other in one value of a row."""
TOO_DEEP: Final = f"a value nested more than {MOST_NESTING} deep"
"""The fault of a row."""

MOST_ABSENT: Final = 50
"""Values that are not there, for each one that is."""
MOST_ABSENT_AT_FIRST: Final = 1_000_000

_SPACE: Final = re.compile(r"[ \t\n\r]*+")


class NotJson(ValueError):
    """Text that is not JSON, or has a value that is larger than the bound."""


class JsonRows:
    """The rows of a JSON text, in their order; each may be any value.

    `members` and `is_found` are known when all rows have been read.
    """

    def __init__(
        self, chunks: Iterator[str], decoder: JSONDecoder, key: str, kept: Collection[str] = ()
    ) -> None:
        """Read nothing yet.

        Args:
            chunks: the text, cut anywhere.
            key: under which an object has its rows.
            kept: the other members of that object that are of interest.
        """
        self.members: dict[str, Any] = {}
        self.is_object = False
        """Whether the text is an object."""
        self.is_found = False
        """Whether a list of rows was there."""
        self._chunks = chunks
        self._decoder = decoder
        self._key = key
        self._kept = frozenset(kept)
        self._window = ""
        self._at = 0
        self._passed = 0

    @property
    def characters(self) -> int:
        """How many characters have been read."""
        return self._passed + self._at

    def __iter__(self) -> Iterator[Any]:
        """Read the text once.

        Raises:
            NotJson: it is none, or a value is too large.
            UnreadableTable: the text cannot be decoded.
        """
        match self._next():
            case "[":
                yield from self._list()
            case "{":
                self.is_object = True
                yield from self._object()
            case _:
                self._value()
        if self._next():
            raise self._fault("Extra data")

    def _object(self) -> Iterator[Any]:
        self._at += 1
        members = 0
        if self._next() == "}":
            self._at += 1
            return
        while True:
            if self._next() != '"':
                raise self._fault("Expecting property name enclosed in double quotes")
            name = self._value()
            self._expect(":")
            members += 1
            if members > MOST_MEMBERS:
                raise NotJson(f"more than {MOST_MEMBERS:,} keys in the object around the rows")
            begins = self._next()
            if name == self._key and begins == "[":
                if self.is_found:
                    raise NotJson(f"the key {self._key!r} stands twice")
                yield from self._list()
            else:
                value = self._value()
                if name in self._kept:
                    self.members[name] = value
            if not self._goes_on("}"):
                return

    def _list(self) -> Iterator[Any]:
        self._at += 1
        self.is_found = True
        if self._next() == "]":
            self._at += 1
            return
        while True:
            self._next()
            yield self._value()
            if not self._goes_on("]"):
                return

    def _goes_on(self, end: str) -> bool:
        """Whether a comma follows, and not the end."""
        if self._next() == end:
            self._at += 1
            return False
        self._expect(",")
        return True

    def _expect(self, letter: str) -> None:
        if self._next() != letter:
            raise self._fault(f"Expecting {letter!r} delimiter")
        self._at += 1

    def _next(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            self._at = _end_of_space(self._window, self._at)
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        """Take in more text; False at its end."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._passed += self._at
        self._window, self._at = self._window[self._at :] + chunk, 0
        return True

    def _value(self) -> Any:
        while len(self._window) - self._at <= LONGEST_VALUE and self._fill():
            pass
        too_long = NotJson(f"a value of more than {LONGEST_VALUE:,} characters")
        try:
            value, end = self._decoder.raw_decode(self._window, self._at)
        except JSONDecodeError as error:
            is_cut = len(self._window) - self._at > LONGEST_VALUE
            unfinished = error.msg.startswith("Unterminated string")
            if is_cut and (unfinished or error.pos - self._at > LONGEST_VALUE):
                raise too_long from None
            raise self._fault(error.msg, error.pos) from None
        except RecursionError:
            raise NotJson("lists and objects are nested too deeply") from None
        if end - self._at > LONGEST_VALUE:
            raise too_long
        self._at = end
        return value

    def _fault(self, words: str, at: int | None = None) -> NotJson:
        place = self._passed + (self._at if at is None else at)
        return NotJson(f"{words} at character {place:,}")


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def is_too_deep(value: Any, left: int = MOST_NESTING) -> bool:
    """Whether lists and objects are nested more than `left` deep in a value."""
    match value:
        case dict():
            return left == 0 or any(is_too_deep(each, left - 1) for each in value.values())
        case list():
            return left == 0 or any(is_too_deep(each, left - 1) for each in value)
    return False


def require_filled(rows: int, columns: int, given: int) -> None:
    """Refuse a table of which almost all values are absent.

    A table in memory has a place for each value, also for one that is not there. Rows with few
    values, or each with other keys, would take a thousand times the memory of the text.

    Args:
        given: values that are there.

    Raises:
        UnreadableTable: there are too many others.
    """
    absent = rows * max(columns, 1) - given  # a row without any value takes room too
    if absent > MOST_ABSENT_AT_FIRST + MOST_ABSENT * given:
        raise UnreadableTable(
            f"a table of {rows:,} rows and {columns:,} columns with only {given:,} values; give "
            "all rows the same columns"
        )
