"""JSON as it is published: a list of objects, an answer around one, or an object a line."""

from collections.abc import Iterator
from itertools import chain
from json import JSONDecoder
from typing import Any, Final, TypeGuard

from shared.tables.content import LARGEST_JSON, UnreadableTable, bounded
from shared.tables.json_rows import LONGEST_VALUE, JsonRows, NotJson

ANSWER_KEY: Final = "records"
"""Under which an answer of data.gov.in has its rows."""
NO_OBJECT: Final = "not a JSON object"
"""The fault of a row."""

_CHUNK: Final = 1 << 20
_FORMS: Final = (
    f"not a JSON list of objects, an object with such a list under {ANSWER_KEY!r}, or lines of "
    "objects"
)


def json_pieces(blocks: Iterator[str], decoder: JSONDecoder) -> Iterator[str | list[Any]]:
    """The rows in their order: as text of which each line is to be an object, or as values.

    The values of a piece come from about `LONGEST_VALUE` characters, and no more than twice that.

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
    if second and _is_object(line, decoder):
        yield first
        if second is not rest:
            yield second
        yield from blocks
        return
    begun = [first] if second is rest else [first, second]
    text = "".join(bounded(chain(begun, blocks), LARGEST_JSON))
    if len(text) > LONGEST_VALUE:
        yield from _rows_of_large(text, decoder)
        return
    try:
        value = decoder.decode(text)
    except RecursionError:
        yield _lines_of(text, NotJson("lists and objects are nested too deeply"), decoder)
        return
    except ValueError as error:
        yield _lines_of(text, error, decoder)
        return
    yield rows_in(value)


def _rows_of_large(text: str, decoder: JSONDecoder) -> Iterator[str | list[Any]]:
    """The rows of a text that is too large for all of its values to be in memory at once."""
    rows = JsonRows(chunks_of(text), decoder, ANSWER_KEY)
    piece: list[Any] = []
    begin, has_object, is_begun = 0, False, False
    try:
        for row in rows:
            is_object = isinstance(row, dict)
            has_object |= is_object
            piece.append(row if is_object else None)
            if has_object and rows.characters - begin > LONGEST_VALUE:
                yield piece
                piece, begin, is_begun = [], rows.characters, True
    except NotJson as error:
        if is_begun:
            raise UnreadableTable(f"not JSON: {error}") from None
        yield _lines_of(text, error, decoder)
        return
    if not has_object and (piece or not rows.is_found):
        raise UnreadableTable(_FORMS)
    yield piece


def chunks_of(text: str) -> Iterator[str]:
    """The text in chunks of a size that `JsonRows` reads well."""
    return (text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK))


def _lines_of(text: str, error: Exception, decoder: JSONDecoder) -> str:
    """The text, if it is no JSON as a whole, but one of its lines is an object."""
    lines = text.split("\n")
    first = next(filter(str.strip, lines))
    commas = sum(map(_ends_with_comma, lines))
    if 2 * commas > len(lines) and _is_object(first.rstrip().removesuffix(","), decoder):
        raise UnreadableTable(
            "lines of JSON objects that end with a comma; remove the commas, or put [ before "
            "the first object and ] behind the last"
        ) from None
    if not any(_is_object(line, decoder) for line in lines):
        why = "it holds the character 0; if it is UTF-16, save it as UTF-8"
        raise UnreadableTable(f"not JSON: {why if chr(0) in first else error}") from None
    return text


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


def _is_object(line: str, decoder: JSONDecoder) -> bool:
    if len(line) > LONGEST_VALUE or not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(decoder.decode(line), dict)
    except (ValueError, RecursionError):
        return False
