"""The report's figures and names as a person reads them."""

import math
from typing import Final

from services.drift.report.model import DriftReport, WindowFinding
from shared.drift import CellFinding
from shared.plain_text import visible
from shared.training import Metric
from shared.wording import NO_BREAK, NO_FIGURE, p_equals, percent, probability, rounded

__all__ = ["NO_FIGURE", "p_equals", "percent", "probability"]

_LONGEST_TEXT: Final = 400
_LONGEST_DIRECTION: Final = 160
_LONGEST_NAME: Final = 48
_LONGEST_LABEL: Final = 13
_NAMES_SHOWN: Final = 5

_ERRORS: Final[dict[Metric, str]] = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "log_loss": "log loss",
    "accuracy": "share of wrong answers",
}


def chance(p: float) -> str:
    """How often such a p-value comes up when nothing has changed: 'about 4 in 10,000 checks'."""
    if p < 1e-8:
        return "practically never"
    if p > 0.95:
        return "in nearly every check"
    out_of = 10 ** max(2, math.ceil(-math.log10(p)))
    checks = f"{out_of:,}" if out_of < 1e6 else f"{out_of // 10**6:,} million"
    return f"in about {p * out_of:.0f} of {checks} checks"


def size(effect: float | None) -> str:
    """An effect or a score with two decimals."""
    if effect is None or not math.isfinite(effect):
        return NO_FIGURE
    if 0 < effect < 0.005:
        return f"<{NO_BREAK}0.01"
    return f"{effect:,.2f}" if abs(effect) < 1e6 else rounded(effect, 3)


def figure(value: float | None) -> str:
    """A value in its column's unit: three significant digits, or a whole number."""
    if value is None or not math.isfinite(value):
        return NO_FIGURE
    whole = 100 <= abs(value) < 1e9
    return f"{value:,.0f}" if whole else rounded(value, 3)


def count(number: int, thing: str, things: str = "") -> str:
    """'1 row', '4,200 rows'."""
    return f"{number:,}{NO_BREAK}{thing if number == 1 else things or thing + 's'}"


def printable(text: str, longest: int = _LONGEST_TEXT) -> str:
    """The text on one line, with what cannot be shown as its escape, cut to a length."""
    text = visible(text[: longest + 1]).replace("\n", r"\n")
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def name(text: str, longest: int = _LONGEST_NAME) -> str:
    """A column's, segment's or category's name; a long one without its middle."""
    if len(text) > longest:
        end = longest // 3
        text = f"{text[: longest - end - 1]}…{text[-end:]}"
    return printable(text) if text.strip() else "(empty)"


def short(text: str) -> str:
    """A name short enough to stand beside a bar."""
    return name(text, _LONGEST_LABEL)


def note(text: str) -> str:
    """A remark beside a name, which may be empty."""
    return printable(text, _LONGEST_NAME)


def direction(text: str) -> str:
    """What changed, in a line or two."""
    return printable(text, _LONGEST_DIRECTION)


def false_alarms(per_thousand: float | None) -> str:
    """'about 1 false alarm per 1,000 checks', or that none are promised."""
    if per_thousand is None or not math.isfinite(per_thousand):
        return "not stated by this policy"
    return (
        f"about {per_thousand:.3g} false alarm{'' if per_thousand == 1 else 's'} per 1,000 checks"
    )


def batch_numbers(window: WindowFinding) -> str:
    """The window's batches in the pipeline: '101 to 124'; a dash in a one-shot check."""
    first, last = window.first_sequence, window.last_sequence
    if first is None or last is None:
        return NO_FIGURE
    return str(last) if first == last else f"{first} to {last}"


def window_span(window: WindowFinding) -> str:
    """'24 batches (101 to 124), 7,200 rows'."""
    batches, numbers = count(window.batches, "batch", "batches"), batch_numbers(window)
    span = "" if numbers == NO_FIGURE else f" ({numbers})"
    return f"{batches}{span}, {count(window.rows, 'row')}"


def cell_rows(cell: CellFinding) -> str:
    """'1,640 → 1,190 rows'."""
    return f"{cell.reference_rows:,} → {count(cell.current_rows, 'row')}"


def cell_title(cell: CellFinding) -> str:
    """What a cell compares: 'PM2.5 in Delhi', 'missing values of CO', 'NO2 with CO'."""
    title = name(cell.column)
    if cell.kind == "missing":
        title = f"missing values of {title}"
    if cell.other_column is not None:
        title = f"{title} with {name(cell.other_column)}"
    return title if cell.segment is None else f"{title} in {name(cell.segment)}"


def error_name(metric: Metric) -> str:
    """What a model's error by a metric is: 'mean absolute error'."""
    return _ERRORS[metric]


def questionable(report: DriftReport) -> str:
    """'3 columns questionable: id, SNo, instant'; empty if there are none."""
    found = report.questionable_columns
    if not found:
        return ""
    shown = ", ".join(name(column.name) for column in found[:_NAMES_SHOWN])
    further = len(found) - _NAMES_SHOWN
    more = f" and {further:,} more" if further > 0 else ""
    columns = "column" if len(found) == 1 else "columns"
    return f"{len(found):,} {columns} questionable: {shown}{more}"


def headline(report: DriftReport) -> str:
    """The verdict on the data; 'Performance drift' where the champion's error alone speaks."""
    worse = report.performance is not None and report.performance.drift
    return (
        "Performance drift" if worse and report.verdict != "drift" else report.verdict.capitalize()
    )


def decision(report: DriftReport) -> str:
    """The figures that decided, beside what they are compared with; empty without a verdict."""
    performance = report.performance
    if performance and performance.drift and report.verdict != "drift":
        return f"{p_equals(performance.p)}, threshold {probability(performance.threshold)}"
    if report.p is not None:
        return f"{p_equals(report.p)}, threshold {probability(report.threshold)}"
    if report.drift_score is not None:
        return f"drift score {size(report.drift_score)}, threshold {figure(report.threshold)}"
    return ""
