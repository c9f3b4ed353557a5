"""Times, shares, p-values and figures as a person reads them: one function for each."""

import math
from datetime import UTC, datetime
from typing import Final

NO_FIGURE: Final = "–"
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
SMALLEST_P: Final = 1e-16
"""A smaller p-value is told as smaller than this."""


def probability(p: float | None) -> str:
    """A p-value or its threshold with two digits: '0.34', '0.0004', '4e-7', '< 1e-16'."""
    if p is None or not math.isfinite(p):
        return NO_FIGURE
    if p < SMALLEST_P:
        return f"<{NO_BREAK}1e-16"
    return rounded(p, 2)


def p_equals(p: float | None) -> str:
    """'p = 0.0004', 'p < 1e-16', or 'no p-value'."""
    shown = probability(p)
    if shown == NO_FIGURE:
        return "no p-value"
    return f"p{NO_BREAK}{shown}" if shown.startswith("<") else f"p{NO_BREAK}={NO_BREAK}{shown}"


def percent(share: float | None) -> str:
    """'27 %', '1.4 %', '< 0.1 %'."""
    if share is None or not math.isfinite(share):
        return NO_FIGURE
    if 0 < share < 0.001:
        return f"<{NO_BREAK}0.1{NO_BREAK}%"
    if share <= 0 or share >= 0.0995:
        return f"{100 * share:,.0f}{NO_BREAK}%"
    return f"{100 * share:.1f}".removesuffix(".0") + f"{NO_BREAK}%"


def change(share: float | None) -> str:
    """A relative difference with its sign: '+1.4 %', '-27 %', '0 %'."""
    if share is None or not math.isfinite(share):
        return NO_FIGURE
    if abs(share) < 0.0005:
        return f"0{NO_BREAK}%"
    return ("+" if share > 0 else "-") + percent(max(abs(share), 0.001))


def measured(value: float | None) -> str:
    """A measured value with four digits: '6.457', '0.00012', '123,457'."""
    if value is None or not math.isfinite(value):
        return NO_FIGURE
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else rounded(value, 4)


def moment(at: datetime, *, seconds: bool = False) -> str:
    """A time in UTC: '2026-01-10 09:00 UTC', or to the second."""
    return f"{clock(at, seconds=seconds)} UTC"


def clock(at: datetime, *, seconds: bool = False) -> str:
    """A time where the heading of its column says that it is in UTC: '2026-01-10 09:00'."""
    in_utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return f"{in_utc:%Y-%m-%d %H:%M:%S}" if seconds else f"{in_utc:%Y-%m-%d %H:%M}"


def rounded(value: float, digits: int) -> str:
    """To this many significant digits, the exponent without padding."""
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
