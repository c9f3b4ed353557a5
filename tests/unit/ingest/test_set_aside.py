"""Rows that were set aside can be read again, whatever their columns are called."""

from datetime import UTC, datetime

import pandas as pd

from services.ingest.rows import Rows, validate_rows
from services.ingest.set_aside import RefusedRow, dump_refused, load_refused
from services.ingest.tables import FAULT
from shared.frames import to_parquet
from shared.pipeline import Schema

NAMES = ("reason", "column", "value", "accepted", "row", "a")
SCHEMA = Schema.model_validate(
    {"columns": {name: {"type": "category"} for name in NAMES[:-1]} | {"a": {"type": "number"}}}
)


def refused(*rows: dict[str, str | None]) -> Rows:
    table = pd.DataFrame(rows, dtype=object)
    return validate_rows(table, SCHEMA, datetime(2026, 5, 1, tzinfo=UTC))


def test_columns_of_any_name_keep_their_values() -> None:
    row: dict[str, str | None] = {name: f"my {name}" for name in NAMES}
    rows = refused({**row, "a": "1"}, {**row, "a": "x"}, {**row, "a": "y", "reason": None})
    first, second = load_refused(dump_refused(rows), limit=10)
    accepted = "a finite decimal number such as -1.5 or 2e3"
    assert first == RefusedRow("a", "x", "not a number", accepted, {**row, "a": "x"})
    assert second.row == {**row, "a": "y", "reason": None}
    assert len(list(load_refused(dump_refused(rows), limit=1))) == 1


def test_a_row_of_a_wrong_form_names_no_column() -> None:
    row: dict[str, str | None] = dict.fromkeys(NAMES, "1")
    rows = refused({**row, FAULT: "fewer values than columns"})
    (read,) = load_refused(dump_refused(rows), limit=10)
    assert (read.column, read.value, read.reason) == ("", None, "fewer values than columns")


def test_rows_kept_by_an_earlier_version_are_read() -> None:
    before = pd.DataFrame(
        {
            "low": ["x", "5", None],
            "high": ["1", "2", "3"],
            "reason": ["low: not a number", "low above high", "row: fewer values than columns"],
        }
    )
    rows = list(load_refused(to_parquet(before.astype("str")), limit=10))
    assert [(row.column, row.value, row.reason) for row in rows] == [
        ("low", "x", "not a number"),
        ("low", "5", "above high"),
        ("", None, "fewer values than columns"),
    ]
    assert rows[2].row == {"low": None, "high": "3"}
