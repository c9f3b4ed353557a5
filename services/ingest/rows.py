"""Rows judged one by one against the pipeline's schema: kept with their types, or set aside.

Every rule is one vectorised comparison over a column, but its verdict is on single rows.
"""

import math
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from services.ingest.tables import FAULT
from shared.failures import WillNotPass
from shared.pipeline import CategoryColumn, NumberColumn, Schema, TimeColumn

CLOCK_TOLERANCE: Final = timedelta(minutes=10)
"""A source's clock may be ahead of ours by this much."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ZONE: Final = r"[T ][0-9]{1,2}.*(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)$"
"""How a text in ISO 8601 that states its zone ends; in a date alone, -01 is the day."""

_NO_TIME: Final = r"(?i:now|today|[+-].*)"
"""Texts that pandas reads as times although no format says so."""

_EARLIEST: Final = pd.Timestamp("1678-01-01", tz="UTC")
"""Earlier times, such as the year 1 for 'none', have no place in 64 bits of nanoseconds."""

_LONGEST_LIST: Final = 400

Mask = pd.Series
Fault = tuple[Mask, str]
"""A reason to refuse a row, and the rows that it concerns."""


@dataclass(frozen=True)
class Rows:
    """The rows of a table, sorted out."""

    valid: pd.DataFrame
    """The schema's columns in its order: float64, str, or time in the column's zone. Missing is
    NaN, NaN and NaT."""
    refused: pd.DataFrame
    """The other rows as texts, with their first fault in the column `reason`."""
    reasons: dict[str, int]
    """Reason -> rows, the most frequent first."""


def validate_rows(table: pd.DataFrame, schema: Schema, now: datetime) -> Rows:
    """Sort the rows of a table of texts into valid and refused.

    Args:
        table: texts, of shape (n_rows, n_columns), with the source's column names.
        now: times later than this (and a tolerance for clocks) are in the future.

    Raises:
        WillNotPass: a column of the schema is not there: the source has changed its form.
    """
    texts = named_by_schema(table, schema)
    typed, faults = _typed(texts, schema)
    found = [*_faults_of_form(texts), *faults, *_broken_rules(texts, typed, schema, now)]
    reason = np.select([mask.to_numpy() for mask, _ in found], [text for _, text in found], "")
    bad = reason != ""
    counts = pd.Series(reason[bad], dtype=object).value_counts()
    refused = texts[list(schema.columns)][bad].assign(reason=reason[bad])
    return Rows(
        valid=typed[~bad].reset_index(drop=True),
        refused=refused.reset_index(drop=True),
        reasons={str(fault): int(rows) for fault, rows in counts.items()},
    )


def named_by_schema(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The schema's columns as stripped texts (or None), whichever of their names the source uses.

    Raises:
        WillNotPass: a column of the schema is not there: the source has changed its form.
    """
    spellings = {
        name: [each for each in (name, *column.aliases) if each in table]
        for name, column in schema.columns.items()
    }
    if missing := [name for name, found in spellings.items() if not found]:
        published = ", ".join(str(name) for name in table.columns if name != FAULT)
        raise WillNotPass(
            f"the source has changed its form: no column {', '.join(missing)}; it has "
            f"{textwrap.shorten(published, _LONGEST_LIST)}. Name the new one in schema.columns"
        )
    chosen = {
        name: _first_given([_stripped(table[each], schema.missing) for each in found])
        for name, found in spellings.items()
    }
    if FAULT in table:
        chosen[FAULT] = table[FAULT]
    return pd.DataFrame(chosen, index=table.index)


def _first_given(columns: list[pd.Series]) -> pd.Series:
    first, *others = columns
    for other in others:
        first = first.where(first.notna(), other)
    return first


def _stripped(column: pd.Series, missing: tuple[str, ...]) -> pd.Series:
    def strip(value: object) -> str | None:
        text = value.strip() if isinstance(value, str) else None
        return None if text in missing else text

    return _each_once(column, strip, object)


def _each_once(column: pd.Series, convert: Callable[[Any], object], dtype: Any) -> pd.Series:
    """The column converted value by value, equal ones, of which there are many, only once.

    What is missing is converted as None.
    """
    codes, values = pd.factorize(column, use_na_sentinel=True)
    converted = np.empty(len(values) + 1, dtype=object)  # the last one is for -1, which is missing
    converted[:] = [*(convert(value) for value in values), convert(None)]
    spread: pd.Series = pd.Series(converted[codes], index=column.index, dtype=dtype)
    return spread


def _typed(texts: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, list[Fault]]:
    """The values with their types; a text that has none is missing, and a fault of its row."""
    typed: dict[str, pd.Series] = {}
    faults: list[Fault] = []
    for name, column in schema.columns.items():
        given = texts[name].notna()
        match column:
            case NumberColumn():
                typed[name] = _numbers(texts[name])
                faults.append((given & typed[name].isna(), f"{name}: not a number"))
            case TimeColumn():
                typed[name], unclear = _times(texts[name], column)
                faults.append((unclear, f"{name}: skipped or repeated by a change of the clocks"))
                faults.append((given & typed[name].isna(), f"{name}: not a time"))
            case CategoryColumn():
                typed[name] = texts[name].astype("str")
    return pd.DataFrame(typed, index=texts.index), faults


def _numbers(texts: pd.Series) -> pd.Series:
    """Finite decimal numbers; anything else is missing."""

    def number(text: str | None) -> float:
        return float(text) if text and _NUMBER.fullmatch(text) else math.nan

    numbers = _each_once(texts, number, "float64")
    return numbers.where(np.isfinite(numbers))


def _times(texts: pd.Series, column: TimeColumn) -> tuple[pd.Series, Mask]:
    """Points in time in the column's zone, and which texts name none or two of them.

    A text without a zone is local time there, and a change of the clocks leaves some local times
    out and brings others twice. What fits none of the formats is missing. Each text is read once.
    """
    codes, values = pd.factorize(texts, use_na_sentinel=True)
    found, unclear = _times_of(pd.Series([*values, None], dtype=object), column)
    return (
        found.take(codes).set_axis(texts.index),
        unclear.take(codes).set_axis(texts.index),
    )


def _times_of(texts: pd.Series, column: TimeColumn) -> tuple[pd.Series, Mask]:
    unread = texts.where(~texts.str.fullmatch(_NO_TIME, na=True))
    found = pd.Series(pd.NaT, index=texts.index, dtype=f"datetime64[us, {column.timezone}]")
    unclear = pd.Series(False, index=texts.index)
    for form in column.formats:
        if unread.isna().all():
            break
        states_zone = _states_zone(unread, form)
        instants = _parsed(unread.where(states_zone), form)
        local = _parsed(unread.where(~states_zone), form).dt.tz_localize(None)
        placed = local.dt.tz_localize(column.timezone, ambiguous="NaT", nonexistent="NaT")
        unclear |= local.notna() & placed.isna()
        found = found.fillna(placed).fillna(instants.dt.tz_convert(column.timezone))
        unread = unread.where(found.isna() & ~unclear)
    return found, unclear


def _states_zone(texts: pd.Series, form: str) -> Mask:
    if form == "ISO8601":
        return texts.str.contains(_ZONE, na=False)
    return pd.Series("%z" in form, index=texts.index)


def _parsed(texts: pd.Series, form: str) -> pd.Series:
    """The texts in a format as UTC; what has another or lies too far back is missing."""
    times = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    placed: pd.Series = times.where(times >= _EARLIEST).dt.as_unit("us")
    return placed


def _faults_of_form(texts: pd.DataFrame) -> Iterator[Fault]:
    if FAULT in texts:
        for fault in texts[FAULT].dropna().unique():
            yield texts[FAULT] == fault, f"row: {fault}"


def _broken_rules(
    texts: pd.DataFrame, typed: pd.DataFrame, schema: Schema, now: datetime
) -> Iterator[Fault]:
    """Every rule of the schema, with the rows that break it."""
    for name, column in schema.columns.items():
        if column.required or name == schema.event_time:
            yield texts[name].isna(), f"{name}: missing"
        match column:
            case NumberColumn():
                yield from _out_of_range(name, typed[name], column)
            case TimeColumn():
                yield typed[name] > now + CLOCK_TOLERANCE, f"{name}: in the future"
    for lower, upper in schema.not_above:
        yield typed[lower] > typed[upper], f"{lower} above {upper}"


def _out_of_range(name: str, numbers: pd.Series, column: NumberColumn) -> Iterator[Fault]:
    if column.minimum is not None:
        yield numbers < column.minimum, f"{name}: below {column.minimum:.15g}"
    if column.maximum is not None:
        yield numbers > column.maximum, f"{name}: above {column.maximum:.15g}"
