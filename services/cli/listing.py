"""A table whose rows have notes below them, and which never leaves the terminal's width."""

from dataclasses import dataclass
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult  # noqa: TID251 - of a signature
from rich.padding import Padding
from rich.table import Table

from services.cli.literal import Text

_GAP: Final = 2
_INDENT: Final = 4
_NARROWEST: Final = 5

Cell = str | Text


@dataclass(frozen=True)
class _Row:
    cells: tuple[Text, ...]
    notes: tuple[Text, ...]


@dataclass(frozen=True)
class Column:
    """A heading, which may have several lines, and the side that its cells stand on."""

    heading: str
    justify: Literal["left", "right"] = "left"


def right(heading: str) -> Column:
    """A column of figures."""
    return Column(heading, "right")


class Listing:
    """Rows of short values. What is long, such as a reason, is a note on lines of its own.

    If the values do not fit beside each other, the widest columns are folded, so every letter is
    shown.
    """

    def __init__(self, *columns: Column | str, title: str = "", empty: str = "") -> None:
        """`empty` is shown in place of the headings while there are no rows."""
        self._columns = [Column(each) if isinstance(each, str) else each for each in columns]
        self._title = title
        self._empty = empty
        self._rows: list[_Row] = []

    def add_row(self, *cells: Cell, notes: tuple[Cell, ...] = ()) -> None:
        """Add a row. Empty notes are left out."""
        shown = tuple(_text(note) for note in notes if note)
        self._rows.append(_Row(tuple(map(_text, cells)), shown))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._title:
            yield Text(self._title, style="bold", overflow="fold")
        if not self._rows and self._empty:
            yield Text(self._empty, style="dim", overflow="fold")
            return
        widths = self._widths(options.max_width)
        headings = tuple(Text(column.heading, style="dim") for column in self._columns)
        yield self._line(headings, widths)
        for row in self._rows:
            yield self._line(row.cells, widths)
            for note in row.notes:
                yield Padding(note, (0, 0, 0, _INDENT), expand=False)

    def _line(self, cells: tuple[Text, ...], widths: list[int]) -> Table:
        line = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        for column, width in zip(self._columns, widths, strict=True):
            line.add_column(width=width, justify=column.justify, overflow="fold")
        line.add_row(*cells)
        return line

    def _widths(self, available: int) -> list[int]:
        """As wide as the longest value; where that is too much, the widest columns give way."""
        widths = [
            max((cell_len(line) for text in column for line in text.plain.splitlines()), default=1)
            for column in zip(
                (Text(column.heading) for column in self._columns),
                *(row.cells for row in self._rows),
                strict=True,
            )
        ]
        excess = sum(widths) + _GAP * (len(widths) - 1) - available
        while excess > 0 and (widest := max(widths)) > _NARROWEST:
            widths[widths.index(widest)] -= 1
            excess -= 1
        return [max(width, 1) for width in widths]


def _text(cell: Cell) -> Text:
    """Text that is folded where it is too long."""
    text = Text(cell) if isinstance(cell, str) else cell
    text.overflow = "fold"
    return text
