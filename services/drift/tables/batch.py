"""Tables of a batch, read as the reference's columns are, and what is to be said of their columns.

The reference decides what a column is. Flags in other words are read into its words for true and
false, and numbers with decimal commas into its numbers.
"""

import math
from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
import pyarrow as pa

from services.drift.report.model import ColumnRole, QuestionableColumn
from services.drift.tables.frame import MISSING, Frame, Tabular
from services.drift.tables.numbers import PLAIN, Writing, is_number, is_text, number
from services.drift.tables.roles import Roles
from shared.drift_report import NumberStyle
from shared.tables.spelling import FALSE, TRUE, alike, difference, truth

_DIGITS: Final = ("1", "0")
_WORDS: Final = (TRUE, FALSE)
_FLAGS: Final = dict(zip(_DIGITS, _WORDS, strict=True))


class BatchReader:
    """Reads the chunks of a batch, and remembers what they looked like."""

    def __init__(self, roles: Roles) -> None:
        self.names: dict[str, None] = {}
        """The columns of the chunks that have been read, in their order."""
        self._flags = {column.name: column.flag_words for column in roles.columns if _flags(column)}
        self._flags_read: dict[str, dict[str, str]] = {}
        """Column -> word of the batch for a flag -> the reference's word."""
        self._numbers = roles.numbers
        self._styles = {column.name: column.number_style for column in roles.columns}
        self._spelt: dict[str, _Spelt] = {}

    def read(self, chunk: Tabular) -> Frame:
        """A chunk as it can be compared with the reference."""
        frame = Frame.of(chunk)
        self.names |= dict.fromkeys(frame.names)
        for name in self._flags.keys() & frozenset(frame.names):
            frame = self._with_flags(frame, name)
        for name in self._numbers:
            if name in frame.names and is_text(frame.table.schema.field(name).type):
                frame = self._spelt.setdefault(name, _Spelt()).read(
                    frame, name, self._styles.get(name)
                )
        return frame

    def questionable(self) -> list[QuestionableColumn]:
        """Number columns whose texts do not all spell numbers plainly, and flags in other words."""
        numbers = [
            QuestionableColumn(name=name, done="read as numbers", why=why)
            for name, spelt in self._spelt.items()
            if (why := spelt.in_words())
        ]
        flags = [
            QuestionableColumn(
                name=name,
                done="read as numbers" if name in self._numbers else "read as categories",
                why=f"in the batch, {why}",
            )
            for name, words in self._flags_read.items()
            if (why := _counts_as(words))
        ]
        return [*flags, *numbers]

    def _with_flags(self, frame: Frame, name: str) -> Frame:
        """The frame with flags of a column in the reference's words."""
        kind = frame.table.schema.field(name).type
        is_flag = pa.types.is_boolean(kind) or is_text(kind)
        if not is_flag and (name in self._numbers or not is_number(kind)):
            return frame
        codes, labels = frame.categories(name)
        words = _in_words_of(self._flags[name], labels)
        if not words:
            return frame
        self._flags_read.setdefault(name, {}).update(words)
        texts = pa.array([words.get(label, label) for label in labels], pa.string())
        column = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes == MISSING), texts)
        at = frame.table.schema.get_field_index(name)
        return Frame(frame.table.set_column(at, name, column.cast(pa.string())))


class _Spelt:
    """How the texts of a number column spell numbers."""

    def __init__(self) -> None:
        self.writing: Writing | None = None
        self.rows = 0
        self.unread = 0
        self.example: str | None = None
        """The first text that is no number."""

    def read(self, frame: Frame, name: str, style: NumberStyle | None) -> Frame:
        """A chunk with the column as numbers.

        Args:
            style: the reference's. It decides if the chunk's own texts leave it open.
        """
        writing = frame.writing(name)
        if writing and writing.style == "unclear" and style:
            writing = Writing(style, writing.mark)
        if self.writing in (None, PLAIN):
            self.writing = writing
        codes, labels = frame.categories(name)
        numbers = [number(text, writing) for text in labels]
        rows_by_text = frame.rows_by_text(name)
        for text, value in zip(labels, numbers, strict=True):
            self.rows += rows_by_text.get(text, 0)
            if math.isnan(value) and text in rows_by_text:
                self.unread += rows_by_text[text]
                self.example = self.example or text
        if writing == frame.writing(name):
            return frame
        column = pa.array(np.array([*numbers, np.nan])[codes])
        return Frame(frame.table.set_column(frame.names.index(name), name, column))

    def in_words(self) -> str:
        parts = []
        if self.writing and (how := self.writing.in_words()):
            parts.append(f"in the batch, {how}")
        if self.unread:
            parts.append(
                f"{self.unread:,} of {self.rows:,} values of the batch are no numbers, such as "
                f"'{self.example}', and count as missing"
            )
        return "; ".join(parts)


def _flags(column: ColumnRole) -> bool:
    return column.flags or column.flag_words is not None


def _in_words_of(words: tuple[str, str] | None, labels: Iterable[str]) -> dict[str, str]:
    """Those labels that are flags in other words -> the given words; None: 1 and 0 alone."""
    if words is None:
        return {label: _FLAGS[label] for label in labels if label in _FLAGS}
    found = {}
    for label in labels:
        flag = truth(label.strip())
        if flag is not None and label not in words:
            found[label] = words[0] if flag else words[1]
    return found


def _counts_as(words: dict[str, str]) -> str:
    """'Y' counts as 'yes', 'N' as 'no'; true, false, 1 and 0 for each other go without saying."""
    plain = {*_DIGITS, *_WORDS}
    said = [(word, into) for word, into in words.items() if not {word, into} <= plain]
    if not said:
        return ""
    (word, into), *others = said
    return ", ".join(
        [f"'{word}' counts as '{into}'", *(f"'{word}' as '{into}'" for word, into in others)]
    )


def guessed(roles: Roles) -> list[QuestionableColumn]:
    """Columns of the reference that were left out, or read in a way that was guessed."""
    return [
        QuestionableColumn(
            name=column.name,
            done="left out"
            if column.role == "left out"
            else "read as numbers"
            if column.type == "number"
            else "read as categories",
            why=column.note or "",
        )
        for column in roles.columns
        if column.questionable
    ]


def lacking(roles: Roles, names: Collection[str]) -> list[QuestionableColumn]:
    """Columns that only one side has.

    Args:
        names: the columns of the batch.
    """
    known = [column.name for column in roles.columns]
    only_here = _without(names, known)
    return [
        QuestionableColumn(
            name=name,
            done="missing in every row",
            why=f"the batch does not have it{_but(name, only_here)}",
        )
        for name in _without(compared_columns(roles), names)
    ] + [
        QuestionableColumn(name=name, done="left out", why="the reference does not have it")
        for name in only_here
    ]


def _without(names: Iterable[str], others: Iterable[str]) -> list[str]:
    left_out = frozenset(others)
    return [name for name in names if name not in left_out]


def _but(name: str, names: Iterable[str]) -> str:
    """'; it has …' if one of the names differs in nothing but its spelling; else nothing."""
    form = alike(name)
    other = next((each for each in names if alike(each) == form), None)
    return f"; it has {other!r}, which differs in {difference(other, name)}" if other else ""


def compared_columns(roles: Roles) -> list[str]:
    """The columns that a batch is to have."""
    return [*roles.numbers, *roles.categories, *([roles.segment] if roles.segment else [])]


def each_once(found: Iterable[QuestionableColumn]) -> list[QuestionableColumn]:
    """The columns in their order; what is said of one in several places, together."""
    by_name: dict[str, QuestionableColumn] = {}
    for column in found:
        known = by_name.get(column.name)
        by_name[column.name] = (
            known.model_copy(update={"why": f"{known.why}; {column.why}"}) if known else column
        )
    return list(by_name.values())
