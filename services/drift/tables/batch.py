"""Tables of a batch, read as the reference's columns are, and what is to be said of their columns.

The reference decides what a column is. Flags written as 1 and 0 are read into its true and false,
and numbers with decimal commas into its numbers.
"""

import math
from collections.abc import Collection, Iterable

import pyarrow as pa

from services.drift.report.model import QuestionableColumn
from services.drift.tables.frame import MISSING, Frame, Tabular
from services.drift.tables.numbers import Style, is_number, is_text, number
from services.drift.tables.roles import Roles
from shared.tables.spelling import FALSE, TRUE

_FLAGS = {"1": TRUE, "0": FALSE}


class BatchReader:
    """Reads the chunks of a batch, and remembers what they looked like."""

    def __init__(self, roles: Roles) -> None:
        self.names: dict[str, None] = {}
        """The columns of the chunks that have been read, in their order."""
        self._flags = {column.name for column in roles.columns if column.flags}
        self._numbers = roles.numbers
        self._spelt: dict[str, _Spelt] = {}

    def read(self, chunk: Tabular) -> Frame:
        """A chunk as it can be compared with the reference."""
        frame = Frame.of(chunk)
        self.names |= dict.fromkeys(frame.names)
        for name in self._flags.intersection(frame.names):
            frame = _with_flags(frame, name)
        for name in self._numbers:
            if name in frame.names and is_text(frame.table.schema.field(name).type):
                self._spelt.setdefault(name, _Spelt()).add(frame, name)
        return frame

    def questionable(self) -> list[QuestionableColumn]:
        """Number columns whose texts do not all spell numbers plainly."""
        return [
            QuestionableColumn(name=name, done="read as numbers", why=why)
            for name, spelt in self._spelt.items()
            if (why := spelt.in_words())
        ]


class _Spelt:
    """How the texts of a number column spell numbers."""

    def __init__(self) -> None:
        self.style: Style | None = None
        self.rows = 0
        self.unread = 0
        self.example: str | None = None
        """The first text that is no number."""

    def add(self, frame: Frame, name: str) -> None:
        style = frame.style(name)
        if self.style in (None, "plain"):
            self.style = style
        for text, rows in frame.rows_by_text(name).items():
            self.rows += rows
            if math.isnan(number(text, style)):
                self.unread += rows
                self.example = self.example or text

    def in_words(self) -> str:
        parts = []
        if self.style in ("decimal commas", "separated thousands"):
            parts.append(f"in the batch, numbers with {self.style}")
        if self.unread:
            parts.append(
                f"{self.unread:,} of {self.rows:,} values of the batch are no numbers, such as "
                f"'{self.example}', and count as missing"
            )
        return "; ".join(parts)


def _with_flags(frame: Frame, name: str) -> Frame:
    """The frame with 1 and 0 in a column as true and false."""
    kind = frame.table.schema.field(name).type
    if not (is_number(kind) or is_text(kind)):
        return frame
    codes, labels = frame.categories(name)
    texts = pa.array([_FLAGS.get(label, label) for label in labels], pa.string())
    column = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes == MISSING), texts)
    at = frame.table.schema.get_field_index(name)
    return Frame(frame.table.set_column(at, name, column.cast(pa.string())))


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
    present = frozenset(names)
    known = {column.name for column in roles.columns}
    return [
        QuestionableColumn(name=name, done="missing in every row", why="the batch does not have it")
        for name in compared_columns(roles)
        if name not in present
    ] + [
        QuestionableColumn(name=name, done="left out", why="the reference does not have it")
        for name in names
        if name not in known
    ]


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
