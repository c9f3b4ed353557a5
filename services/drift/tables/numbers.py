"""Texts as numbers: with decimal points, or, if a column says so, with commas or separated groups.

'1,5' and '1.234,5' are numbers with decimal commas, '1,234.5' and '1,234,567' have decimal points.
'1,234' may be either, so a column of such texts alone is not read as numbers.

'(12)' and '12-' are -12, as bookkeepers write it. Every number of a column may have one and the
same mark: a sign of a currency, a percent sign, or a unit ('$12', '45 %', '12 mg').
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from shared.tables.spelling import FALSE, TRUE

NUMBER_SHARE: Final = 0.95
"""A text column is one of numbers if at least this share of its values are."""

LONGEST_NUMBER: Final = 400
"""Characters; a longer text is no number."""

MOST_MARKS: Final = 10
"""Texts with more different marks are no numbers."""


Style = Literal["plain", "decimal commas", "separated thousands", "unclear", "different marks"]
"""How a column of texts spells its numbers; `unclear`: as whole numbers with separated thousands,
or with decimal commas and three decimals."""
_WORDS: Final[dict[Style, str]] = {
    "decimal commas": "decimal commas",
    "separated thousands": "separated thousands",
    "unclear": "commas that may be decimal commas or may separate thousands",
    "different marks": "different signs or units",
}


@dataclass(frozen=True)
class Writing:
    """How a column of texts writes its numbers."""

    style: Style
    mark: str = ""
    """What stands beside every number, such as '$', '%' or 'mg'."""

    @property
    def has_marks(self) -> bool:
        """Whether anything stands beside the numbers."""
        return bool(self.mark) or self.style == "different marks"

    def in_words(self) -> str:
        """Such as "numbers with decimal commas and '€'"; empty if they are plain."""
        parts = [_WORDS[self.style]] if self.style in _WORDS else []
        if self.mark:
            parts.append(f"'{self.mark}'")
        return f"numbers with {' and '.join(parts)}" if parts else ""


PLAIN: Final = Writing("plain")


_GROUPS: Final = " '\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{RIGHT SINGLE QUOTATION MARK}"
_COMMAS: Final = re.compile(
    rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:[.{_GROUPS}][0-9]{{3}})+|[0-9]+)(?:,[0-9]+(?:[eE][+-]?[0-9]+)?)?"
)
_POINTS: Final = re.compile(
    rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:[,{_GROUPS}][0-9]{{3}})+|[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}})"
    r"(?:\.[0-9]+)?"
)
"""The second form is that of India: 12,34,567."""
_EITHER: Final = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_MINUS_SIGN: Final = "\N{MINUS SIGN}"
_NO_POINTS: Final = str.maketrans({",": ".", **dict.fromkeys("." + _GROUPS, "")})
_NO_COMMAS: Final = str.maketrans(dict.fromkeys("," + _GROUPS, ""))
_FLAGS: Final = {TRUE: 1.0, FALSE: 0.0}

_CURRENCY: Final = (
    r"$\xa2-\xa5\u058f\u060b\u09f2\u09f3\u0af1\u0bf9\u0e3f\u17db\u20a0-\u20cf\ufdfc\uff04\uffe0"
    r"\uffe1\uffe5\uffe6"
)
_CODES: Final = (
    "AED|AUD|BDT|BRL|CAD|CHF|CNY|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KES|KRW|LKR|MXN|MYR|"
    "NGN|NOK|NPR|NZD|PHP|PKR|PLN|RMB|RUB|SAR|SEK|SGD|THB|TRY|USD|VND|ZAR"
)
_BEFORE: Final = rf"[A-Za-z]{{0,3}}[{_CURRENCY}]|(?:{_CODES})|Rs\.?|[Kk]r\.?|Fr\.?"
_WORD: Final = rf"[^\W\d_]*+(?:[%\u2030\xb0{_CURRENCY}][^\W\d_]*+)?+(?:\^?[23])?"
_BEHIND: Final = rf"(?=\D)(?:{_WORD})(?:/(?:{_WORD})| [^\W\d_]++)?\.?"
_MARKED: Final = re.compile(
    rf"([+-]?)\s?({_BEFORE})?\s?([+-]?)((?:[0-9]|[.,](?=[0-9]))(?:[0-9.,{_GROUPS}]*[0-9])?"
    rf"(?:[eE][+-]?[0-9]+)?)\s?({_BEHIND})?"
)
_LONGEST_MARKED: Final = 50
_BRACKETS: Final = re.compile(r"\(((?=[^()0-9+-]*+[0-9])[^()+-]*+)\)")
_MINUS_BEHIND: Final = re.compile(r"([0-9][^+-]*)-")


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


def writing_of(rows_by_text: Mapping[str, int]) -> Writing | None:
    """How a column writes its numbers; None if most of its values are none.

    Args:
        rows_by_text: the texts that are values, and how many rows have each.
    """
    rows_by_text = _stripped(rows_by_text)
    if style := _style_of(rows_by_text):
        return Writing(style)
    needed = NUMBER_SHARE * sum(rows_by_text.values())
    cores: dict[str, Counter[str]] = {}
    for text, rows in rows_by_text.items():
        core, mark = _parted(text)
        if core:
            cores.setdefault(mark, Counter())[core] += rows
    if not cores or sum(rows.total() for rows in cores.values()) < needed:
        return None
    mark, rows_by_core = max(cores.items(), key=lambda item: item[1].total())
    if rows_by_core.total() >= needed:
        style = _style_of(rows_by_core)
        return Writing(style, mark) if style else None
    return Writing("different marks") if len(cores) <= MOST_MARKS else None


def _style_of(rows_by_text: Mapping[str, int]) -> Style | None:
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
        stripped[_with_sign(text.strip())] += rows
    return stripped


def _with_sign(text: str) -> str:
    """The text with its sign before it, and a hyphen for the minus sign that typesetters use."""
    text = _with_hyphen(text)
    if text.endswith((")", "-")) and len(text) <= _LONGEST_MARKED:
        negative = _BRACKETS.fullmatch(text) or _MINUS_BEHIND.fullmatch(text)
        return f"-{negative[1].strip()}" if negative else text
    return text


def _parted(text: str) -> tuple[str, str]:
    """A number with its sign, and the mark beside it; both empty if the text is something else."""
    found = _MARKED.fullmatch(text) if len(text) <= _LONGEST_MARKED else None
    if not found:
        return "", ""
    sign, before, inner_sign, core, behind = found.groups("")
    if (sign and inner_sign) or (before and behind):
        return "", ""
    return f"{sign}{inner_sign}{core}", before or behind


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


def one_of_each_mark(texts: Iterable[str]) -> list[str]:
    """For each mark the first text that has it beside its number."""
    found: dict[str, str] = {}
    for text in texts:
        core, mark = _parted(_with_sign(text.strip()))
        if core:
            found.setdefault(mark, text)
    return list(found.values())


def is_negative_of_bookkeepers(text: str) -> bool:
    """Whether it is a negative number in brackets, or one with its sign behind it."""
    return _with_sign(text.strip()).lstrip("-") != _with_hyphen(text.strip()).lstrip("-")


def number(text: str, writing: Writing | None) -> float:
    """The number that a text spells in a column of this writing; NaN if it spells none.

    A flag is 1 or 0.
    """
    text = _with_sign(text.strip())
    if len(text) > LONGEST_NUMBER:
        return math.nan
    if writing is None:
        writing = PLAIN
    if writing.mark:
        text, mark = _parted(text)
        if mark != writing.mark:
            return math.nan
    if writing.style == "decimal commas":
        return float(text.translate(_NO_POINTS)) if _COMMAS.fullmatch(text) else math.nan
    if text in _FLAGS:
        return _FLAGS[text]
    if writing.style == "separated thousands" and _POINTS.fullmatch(text):
        return float(text.translate(_NO_COMMAS))
    return _plain(text)
