"""A batch is read as the reference's columns are, and what a person may question is said."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from services.drift import Profile, check
from services.drift.report.model import DriftReport
from services.drift.report.page import render_html

RNG = np.random.default_rng(11)
ROWS = 300
FLAGS = RNG.random(ROWS) < 0.3
VALUES = RNG.normal(size=ROWS)

SPELLINGS: dict[str, Any] = {
    "flags": FLAGS,
    "True": [str(flag) for flag in FLAGS],
    "TRUE": [str(flag).upper() for flag in FLAGS],
    "true": [str(flag).lower() for flag in FLAGS],
    "1": FLAGS.astype(int),
    "1.0": FLAGS.astype(float),
    "'1'": [str(int(flag)) for flag in FLAGS],
}


def with_flags(spelling: str) -> pa.Table:
    return pa.table({"flag": SPELLINGS[spelling], "x": VALUES})


@pytest.mark.parametrize("before", ["flags", "TRUE", "1"])
@pytest.mark.parametrize("after", SPELLINGS)
def test_flags_are_one_thing_however_they_are_spelt(before: str, after: str) -> None:
    report = check(with_flags(before), with_flags(after))
    assert (report.verdict, report.questionable_columns) == ("no drift", [])
    assert all(cell.effect == 0 for cell in report.cells)


@pytest.mark.parametrize("spelling", ["true", "1.0"])
def test_flags_that_changed_are_drift_however_they_are_spelt(spelling: str) -> None:
    flags = pa.table({"flag": RNG.random(ROWS) < 0.9, "x": VALUES})
    report = check(with_flags(spelling), flags)
    assert (report.verdict, report.cells[0].column) == ("drift", "flag")


def done_with(report: DriftReport) -> dict[str, tuple[str, str]]:
    return {column.name: (column.done, column.why) for column in report.questionable_columns}


def test_numbers_of_the_batch_may_have_commas() -> None:
    texts = [f"{value:.4f}".replace(".", ",") for value in VALUES]
    report = check(pd.DataFrame({"x": VALUES}), pd.DataFrame({"x": texts}))
    assert report.verdict == "no drift"
    assert done_with(report) == {
        "x": ("read as numbers", "in the batch, numbers with decimal commas")
    }


def test_texts_of_the_batch_that_are_no_numbers_are_counted() -> None:
    texts: list[Any] = [f"{value:.4f}" for value in VALUES]
    texts[:6] = ["?"] * 6
    chunks = [pa.table({"x": texts[:100]}), pa.table({"x": texts[100:]})]
    report = check(pa.table({"x": VALUES}), chunks)
    assert done_with(report)["x"][1] == (
        "6 of 300 values of the batch are no numbers, such as '?', and count as missing"
    )


def test_columns_that_one_side_alone_has() -> None:
    before = pd.DataFrame({"x": VALUES, "gone": VALUES})
    after = pd.DataFrame({"x": VALUES, "new": VALUES})
    assert done_with(check(before, after)) == {
        "gone": ("missing in every row", "the batch does not have it"),
        "new": ("left out", "the reference does not have it"),
    }
    assert done_with(check(before, [after, before])) == {
        "new": ("left out", "the reference does not have it")
    }


def test_the_index_of_a_data_frame_is_no_column_of_it() -> None:
    before = pd.DataFrame({"x": VALUES}, index=pd.Index(range(ROWS), name="row"))
    after = pd.DataFrame({"x": VALUES}, index=pd.Index(range(ROWS, 2 * ROWS), name="row"))
    report = check(Profile.fit(before), after)
    assert [column.name for column in report.columns] == ["x"]
    assert not report.questionable_columns


def test_the_page_shows_them_before_everything_else() -> None:
    counted = np.arange(ROWS)
    before = pd.DataFrame({"x": VALUES, "<b>": counted})
    report = check(before, pd.DataFrame({"x": VALUES + 3, "<b>": counted + ROWS}))
    assert list(done_with(report)) == ["<b>"]
    page = render_html(report)
    assert "1 questionable column<" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "&lt;b&gt;" in page
    assert page.index('id="questionable"') < page.index('id="changes"')
    assert 'id="questionable"' not in render_html(check(before[["x"]], before[["x"]]))


def test_a_profile_remembers_them() -> None:
    table = pd.DataFrame({"x": VALUES, "n": np.arange(ROWS)})
    kept = Profile.from_bytes(Profile.fit(table).to_bytes())
    assert done_with(check(kept, table)) == done_with(check(table, table))
