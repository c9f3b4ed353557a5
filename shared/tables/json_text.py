"""JSON as it is published: a list of objects, an answer around one, or an object a line."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final, TypeGuard

from shared.tables.content import UnreadableTable, bounded

ANSWER_KEY: Final = "records"
"""Under which an answer of data.gov.in has its rows."""
NO_OBJECT: Final = "not a JSON object"
"""The fault of a row."""

Loads = Callable[[str], Any]
"""Reads a JSON value; raises ValueError or RecursionError if it is none."""

_FORMS: Final = (
    f"not a JSON list of objects, an object with such a list under {ANSWER_KEY!r}, or lines of "
    "objects"
)


def json_pieces(blocks: Iterator[str], loads: Loads) -> Iterator[str | list[Any]]:
    """The rows in their order: as text of which each line is to be an object, or as values.

    Values that are no objects are rows with a fault (`NO_OBJECT`).

    Args:
        blocks: of text, each ending with the end of a line, the last one excepted.

    Raises:
        UnreadableTable: it is no JSON, JSON of another form, or too large to be read as a whole.
    """
    first = next((block for block in blocks if block.strip()), None)
    if first is None:
        raise UnreadableTable("empty")
    line, _, rest = first.lstrip().partition("\n")
    second = rest if rest.strip() else next((block for block in blocks if block.strip()), "")
    if second and _is_object(line, loads):
        yield first
        if second is not rest:
            yield second
        yield from blocks
        return
    begun = [first] if second is rest else [first, second]
    text = "".join(bounded(chain(begun, blocks)))
    try:
        value = loads(text)
    except (ValueError, RecursionError) as error:
        lines = text.split("\n")
        commas = sum(map(_ends_with_comma, lines))
        if 2 * commas > len(lines) and _is_object(line.rstrip().removesuffix(","), loads):
            raise UnreadableTable(
                "lines of JSON objects that end with a comma; remove the commas, or put [ before "
                "the first object and ] behind the last"
            ) from None
        if not any(_is_object(each, loads) for each in lines):
            why = "it holds the character 0; if it is UTF-16, save it as UTF-8"
            raise UnreadableTable(f"not JSON: {why if chr(0) in line else error}") from None
        yield text
        return
    yield rows_in(value)


def rows_in(value: Any) -> list[Any]:
    """The rows of a JSON value: a list of objects, an answer around one, or an object alone that
    has a value.

    Raises:
        UnreadableTable: it is none of them.
    """
    if isinstance(value, dict):
        inner = value.get(ANSWER_KEY)
        if _is_table(inner):
            return inner
        if value and all(isinstance(each, list | dict) for each in value.values()):
            raise UnreadableTable(f"{_FORMS}; it is one object of lists or objects")
        return [value]
    if not _is_table(value):
        raise UnreadableTable(_FORMS)
    return value


def _is_table(value: Any) -> TypeGuard[list[Any]]:
    """Whether it is a list that has an object, or nothing."""
    return isinstance(value, list) and (not value or any(isinstance(each, dict) for each in value))


def _ends_with_comma(line: str) -> bool:
    return line.rstrip().endswith("},")


def _is_object(line: str, loads: Loads) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(loads(line), dict)
    except (ValueError, RecursionError):
        return False
