"""A drift report in a terminal: the verdict and its reason first, then what it rests on."""

from collections.abc import Iterable
from typing import Final

from rich import box
from rich.padding import Padding
from rich.table import Column, Table

from services.cli.literal import Console, Text
from services.drift.report import wording
from services.drift.report.model import ColumnRole, DriftReport
from shared.drift import CellFinding, Verdict

MOST_CELLS: Final = 12
NEAREST_CELLS: Final = 3
MOST_COLUMNS: Final = 40
MOST_CATEGORIES: Final = 5

_STYLES: Final[dict[Verdict, str]] = {"drift": "bold red", "no drift": "bold green"}
_INDENT: Final = (0, 0, 0, 2)


def print_report(console: Console, report: DriftReport) -> None:
    """The report as a person reads it."""
    console.print(_verdict(report))
    console.print(Text(wording.printable(report.reason)))
    console.print(Text(_figures(report), style="dim"))
    for title, table in _tables(report):
        console.print()
        console.print(Text(title, style="bold"))
        console.print(Padding(table, _INDENT))


def _verdict(report: DriftReport) -> Text:
    """The verdict, on what, and which columns a person may see otherwise."""
    style = _STYLES.get(report.verdict, "bold yellow")
    verdict = Text.assemble((report.verdict, style), f": {wording.printable(report.name)}")
    if questionable := wording.questionable(report):
        verdict.append(f"; {questionable}", "yellow")
    return verdict


def _figures(report: DriftReport) -> str:
    rows = f"{wording.count(report.rows, 'row')} against {report.reference_rows:,}"
    if report.rows_set_aside:
        rows += f", {report.rows_set_aside:,} set aside"
    parts = [rows, f"policy {report.policy}", wording.decision(report)]
    if report.expected_false_alarms is not None:
        parts.append(wording.false_alarms(report.expected_false_alarms))
    if report.window:
        parts.append(f"effect {wording.size(report.window.effect)}")
    return "; ".join(filter(None, parts))


def _tables(report: DriftReport) -> Iterable[tuple[str, Table]]:
    if found := report.questionable_columns:
        yield f"Questionable columns{_more(len(found), MOST_COLUMNS)}", _questionable(report)
    speaking = [cell for cell in report.cells if cell.speaks]
    if speaking:
        yield f"What changed{_more(len(speaking), MOST_CELLS)}", _cells(speaking[:MOST_CELLS])
    elif report.cells:
        yield "Nearest to a change", _cells(report.cells[:NEAREST_CELLS])
    if report.new_categories:
        yield "New categories", _new_categories(report.new_categories)
    yield f"Columns{_more(len(report.columns), MOST_COLUMNS)}", _columns(report)
    if report.assumptions:
        yield "Assumptions", _list(report.assumptions)


def _more(number: int, most: int) -> str:
    return f" ({most} of {number:,}; --json has all)" if number > most else ""


def _cells(cells: list[CellFinding]) -> Table:
    table = _table("cell", "change")
    table.add_column("effect", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    for cell in cells:
        table.add_row(
            Text(wording.cell_title(cell)),
            Text(wording.direction(cell.direction)),
            wording.size(cell.effect),
            wording.probability(cell.p),
            f"{cell.current_rows:,}",
        )
    return table


def _questionable(report: DriftReport) -> Table:
    table = _table("column", "what was done", "why")
    for column in report.questionable_columns[:MOST_COLUMNS]:
        table.add_row(
            Text(wording.name(column.name)), column.done, Text(wording.printable(column.why))
        )
    return table


def _new_categories(found: dict[str, dict[str, int]]) -> Table:
    table = _table("column", "values that the reference does not have")
    for column, values in found.items():
        shown = [
            f"'{wording.name(value)}' ({rows:,})"
            for value, rows in list(values.items())[:MOST_CATEGORIES]
        ]
        further = len(values) - MOST_CATEGORIES
        if further > 0:
            shown.append(f"and {further:,} more")
        table.add_row(Text(wording.name(column)), Text(", ".join(shown)))
    return table


def _columns(report: DriftReport) -> Table:
    table = _table("column", "type", "role", "missing", "note")
    for column in report.columns[:MOST_COLUMNS]:
        notes = [column.note, None if column.inferred else "as stated"]
        table.add_row(
            Text(wording.name(column.name)),
            column.type,
            column.role,
            _missing(report, column),
            Text(wording.note("; ".join(filter(None, notes)))),
        )
    return table


def _missing(report: DriftReport, column: ColumnRole) -> str:
    rate = report.missing_rates.get(column.name)
    if rate is None:
        return ""
    return f"{wording.percent(rate.reference)} → {wording.percent(rate.current)}"


def _list(sentences: list[str]) -> Table:
    items = Table.grid(padding=(0, 1))
    for sentence in sentences:
        items.add_row("-", Text(wording.printable(sentence)))
    return items


def _table(*headings: str) -> Table:
    columns = (Column(heading, overflow="fold") for heading in headings)
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
