"""Texts read as points in time, in the formats that a pipeline's file states."""

import re
from datetime import UTC
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from services.ingest.numbers import finite_numbers
from shared.pipeline import TimeColumn

LONGEST_TIME: Final = 100
"""Characters; a longer text is no time."""

_ZONE: Final = re.compile(
    rf"[T ][0-9]{{1,2}}.{{0,{LONGEST_TIME}}}(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)$"
)
"""How a text in ISO 8601 that states its zone ends; in a date alone, -01 is the day."""

_NO_TIME: Final = re.compile(r"now|today|[+-].*", re.IGNORECASE)
"""Texts that pandas reads as times although no format says so."""

_END_OF_DAY: Final = re.compile(
    r"(?<![0-9:.,])24(?=:00(?::00(?:[.,]0+)?)?(?![0-9:.,]))|(?<=T)24(?=00(?:00)?(?![0-9]))"
)
"""The hour of 24:00, 24:00:00 or T2400."""

_EARLIEST: Final = pd.Timestamp("1678-01-01", tz="UTC")
"""Earlier times, such as the year 1 for 'none', have no place in 64 bits of nanoseconds."""

_LAST_MICROSECOND: Final = 253_402_300_799_999_999
"""Of the year 9999, since 1970."""
_MICROSECONDS: Final = {"epoch_seconds": 1e6, "epoch_milliseconds": 1e3}
_EXCEL_FROM: Final = 61.0
"""1 March 1900. Excel's days before it are one too many: it has a 29 February 1900."""
_EXCEL_TO: Final = 2_958_466.0
"""The day after the last one that Excel knows."""
_EXCEL_BEGIN: Final = pd.Timestamp("1899-12-30")


def read_times(texts: pd.Series, column: TimeColumn) -> tuple[pd.Series, pd.Series]:
    """The texts as points in time in the column's zone; and which of them name none or two.

    A text without a zone is local time there. A change of the clocks skips some local times and
    repeats others; `clock_change` says what such a time means. A text that fits none of the
    formats, or is longer than `LONGEST_TIME`, is missing.

    Args:
        texts: stripped, or None.
    """
    unread = texts.where(texts.str.len().fillna(0) <= LONGEST_TIME)
    found = pd.Series(pd.NaT, index=texts.index, dtype=f"datetime64[us, {column.timezone}]")
    unclear = pd.Series(False, index=texts.index)
    for form in column.formats:
        if unread.isna().all():
            break
        instants, local = _read(unread, form)
        placed, unplaced = _placed(local, column)
        unclear |= unplaced
        found = found.fillna(placed).fillna(instants.dt.tz_convert(column.timezone))
        unread = unread.where(found.isna() & ~unclear)
    return found, unclear


def _read(texts: pd.Series, form: str) -> tuple[pd.Series, pd.Series]:
    """Points in time of the texts that state their zone, in UTC, and local times of the others.

    A text that has another format, or lies too far back, is missing in both.
    """
    if form == "ISO8601":
        states_zone = texts.str.contains(_ZONE, na=False)
    else:
        states_zone = pd.Series("%z" in form or form in _MICROSECONDS, index=texts.index)
    if form in _MICROSECONDS:
        read = _since_1970(texts, _MICROSECONDS[form])
    elif form == "excel_days":
        read = _of_serial_days(texts)
    else:
        read = _parsed(texts, form)
    read = read.where(read >= _EARLIEST).dt.as_unit("us")
    return read.where(states_zone), read.where(~states_zone).dt.tz_localize(None)


def _parsed(texts: pd.Series, form: str) -> pd.Series:
    texts = texts.where(~texts.str.fullmatch(_NO_TIME, na=True))
    if texts.isna().all():
        return pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us, UTC]")
    times = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    ends_day = texts.str.contains(_END_OF_DAY, na=False) & times.isna()
    if not ends_day.any():
        return times
    begins = texts.where(ends_day).str.replace(_END_OF_DAY, "00", regex=True)
    midnights = pd.to_datetime(begins, format=form, errors="coerce", utc=True)
    return times.fillna(midnights.dt.as_unit("us") + pd.Timedelta(days=1))


def _since_1970(texts: pd.Series, microseconds: float) -> pd.Series:
    since = np.rint(finite_numbers(texts) * microseconds)
    since[np.abs(since) > _LAST_MICROSECOND] = np.nan
    return _at(since, texts.index)


def _of_serial_days(texts: pd.Series) -> pd.Series:
    """Excel's days, to the millisecond: a day's fraction is not exact."""
    days = finite_numbers(texts)
    days[~((days >= _EXCEL_FROM) & (days < _EXCEL_TO))] = np.nan
    begin = _EXCEL_BEGIN.tz_localize("UTC").timestamp() * 1e6
    return _at(np.rint(days * 86_400e3) * 1e3 + begin, texts.index)


def _at(microseconds: np.ndarray, index: pd.Index) -> pd.Series:
    """Points in time in UTC; not a number is missing."""
    whole = np.where(np.isnan(microseconds), 0, microseconds).astype("datetime64[us]")
    times = pd.Series(whole, index=index).dt.tz_localize("UTC")
    return times.where(~np.isnan(microseconds))


def _placed(local: pd.Series, column: TimeColumn) -> tuple[pd.Series, pd.Series]:
    """Local times as points in time; and which of them name none or two, and stay missing."""
    placed = local.dt.tz_localize(column.timezone, ambiguous="NaT", nonexistent="NaT")
    unclear = local.notna() & placed.isna()
    if column.clock_change == "set_aside" or not unclear.any():
        return placed, unclear
    # PEP 495: with fold=0 the offset from before the change counts, with 1 that from after it.
    fold, zone = int(column.clock_change == "later"), ZoneInfo(column.timezone)
    decided = [
        time.to_pydatetime().replace(tzinfo=zone, fold=fold).astimezone(UTC)
        for time in local[unclear]
    ]
    times = pd.Series(pd.to_datetime(decided, utc=True).as_unit("us"), index=local.index[unclear])
    return placed.fillna(times.dt.tz_convert(column.timezone)), unclear & False
