"""Rows judged one by one against the pipeline's schema: kept with their types, or set aside.

Every rule is one vectorised comparison over a column, but its verdict is on single rows.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, reduce
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from services.ingest.numbers import exact_numbers, finite_numbers
from services.ingest.tables import FAULT
from services.ingest.times import read_times
from shared.failures import WillNotPass
from shared.frames import storable
from shared.pipeline import CategoryColumn, NumberColumn, Schema, TimeColumn

CLOCK_TOLERANCE: Final = timedelta(minutes=10)
"""A source's clock may be ahead of ours by this much."""

LONGEST_CELL: Final = 10_000
"""Characters of one value."""

_LONGEST_LIST: Final = 400

_SHOWN: Final = 40
_A_NUMBER: Final = "a finite decimal number such as -1.5 or 2e3"
_A_KEY: Final = (
    "a whole number written in full, of at most 38 digits, or a number of at most 15 digits; "
    "for other keys give the column the type category"
)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fault:
    """A reason to refuse rows, and the rows that it concerns."""

    mask: Mask
    column: str
    """Empty: the fault is of the row as a whole."""
    reason: str
    accepted: str
    """What would have been kept; empty where the reason says it."""


@dataclass(frozen=True)
class Rows:
    """The rows of a table, sorted out."""

    valid: pd.DataFrame
    """The schema's columns in its order: float64, str, or time in the column's zone. Missing is
    NaN, NaN and NaT. Number keys beyond 2**53 are Decimals."""
    refused: pd.DataFrame
    """The other rows as texts, in the schema's columns."""
    faults: pd.DataFrame
    """For each refused row its first fault: `column`, `value`, `reason`, `accepted`, as texts."""

    @property
    def reasons(self) -> dict[str, int]:
        """Reason, with the value of the first row and what is accepted -> rows; most rows first."""
        if self.faults.empty:
            return {}
        counted: dict[str, int] = {}
        groups = self.faults.groupby(["column", "reason", "accepted"], sort=False)
        for (column, reason, accepted), rows in groups:
            words = _in_words(str(column), str(reason), str(accepted), rows["value"].iloc[0])
            counted[words] = len(rows)
        return dict(sorted(counted.items(), key=lambda item: -item[1]))


def _in_words(column: str, reason: str, accepted: str, value: str | None) -> str:
    example = f" (such as {shown(value)})" if isinstance(value, str) else ""
    kept = f"; accepted: {accepted}" if accepted else ""
    return f"{column or 'row'}: {reason}{example}{kept}"


def shown(value: str) -> str:
    """A value in quotes, shortened, without characters that do not print."""
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")


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
    first = np.full(len(table), -1)
    for number, fault in reversed(list(enumerate(found))):
        first[fault.mask] = number
    bad = first >= 0
    valid = pd.DataFrame(typed | _exact_keys(columns, schema), index=range(len(table)))
    return Rows(
        valid=valid[~bad].reset_index(drop=True) if bad.any() else valid,
        refused=pd.DataFrame(
            {name: texts.take(bad) for name, texts in columns.items()}, dtype=object
        ),
        faults=_described([found[number] for number in first[bad]], columns, bad),
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
        stripped = (storable(value.strip()) if isinstance(value, str) else None for value in values)
        distinct = [None if text in missing else text for text in stripped]
        return cls([*distinct, None], np.where(codes < 0, len(distinct), codes))

    @cached_property
    def given(self) -> Mask:
        """Which rows have a text."""
        return np.array([text is not None for text in self.distinct])[self.of_row]

    @cached_property
    def too_long(self) -> Mask:
        """Which rows have a text that is too long."""
        lengths = [len(text or "") for text in self.distinct]
        return (np.array(lengths) > LONGEST_CELL)[self.of_row]

    def take(self, rows: Mask | NDArray[np.intp] | slice) -> NDArray[np.object_]:
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
        faults.append(
            Fault(texts.too_long, name, "too long", f"at most {LONGEST_CELL:,} characters")
        )
        match column:
            case NumberColumn():
                distinct = finite_numbers(texts.distinct)
                typed[name] = distinct[texts.of_row]
                bad = texts.given & np.isnan(typed[name])
                faults.append(Fault(bad, name, "not a number", _A_NUMBER))
                if name in schema.key:
                    _, lost = exact_numbers(texts.distinct, distinct)
                    faults.append(
                        Fault(lost[texts.of_row], name, "a key that has lost digits", _A_KEY)
                    )
            case TimeColumn():
                formats = ", ".join(column.formats)
                found, unclear = read_times(pd.Series(texts.distinct, dtype=object), column)
                typed[name] = found.array.take(texts.of_row)
                between = unclear.to_numpy()[texts.of_row]
                once = (
                    f"a local time that {column.timezone} has exactly once, or a time with its zone"
                )
                faults.append(
                    Fault(between, name, "skipped or repeated by a change of the clocks", once)
                )
                bad = texts.given & typed[name].isna()
                faults.append(Fault(bad, name, "not a time", formats))
            case CategoryColumn():
                typed[name] = pd.array(texts.distinct, dtype="str").take(texts.of_row)
    return typed, faults


def _exact_keys(columns: dict[str, _Texts], schema: Schema) -> dict[str, Any]:
    """The number keys whose digits a float does not keep, as decimals."""
    found: dict[str, Any] = {}
    for name in schema.key:
        if isinstance(schema.columns[name], NumberColumn):
            distinct = columns[name].distinct
            exact, _ = exact_numbers(distinct, finite_numbers(distinct))
            if exact is not None:
                found[name] = exact[columns[name].of_row]
    return found


def _described(faults: list[Fault], columns: dict[str, _Texts], bad: Mask) -> pd.DataFrame:
    """The fault of each bad row, with the value that is behind it."""
    values = np.full(len(faults), None, dtype=object)
    of_column = np.array([fault.column for fault in faults], dtype=object)
    for name, texts in columns.items():
        here = of_column == name
        values[here] = texts.take(np.flatnonzero(bad)[here])
    described = {
        "column": of_column,
        "value": values,
        "reason": [fault.reason for fault in faults],
        "accepted": [fault.accepted for fault in faults],
    }
    return pd.DataFrame(described, dtype=object)


def _faults_of_form(table: pd.DataFrame) -> Iterator[Fault]:
    if FAULT in table:
        for fault in table[FAULT].dropna().unique():
            mask = (table[FAULT] == fault).to_numpy()
            yield Fault(mask, "", str(fault), "")


def _broken_rules(
    columns: dict[str, _Texts], typed: dict[str, Any], schema: Schema, now: datetime
) -> Iterator[Fault]:
    """Every rule of the schema, with the rows that break it."""
    for name, column in schema.columns.items():
        if column.required or name == schema.event_time:
            yield Fault(~columns[name].given, name, "missing", "a value")
        match column:
            case NumberColumn():
                yield from _out_of_range(name, typed[name], column)
            case TimeColumn():
                minutes = CLOCK_TOLERANCE.seconds // 60
                latest = f"times up to {minutes} minutes ahead of this machine's clock"
                ahead = typed[name] > now + CLOCK_TOLERANCE
                yield Fault(ahead, name, "in the future", latest)
    for lower, upper in schema.not_above:
        above = typed[lower] > typed[upper]
        yield Fault(above, lower, f"above {upper}", f"at most the row's {upper}")


def _out_of_range(name: str, numbers: NDArray[np.float64], column: NumberColumn) -> Iterator[Fault]:
    if column.minimum is not None:
        limit = f"{column.minimum:.15g}"
        yield Fault(numbers < column.minimum, name, f"below {limit}", f"at least {limit}")
    if column.maximum is not None:
        limit = f"{column.maximum:.15g}"
        yield Fault(numbers > column.maximum, name, f"above {limit}", f"at most {limit}")
