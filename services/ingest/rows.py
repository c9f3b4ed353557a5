"""Rows judged one by one against the pipeline's schema: kept with their types, or set aside.

Every rule is one vectorised comparison over a column, but its verdict is on single rows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

import numpy as np
import pandas as pd

from shared.failures import WillNotPass
from shared.pipeline import CategoryColumn, NumberColumn, Schema, TimeColumn

CLOCK_TOLERANCE: Final = timedelta(minutes=10)
"""A source's clock may be ahead of ours by this much."""

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
Mask = pd.Series


@dataclass(frozen=True)
class Rows:
    """The rows of a table, sorted out."""

    valid: pd.DataFrame
    """Columns of the schema, in its order: float64, str (missing: None) or time with a zone."""
    refused: pd.DataFrame
    """The other rows as published, with their first fault in the column `reason`."""
    reasons: dict[str, int]
    """Reason -> rows."""


def validate_rows(table: pd.DataFrame, schema: Schema, now: datetime) -> Rows:
    """Sort the rows of a table of texts into valid and refused.

    Args:
        table: texts, of shape (n_rows, n_columns), with the source's column names.
        now: times later than this (and a tolerance for clocks) are in the future.

    Raises:
        WillNotPass: a column of the schema is not there: the source has changed its form.
    """
    texts = _named_by_schema(table, schema)
    typed, reason = _typed(texts, schema)
    for mask, fault in _faults(texts, typed, schema, now):
        reason = reason.mask(mask & reason.isna(), fault)
    bad = reason.notna()
    reasons = reason[bad].value_counts()
    return Rows(
        valid=typed[~bad].reset_index(drop=True),
        refused=texts[bad].assign(reason=reason[bad]).reset_index(drop=True),
        reasons={str(fault): int(rows) for fault, rows in reasons.items()},
    )


def _named_by_schema(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The schema's columns as stripped texts, whichever of their names the source uses."""
    chosen: dict[str, pd.Series] = {}
    missing: list[str] = []
    for name, column in schema.columns.items():
        spelling = next((each for each in (name, *column.aliases) if each in table), None)
        if spelling is None:
            missing.append(name)
        else:
            chosen[name] = _stripped(table[spelling], schema.missing)
    if missing:
        raise WillNotPass(
            f"the source has changed its form: no column {', '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns))}. Name the new one in schema.columns"
        )
    return pd.DataFrame(chosen, index=table.index)


def _stripped(column: pd.Series, missing: tuple[str, ...]) -> pd.Series:
    values = [
        None if value is None or (text := str(value).strip()) in missing else text
        for value in column
    ]
    return pd.Series(values, index=column.index, dtype=object)


def _typed(texts: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, pd.Series]:
    """The values with their types, and for each row the first one that has none (or None)."""
    typed: dict[str, pd.Series] = {}
    reason = pd.Series(None, index=texts.index, dtype=object)
    for name, column in schema.columns.items():
        fault = ""
        match column:
            case NumberColumn():
                typed[name], fault = _numbers(texts[name]), f"{name}: not a number"
            case TimeColumn():
                typed[name], fault = _times(texts[name], column), f"{name}: not a time"
            case CategoryColumn():
                typed[name] = texts[name].astype("str")
        unreadable = texts[name].notna() & typed[name].isna()
        reason = reason.mask(unreadable & reason.isna(), fault)
    return pd.DataFrame(typed, index=texts.index), reason


def _numbers(texts: pd.Series) -> pd.Series:
    """Finite decimal numbers; anything else is missing."""
    plain = texts.where(texts.map(lambda text: bool(text and _NUMBER.fullmatch(text))))
    numbers: pd.Series = pd.to_numeric(plain, errors="coerce").astype("float64")
    return numbers.where(numbers.abs() < np.inf)


def _times(texts: pd.Series, column: TimeColumn) -> pd.Series:
    """Points in time in the column's zone; what fits none of its formats is missing."""
    found = _in_zone(pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us]"), column.timezone)
    for form in column.formats:
        unread = texts.notna() & found.isna()
        if not unread.any():
            break
        states_zone = _states_zone(texts, form)
        for mask, utc in ((unread & states_zone, True), (unread & ~states_zone, False)):
            if mask.any():
                times = pd.to_datetime(texts.where(mask), format=form, errors="coerce", utc=utc)
                found = found.fillna(_in_zone(times, column.timezone))
    return found


def _states_zone(texts: pd.Series, form: str) -> pd.Series:
    """Which of the texts say their zone themselves."""
    if form == "ISO8601":
        return texts.str.contains(r":\d\d[\d.,:]*(?:Z|[+-]\d\d(?::?\d\d)?)$", na=False)
    return pd.Series("%z" in form, index=texts.index)


def _in_zone(times: pd.Series, zone: str) -> pd.Series:
    """Times in a zone. Those without one are local there; a local time that a change of the clocks
    leaves out, or brings twice, is missing."""
    if times.dt.tz is None:
        placed = times.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    else:
        placed = times.dt.tz_convert(zone)
    return cast("pd.Series", placed.dt.as_unit("us"))


def _faults(
    texts: pd.DataFrame, typed: pd.DataFrame, schema: Schema, now: datetime
) -> Iterator[tuple[Mask, str]]:
    """Every rule of the schema with the rows that break it."""
    for name, column in schema.columns.items():
        if column.required:
            yield texts[name].isna(), f"{name}: missing"
        match column:
            case NumberColumn():
                yield from _out_of_range(name, typed[name], column)
            case TimeColumn():
                yield typed[name] > now + CLOCK_TOLERANCE, f"{name}: in the future"
    for lower, upper in schema.not_above:
        yield typed[lower] > typed[upper], f"{lower} above {upper}"


def _out_of_range(
    name: str, numbers: pd.Series, column: NumberColumn
) -> Iterator[tuple[Mask, str]]:
    if column.minimum is not None:
        yield numbers < column.minimum, f"{name}: below {column.minimum:g}"
    if column.maximum is not None:
        yield numbers > column.maximum, f"{name}: above {column.maximum:g}"
