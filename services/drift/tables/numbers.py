"""Texts as numbers: with decimal points, or, if a column says so, with commas or separated groups.

'1,5' and '1.234,5' are numbers with decimal commas, '1,234.5' and '1,234,567' have decimal points.
'1,234' may be either, so a column of such texts alone is not read as numbers.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import pyarrow as pa

from shared.tables.spelling import FALSE, TRUE

NUMBER_SHARE: Final = 0.95
"""A text column is one of numbers if at least this share of its values are."""

LONGEST_NUMBER: Final = 400
"""Characters; a longer text is no number."""

Style = Literal["plain", "decimal commas", "separated thousands", "unclear"]
"""How a column of texts spells its numbers; `unclear`: as whole numbers with separated thousands,
or with decimal commas and three decimals."""

_GROUPS: Final = " '\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{RIGHT SINGLE QUOTATION MARK}"
_COMMAS: Final = re.compile(
    rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:[.{_GROUPS}][0-9]{{3}})+|[0-9]+)(?:,[0-9]+(?:[eE][+-]?[0-9]+)?)?"
)
_POINTS: Final = re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:[,{_GROUPS}][0-9]{{3}})+(?:\.[0-9]+)?")
_EITHER: Final = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_MINUS_SIGN: Final = "\N{MINUS SIGN}"
_NO_POINTS: Final = str.maketrans({",": ".", **dict.fromkeys("." + _GROUPS, "")})
_NO_COMMAS: Final = str.maketrans(dict.fromkeys("," + _GROUPS, ""))
_FLAGS: Final = {TRUE: 1.0, FALSE: 0.0}


def is_number(kind: pa.DataType) -> bool:
    """Whether it is a numeric type."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether it is a type of texts, encoded or not."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts as floats if all of them spell some plainly; else the column as it is."""
    if not is_text(column.type):
        return column
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return column


def style_of(rows_by_text: Mapping[str, int]) -> Style | None:
    """How a column spells its numbers; None if most of its values are none.

    Args:
        rows_by_text: the texts that are values, and how many rows have each.
    """
    rows_by_text = _stripped(rows_by_text)
    plainly = {text for text in rows_by_text if _is_plain(text)}
    if len(plainly) == len(rows_by_text):
        return "plain"
    short = [text for text in rows_by_text if len(text) <= LONGEST_NUMBER]
    commas = set(filter(_COMMAS.fullmatch, short))
    points = plainly.union(filter(_POINTS.fullmatch, short))

    def rows(texts: Iterable[str]) -> int:
        return sum(map(rows_by_text.__getitem__, texts))

    needed = NUMBER_SHARE * sum(rows_by_text.values())
    only_commas, only_points = rows(commas - points), rows(points - commas)
    if rows(commas) >= needed and only_commas > only_points:
        return "decimal commas"
    if rows(points) < needed:
        return None
    if points == plainly:
        return "plain"
    if only_points or not any(map(_EITHER.fullmatch, points)):
        return "separated thousands"
    return "plain" if rows(plainly) >= needed else "unclear"


def _stripped(rows_by_text: Mapping[str, int]) -> Mapping[str, int]:
    stripped: Counter[str] = Counter()
    for text, rows in rows_by_text.items():
        stripped[_with_hyphen(text.strip())] += rows
    return stripped


def _with_hyphen(text: str) -> str:
    """The text with a hyphen in place of the minus sign that typesetters use."""
    return text.replace(_MINUS_SIGN, "-", 1) if text.startswith(_MINUS_SIGN) else text


def _is_plain(text: str) -> bool:
    return math.isfinite(_plain(text))


def _plain(text: str) -> float:
    """The number that a text spells without separators; NaN if it spells none.

    Python reads '2024_01' as a number; here it is none.
    """
    if "_" in text or len(text) > LONGEST_NUMBER:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


def number(text: str, style: Style | None) -> float:
    """The number that a text spells in a column of this style; NaN if it spells none.

    A flag is 1 or 0.
    """
    text = _with_hyphen(text.strip())
    if len(text) > LONGEST_NUMBER:
        return math.nan
    if style == "decimal commas":
        return float(text.translate(_NO_POINTS)) if _COMMAS.fullmatch(text) else math.nan
    if text in _FLAGS:
        return _FLAGS[text]
    if style == "separated thousands" and _POINTS.fullmatch(text):
        return float(text.translate(_NO_COMMAS))
    return _plain(text)
