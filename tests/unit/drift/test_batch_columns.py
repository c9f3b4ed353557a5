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


def in_words(yes: str, no: str) -> pa.Table:
    return pa.table({"flag": [yes if flag else no for flag in FLAGS], "x": VALUES})


OTHER_WORDS = [("yes", "no"), ("Y", "N"), ("y", "n"), ("t", "f"), ("T", "F"), ("ON", "Off")]


@pytest.mark.parametrize("before", OTHER_WORDS)
@pytest.mark.parametrize("after", OTHER_WORDS)
def test_flags_in_other_words_are_one_thing_and_said(
    before: tuple[str, str], after: tuple[str, str]
) -> None:
    report = check(in_words(*before), in_words(*after))
    assert report.verdict == "no drift"
    assert all(cell.effect == 0 for cell in report.cells)
    assert bool(report.questionable_columns) == (before != after)
    for column in report.questionable_columns:
        assert (column.name, column.done) == ("flag", "read as categories")
        assert f"'{after[0]}' " in column.why
        assert f"as '{before[0]}'" in column.why


@pytest.mark.parametrize("known", ["flags", "1", "'1'"])
@pytest.mark.parametrize("words", OTHER_WORDS)
def test_flags_in_words_on_one_side_alone(known: str, words: tuple[str, str]) -> None:
    for before, after in (
        (with_flags(known), in_words(*words)),
        (in_words(*words), with_flags(known)),
    ):
        report = check(before, after)
        assert report.verdict == "no drift"
        assert [column.name for column in report.questionable_columns] == ["flag"]
        assert "counts as" in report.questionable_columns[0].why


def test_a_profile_remembers_the_words_of_flags() -> None:
    kept = Profile.from_bytes(Profile.fit(in_words("Yes", "No")).to_bytes())
    assert check(kept, in_words("y", "n")).verdict == "no drift"


def test_flags_that_changed_are_drift_in_other_words() -> None:
    changed = ["Y" if flag else "N" for flag in RNG.random(ROWS) < 0.9]
    report = check(in_words("yes", "no"), pa.table({"flag": changed, "x": VALUES}))
    assert (report.verdict, report.cells[0].column) == ("drift", "flag")


def test_categories_without_a_value_in_common_are_drift_and_questionable() -> None:
    report = check(in_words("male", "none"), in_words("m", "w"))
    assert report.verdict == "drift"
    assert done_with(report)["flag"] == (
        "read as categories",
        "no value in common: the reference has 'none', 'male', the batch 'w', 'm'",
    )


def test_a_new_value_beside_known_ones_is_not_questionable() -> None:
    report = check(in_words("north", "south"), in_words("north", "east"))
    assert (report.verdict, report.questionable_columns) == ("drift", [])


@pytest.mark.parametrize(
    ("before", "after", "differs_in"),
    [
        ("north", "NORTH", "case"),
        ("north", " north ", "spaces"),
        ("São Paulo", "Sa\u0303o Paulo", "the Unicode form of a character"),
        ("New York", "new  york", "spelling"),
        ("north", "north\0", "a character that does not print"),
        ("north", "\u200bnorth", "a character that does not print"),
    ],
)
def test_values_that_differ_in_their_spelling_are_said(
    before: str, after: str, differs_in: str
) -> None:
    report = check(in_words(before, "b"), in_words(after, "b"))
    assert report.verdict == "drift"
    why = done_with(report)["flag"][1]
    assert why == (
        f"the two sides spell values differently: {before!r} in the reference, {after!r} in the "
        f"batch, which differ in {differs_in}"
    )
    assert "1 questionable column<" in render_html(report).replace("\N{NO-BREAK SPACE}", " ")


def test_values_that_the_reference_itself_spells_in_two_ways_are_said() -> None:
    mixed = pa.table({"flag": ["delhi", "Delhi", "Agra"] * 100, "x": VALUES})
    assert done_with(check(mixed, mixed))["flag"] == (
        "read as categories",
        "values that differ only in case, such as 'delhi' and 'Delhi', count as different",
    )


@pytest.mark.parametrize(
    ("before", "after", "differs_in"),
    [
        ("Price", "price", "case"),
        ("price", " price", "spaces"),
        ("price", "price\u200b", "a character that does not print"),
        ("café", "cafe\u0301", "the Unicode form of a character"),
    ],
)
def test_a_column_in_another_spelling_is_named_beside_the_missing_one(
    before: str, after: str, differs_in: str
) -> None:
    report = check(
        pd.DataFrame({before: VALUES, "x": VALUES}), pd.DataFrame({after: VALUES, "x": VALUES})
    )
    assert report.verdict == "drift"
    assert done_with(report) == {
        before: (
            "missing in every row",
            f"the batch does not have it; it has {after!r}, which differs in {differs_in}",
        ),
        after: ("left out", "the reference does not have it"),
    }


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("${:,.2f}", "numbers with separated thousands and '$'"),
        ("€ {:.2f}", "numbers with '€'"),
        ("{:.2f} %", "numbers with '%'"),
        ("{:.2f} mg", "numbers with 'mg'"),
        ("INR {:.2f}", "numbers with 'INR'"),
    ],
)
def test_numbers_of_the_batch_may_have_marks(written: str, said: str) -> None:
    amounts = VALUES * 100 + 2000
    before = pd.DataFrame({"x": amounts.round(2)})
    after = pd.DataFrame({"x": [written.format(value) for value in amounts]})
    report = check(before, after)
    assert report.verdict == "no drift"
    assert done_with(report) == {"x": ("read as numbers", f"in the batch, {said}")}


def test_a_batch_in_another_unit_is_drift_and_says_both_units() -> None:
    before = pd.DataFrame({"x": [f"{value + 20:.3f} mg" for value in VALUES]})
    after = pd.DataFrame({"x": [f"{value / 1000 + 0.02:.6f} g" for value in VALUES]})
    report = check(before, after)
    assert report.verdict == "drift"
    assert "numbers with 'mg'" in done_with(report)["x"][1]
    assert "in the batch, numbers with 'g'" in done_with(report)["x"][1]


def test_the_reference_decides_what_a_comma_of_the_batch_is() -> None:
    whole = [1200 + place for place in range(ROWS)]
    rows = RNG.permutation(ROWS)
    before = pd.DataFrame({"x": [f"{whole[row]:,}.5" for row in rows]})
    after = pd.DataFrame({"x": [f"{whole[row]:,}" for row in rows[::-1]]})
    report = check(before, after)
    assert report.verdict == "no drift"
    assert "in the batch, numbers with separated thousands" in done_with(report)["x"][1]


def test_what_a_comma_of_the_batch_is_may_stay_unclear() -> None:
    report = check(pd.DataFrame({"x": VALUES}), pd.DataFrame({"x": ["1,234"] * ROWS}))
    assert done_with(report)["x"][1] == (
        "in the batch, numbers with commas that may be decimal commas or may separate thousands; "
        "300 of 300 values of the batch are no numbers, such as '1,234', and count as missing"
    )
