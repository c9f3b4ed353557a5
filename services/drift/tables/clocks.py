"""Number columns that say when or in which place of its file a row is, and so nothing of drift."""

import re
from typing import Final

import numpy as np

from services.drift.tables.frame import Numbers

_LEAST_VALUES: Final = 50
"""With fewer values, numbers that all differ may be a coincidence."""
_LEAST_DIFFERENT: Final = 10
"""Of a clock without a name that says so."""
_DENSE: Final = 0.5
_REGULAR: Final = 0.9
_ORDERED: Final = 0.9
_USUAL: Final = 0.5

_EPOCH: Final = (631_152_000.0, 4_102_444_800.0)
"""The years 1990 to 2099, in seconds since 1970."""
_MINUTE, _HOUR, _ROUND = 60.0, 3600.0, 100_000.0
_UNITS: Final = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_SERIAL_DAYS: Final = (32_874.0, 73_051.0)
"""The same years, in days since the end of 1899, as Excel counts them."""
_CALENDAR: Final = {
    "YYYYMM": 1e2,
    "YYYYMMDD": 1e4,
    "YYYYMMDDhh": 1e6,
    "YYYYMMDDhhmm": 1e8,
    "YYYYMMDDhhmmss": 1e10,
}
"""Form -> what the year is multiplied by."""
_YEARS: Final = (1900, 2099)
_NAME: Final = re.compile(
    r"(?:.*[\W_])?(?:timestamp|datetime|date|day|ymd|yyyymmdd|epoch|unix|unixtime|ts|dt|at)"
    r"(?:[\W_](?:s|sec|seconds|ms|millis|us|ns|utc))?|(?:event[\W_]?)?time|.*timestamp",
    re.IGNORECASE,
)


def counts_rows(values: Numbers) -> bool:
    """Whether a column numbers the rows: its values are whole numbers, all different, and are

    - dense: at least half of the numbers from the smallest to the largest are there, in any order
      (the probability that n draws from at most 2 n numbers are all different is below
      exp(-n / 4)); or
    - only rising or only falling from row to row, with at least nine of ten steps equal.

    Args:
        values: finite, in the order of the rows.
    """
    if len(values) < _LEAST_VALUES or not _are_whole(values):
        return False
    different = np.unique(values)
    if len(different) < len(values):
        return False
    if len(values) >= _DENSE * (different[-1] - different[0] + 1):
        return True
    steps = np.diff(values)
    return abs(np.sign(steps).sum()) == len(steps) and _usual_share(steps) >= _REGULAR


def clock_of(name: str, values: Numbers) -> str | None:
    """What clock a column shows, in words; None if it shows none.

    The values are in the range of a clock. Besides, the column's name says so, or the rows are in
    its order, or all values are whole minutes or dates. If the name does not say so, there are at
    least ten different values, or all values are whole hours.

    Args:
        values: finite, in the order of the rows.
    """
    low, high = float(values.min()), float(values.max())
    is_named = _NAME.fullmatch(name) is not None
    many = len(np.unique(values[: 100 * _LEAST_DIFFERENT])) >= _LEAST_DIFFERENT
    for unit, scale in _UNITS.items():
        if _EPOCH[0] * scale <= low and high < _EPOCH[1] * scale:
            whole_minutes = not np.fmod(values, _MINUTE * scale).any()
            if is_named or _are_hours(values / scale):
                return f"{unit} since 1970"
            if many and (whole_minutes or _are_ordered(values)):
                return f"{unit} since 1970"
    for form, scale in _CALENDAR.items():
        in_range = _YEARS[0] * scale <= low and high < (_YEARS[1] + 1) * scale
        if in_range and (is_named or many) and _are_dates(values, scale):
            return f"dates as {form}"
    if _SERIAL_DAYS[0] <= low and high < _SERIAL_DAYS[1] and many and _are_ordered(values):
        steps = np.diff(values)
        if is_named or (steps.all() and _usual_share(steps) >= _USUAL):
            return "days since 1900"
    return None


def _are_hours(seconds: Numbers) -> bool:
    """Whether all are whole hours, and not round numbers, which may be anything."""
    return not np.fmod(seconds, _HOUR).any() and bool(np.fmod(seconds, _ROUND).any())


def _are_whole(values: Numbers) -> bool:
    return bool((values == np.floor(values)).all())


def _usual_share(steps: Numbers) -> float:
    """The share of the most frequent step; steps of fractions are equal to six digits."""
    _, times = np.unique(np.round(steps, 6), return_counts=True)
    return float(times.max() / len(steps)) if len(steps) else 0.0


def _are_ordered(values: Numbers) -> bool:
    """Whether nine of ten changes from row to row go the same way."""
    changes = np.sign(np.diff(values))
    return bool(abs(changes.sum()) >= (2 * _ORDERED - 1) * np.abs(changes).sum())


def _are_dates(values: Numbers, scale: float) -> bool:
    """Whether all are whole and have a month, day, hour, minute and second that exist."""
    if not _are_whole(values):
        return False
    rest = values
    valid = np.ones(len(values), bool)
    limits = [(1, 12), (1, 31), (0, 23), (0, 59), (0, 59)]
    for lowest, highest in limits:
        if scale == 1:
            break
        rest = np.fmod(rest, scale)
        scale /= 100
        part = np.floor(rest / scale)
        valid &= (lowest <= part) & (part <= highest)
    return bool(valid.all())
