"""Rows judged one by one against the pipeline's schema: kept with their types, or set aside.

Every rule is one vectorised comparison over a column, but its verdict is on single rows.
"""

import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, reduce
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

Mask = NDArray[np.bool_]
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
    columns = _columns(table, schema)
    typed, faults = _typed(columns, schema)
    found = [*_faults_of_form(table), *faults, *_broken_rules(columns, typed, schema, now)]
    reason = np.full(len(table), "", dtype=object)
    for mask, text in reversed(found):
        reason[mask] = text
    bad = reason != ""
    counts = pd.Series(reason[bad], dtype=object).value_counts()
    refused = {name: texts.take(bad) for name, texts in columns.items()}
    valid = pd.DataFrame(typed, index=range(len(table)))
    return Rows(
        valid=valid[~bad].reset_index(drop=True) if bad.any() else valid,
        refused=pd.DataFrame(refused | {"reason": reason[bad]}, dtype=object),
        reasons={str(fault): int(rows) for fault, rows in counts.items()},
    )


def named_by_schema(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The schema's columns as stripped texts (or None), whichever of their names the source uses.

    Raises:
        WillNotPass: a column of the schema is not there: the source has changed its form.
    """
    every = slice(None)
    named = {name: texts.take(every) for name, texts in _columns(table, schema).items()}
    if FAULT in table:
        named[FAULT] = table[FAULT].to_numpy()
    return pd.DataFrame(named, index=table.index, dtype=object)


@dataclass(frozen=True)
class _Texts:
    """A column of texts, of which many are equal: what is to be known of a text is found once."""

    distinct: list[str | None]
    """Stripped; None is a missing one. Two may be equal that were not before."""
    of_row: NDArray[np.intp]
    """For each row the position of its text."""

    @classmethod
    def of(cls, column: pd.Series, missing: tuple[str, ...]) -> "_Texts":
        codes, values = pd.factorize(column, use_na_sentinel=True)
        stripped = (value.strip() if isinstance(value, str) else None for value in values)
        distinct = [None if text in missing else text for text in stripped]
        return cls([*distinct, None], np.where(codes < 0, len(distinct), codes))

    @cached_property
    def given(self) -> Mask:
        """Which rows have a text."""
        return np.array([text is not None for text in self.distinct])[self.of_row]

    def take(self, rows: Mask | slice) -> NDArray[np.object_]:
        """The texts of some rows."""
        return np.array(self.distinct, dtype=object)[self.of_row[rows]]

    def where_not_given(self, other: "_Texts") -> "_Texts":
        """This column, with the texts of another in the rows where it has none."""
        behind = len(self.distinct) + other.of_row
        of_row = np.where(self.given, self.of_row, behind)
        return _Texts([*self.distinct, *other.distinct], of_row)


def _columns(table: pd.DataFrame, schema: Schema) -> dict[str, _Texts]:
    """The schema's columns, whichever of their names the source uses."""
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
    return {
        name: reduce(
            _Texts.where_not_given, (_Texts.of(table[each], schema.missing) for each in found)
        )
        for name, found in spellings.items()
    }


def _typed(columns: dict[str, _Texts], schema: Schema) -> tuple[dict[str, Any], list[Fault]]:
    """The values with their types; a text that has none is missing, and a fault of its row."""
    typed: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, column in schema.columns.items():
        texts = columns[name]
        match column:
            case NumberColumn():
                typed[name] = _numbers(texts)
                faults.append((texts.given & np.isnan(typed[name]), f"{name}: not a number"))
            case TimeColumn():
                typed[name], unclear = _times(texts, column)
                faults.append((unclear, f"{name}: skipped or repeated by a change of the clocks"))
                faults.append((texts.given & typed[name].isna(), f"{name}: not a time"))
            case CategoryColumn():
                typed[name] = pd.array(texts.distinct, dtype="str").take(texts.of_row)
    return typed, faults


def _numbers(texts: _Texts) -> NDArray[np.float64]:
    """Finite decimal numbers; anything else is missing."""

    def number(text: str | None) -> float:
        return float(text) if text and _NUMBER.fullmatch(text) else math.nan

    numbers = np.array([number(text) for text in texts.distinct])
    return np.where(np.isfinite(numbers), numbers, math.nan)[texts.of_row]


def _times(texts: _Texts, column: TimeColumn) -> tuple[Any, Mask]:
    """Points in time in the column's zone, and which texts name none or two of them.

    A text without a zone is local time there, and a change of the clocks leaves some local times
    out and brings others twice. What fits none of the formats is missing.
    """
    found, unclear = _times_of(pd.Series(texts.distinct, dtype=object), column)
    return found.array.take(texts.of_row), unclear.to_numpy()[texts.of_row]


def _times_of(texts: pd.Series, column: TimeColumn) -> tuple[pd.Series, pd.Series]:
    unread = texts.where(~texts.str.fullmatch(_NO_TIME, na=True))
    found = pd.Series(pd.NaT, index=texts.index, dtype=f"datetime64[us, {column.timezone}]")
    unclear = pd.Series(False, index=texts.index)
    for form in column.formats:
        if unread.isna().all():
            break
        states_zone, read = _states_zone(unread, form), _parsed(unread, form)
        instants = read.where(states_zone)
        local = read.where(~states_zone).dt.tz_localize(None)
        placed = local.dt.tz_localize(column.timezone, ambiguous="NaT", nonexistent="NaT")
        unclear |= local.notna() & placed.isna()
        found = found.fillna(placed).fillna(instants.dt.tz_convert(column.timezone))
        unread = unread.where(found.isna() & ~unclear)
    return found, unclear


def _states_zone(texts: pd.Series, form: str) -> pd.Series:
    if form == "ISO8601":
        return texts.str.contains(_ZONE, na=False)
    return pd.Series("%z" in form, index=texts.index)


def _parsed(texts: pd.Series, form: str) -> pd.Series:
    """The texts in a format as UTC; what has another or lies too far back is missing."""
    times = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    placed: pd.Series = times.where(times >= _EARLIEST).dt.as_unit("us")
    return placed


def _faults_of_form(table: pd.DataFrame) -> Iterator[Fault]:
    if FAULT in table:
        for fault in table[FAULT].dropna().unique():
            yield (table[FAULT] == fault).to_numpy(), f"row: {fault}"


def _broken_rules(
    columns: dict[str, _Texts], typed: dict[str, Any], schema: Schema, now: datetime
) -> Iterator[Fault]:
    """Every rule of the schema, with the rows that break it."""
    for name, column in schema.columns.items():
        if column.required or name == schema.event_time:
            yield ~columns[name].given, f"{name}: missing"
        match column:
            case NumberColumn():
                yield from _out_of_range(name, typed[name], column)
            case TimeColumn():
                yield typed[name] > now + CLOCK_TOLERANCE, f"{name}: in the future"
    for lower, upper in schema.not_above:
        yield typed[lower] > typed[upper], f"{lower} above {upper}"


def _out_of_range(name: str, numbers: NDArray[np.float64], column: NumberColumn) -> Iterator[Fault]:
    if column.minimum is not None:
        yield numbers < column.minimum, f"{name}: below {column.minimum:.15g}"
    if column.maximum is not None:
        yield numbers > column.maximum, f"{name}: above {column.maximum:.15g}"
