"""What the columns of a table are taken for."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.report.model import ColumnRole
from services.drift.tables.frame import Frame
from services.drift.tables.roles import Roles, infer_roles, roles_of
from shared.pipeline import Pipeline

ROWS = 60
NUMBERS = [float(i % 17) for i in range(ROWS)]


def infer(values: list[Any] | pa.Array, name: str = "column", **stated: Any) -> ColumnRole:
    """How a column is read in a table that has a number column as well."""
    frame = Frame(pa.table({name: values, "other": NUMBERS[: len(values)]}))
    found = infer_roles(frame, **stated).columns[0]
    assert found.name == name
    return found


def texts(*values: str) -> list[str]:
    """The values over and over, in ROWS rows."""
    return [values[i % len(values)] for i in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "type_", "role", "note"),
    [
        (NUMBERS, "number", "compared", None),
        ([3] * ROWS, "number", "compared", "constant"),
        ([None] * ROWS, "number", "compared", "no value in the reference"),
        (texts("", "NA", " null "), "number", "compared", "no value in the reference"),
        ([float("nan")] * ROWS, "number", "compared", "no value in the reference"),
        (texts("1", "2.5", "-3e2", "NA"), "number", "compared", None),
        (["oops"] * 3 + texts("1", "2")[3:], "number", "compared", None),
        (["oops"] * 4 + texts("1", "2")[4:], "category", "compared", None),
        (texts("a", "b"), "category", "compared", None),
        (texts("a"), "category", "compared", "constant"),
        ([True, False] * 30, "category", "compared", None),
        (pa.array(texts("a", "b")).dictionary_encode(), "category", "compared", None),
        (pa.array(texts("1", "2")).dictionary_encode(), "number", "compared", None),
        (pa.array(texts("a", "b"), pa.large_string()), "category", "compared", None),
        (pa.array(range(ROWS), pa.date32()), "time", "left out", "times: new rows are later"),
        (pa.array(range(ROWS), pa.timestamp("us", "UTC")), "time", "left out", None),
        ([f"remark {i}" for i in range(ROWS)], "text", "left out", "60 different values"),
        ([f"remark {i // 2}" for i in range(ROWS)], "category", "compared", None),
        ([f"remark {i}" for i in range(50)], "category", "compared", None),
        ([[1], [2, 3]] * 30, "text", "left out", "neither numbers nor texts"),
    ],
)
def test_types(values: list[Any], type_: str, role: str, note: str | None) -> None:
    found = infer(values)
    assert (found.type, found.role, found.inferred) == (type_, role, True)
    if note:
        assert note in (found.note or "")


@pytest.mark.parametrize(
    "text",
    [
        "2024-04-21",
        "2024/4/1 10:00",
        "2024-04-21T12:00:00Z",
        "2024-04-21 12:00:00.123456+05:30",
        "21-04-2024 12:00:00",
        "07-04-2026 21:00",
        "1.2.2024",
        "4/21/24",
        "21 Apr 2024",
        "April 21, 2024 9:05 PM",
        "Sun, 21 Apr 2024 12:00:00 GMT",
        "23:59",
    ],
)
def test_spellings_of_a_time(text: str) -> None:
    assert infer(texts(text)).type == "time"


@pytest.mark.parametrize("text", ["10.0.0.1", "1.2.3", "12-34", "May", "mon", "1:2", "v2024-04-21"])
def test_what_is_no_time(text: str) -> None:
    assert infer(texts(text)).type == "category"


def test_more_than_a_thousand_categories_are_too_many() -> None:
    values = [f"c{i % 1001}" for i in range(5000)]
    found = infer_roles(Frame(pa.table({"c": values, "x": NUMBERS * 83 + NUMBERS[:20]}))).columns[0]
    assert found.note == "1,001 different values: an identifier or free text"


@pytest.mark.parametrize(
    "name",
    ["id", "ID", "order_id", "orderId", "OrderID", "row", "index", "Unnamed: 0", "", "row number"],
)
def test_whole_numbers_that_all_differ_are_an_identifier_if_named_so(name: str) -> None:
    found = infer(list(range(ROWS)), name)
    assert (found.role, found.note) == ("left out", "an identifier: all values differ")
    assert infer([str(i) for i in reversed(range(ROWS))], name).role == "left out"
    assert infer([*range(ROWS - 1), 0], name).role == "compared"
    assert infer([i + 0.5 for i in range(ROWS)], name).role == "compared"


@pytest.mark.parametrize("name", ["x", "paid", "grid", "width", "valid", "humid", "brow"])
def test_other_whole_numbers_that_all_differ_are_compared(name: str) -> None:
    assert infer([i * i for i in range(ROWS)], name).role == "compared"


def table() -> Frame:
    return Frame(
        pa.table(
            {
                "id": list(range(ROWS)),
                "place": texts("a", "b", "c"),
                "kind": texts("p", "q"),
                "value": NUMBERS,
                "label": [i % 2 for i in range(ROWS)],
                "time": texts("2024-01-01"),
                "remark": [f"remark {i}" for i in range(ROWS)],
            }
        )
    )


def roles_by_name(roles: Roles) -> dict[str, str]:
    return {column.name: column.role for column in roles.columns}


def test_stated_roles() -> None:
    roles = infer_roles(table(), segment="kind", cluster=("place", "time"), target="label")
    assert roles.numbers == ("value", "label")
    assert roles.categories == ()
    assert (roles.segment, roles.cluster, roles.target) == ("kind", ("place", "time"), "label")
    assert roles_by_name(roles) == {
        "id": "left out",
        "place": "cluster",
        "kind": "segment",
        "value": "compared",
        "label": "compared",
        "time": "cluster",
        "remark": "left out",
    }
    assert roles.columns[4].note == "the target"


def test_a_number_column_may_be_the_segment() -> None:
    roles = infer_roles(table(), segment="label")
    assert roles.columns[4].type == "category"
    assert "label" not in roles.numbers


def test_stated_columns_are_compared_whatever_they_look_like() -> None:
    roles = infer_roles(table(), columns=("remark", "id", "place"), cluster=("place",))
    assert (roles.numbers, roles.categories) == (("id",), ("place", "remark"))
    assert roles_by_name(roles)["value"] == "left out"


def test_a_target_is_compared_whatever_it_looks_like() -> None:
    assert "id" in infer_roles(table(), target="id").numbers


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"segment": "Plac"}, "segment: there is no column 'Plac'; did you mean 'place'?"),
        ({"segment": "q7"}, "segment: there is no column 'q7'$"),
        ({"cluster": ("kinds",)}, "cluster: there is no column 'kinds'; did you mean 'kind'?"),
        ({"target": "LABEL"}, "target: there is no column 'LABEL'; did you mean 'label'?"),
        ({"columns": ("valu",)}, "columns: there is no column 'valu'; did you mean 'value'?"),
        ({"segment": "remark"}, "segment: column 'remark' is no category: 60 different values"),
        ({"segment": "time"}, "segment: column 'time' is no category: times"),
        ({"columns": ("time",)}, "column 'time' cannot be compared: times"),
        ({"target": "time"}, "column 'time' cannot be compared: times"),
        ({"segment": "kind", "cluster": ("kind",)}, "'kind' cannot be the segment and in the"),
    ],
)
def test_what_cannot_be(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        infer_roles(table(), **stated)


def test_nothing_to_compare() -> None:
    frame = Frame(pa.table({"id": [1, 2], "day": ["2024-01-01", "2024-01-02"]}))
    with pytest.raises(ValueError, match=r"no column can be compared \(id: an identifier.*; day: "):
        infer_roles(frame)


def test_two_columns_of_one_name() -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(ValueError, match="two columns are named 'x'"):
        infer_roles(Frame(twice))


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(), st.floats().map(str), st.just("NA")),
        min_size=2,
        max_size=60,
    )
)
def test_every_column_of_texts_is_read_somehow(values: list[str | None]) -> None:
    """It is of numbers if, and only if, 95 % of the values are."""
    found = infer([value and value.encode("utf-8", "replace").decode() for value in values])
    given = [v for v in values if v is not None and v.strip() not in _MISSING]
    finite = sum(_is_finite(value) for value in given)
    assert (found.type == "number") == (not given or finite >= 0.95 * len(given))


_MISSING = {"", "NA", "N/A", "NaN", "nan", "null", "NULL"}


def _is_finite(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def pipeline(**drift: Any) -> Pipeline:
    types = {"x": "number", "y": "number", "k": "category", "s": "category", "at": "time"}
    return Pipeline.model_validate(
        {
            "name": "made",
            "source": {"kind": "manual"},
            "schema": {"columns": {name: {"type": type_} for name, type_ in types.items()}},
            "drift": drift,
            "training": {"target": "y", "task": "regression", "features": ["k"]},
        }
    )


def test_a_pipelines_target_and_features_are_compared() -> None:
    roles = roles_of(pipeline(segment="s", cluster=("at",)))
    assert (roles.numbers, roles.categories, roles.target) == (("y",), ("k",), "y")
    assert roles_by_name(roles) == {
        "x": "left out",
        "y": "compared",
        "k": "compared",
        "s": "segment",
        "at": "cluster",
    }
    assert not any(column.inferred for column in roles.columns)
    assert roles.columns[0].note == "neither the target nor a feature"


def test_a_pipelines_columns_are_compared_if_it_names_some() -> None:
    roles = roles_of(pipeline(columns=("x", "s"), cluster=("s",)))
    assert (roles.numbers, roles.categories) == (("x",), ("s",))
    assert roles_by_name(roles)["y"] == "left out"


def pandas_table(index: Any) -> pa.Table:
    frame = pd.DataFrame({"x": NUMBERS, "k": texts("a", "b")}, index=index)
    return pa.Table.from_pandas(frame)


@pytest.mark.parametrize(
    ("index", "left_out"),
    [
        (pd.Index(np.arange(ROWS)[::-1] * 7), ["__index_level_0__"]),
        (pd.Index(np.random.default_rng(1).normal(size=ROWS), name="measured"), ["measured"]),
        (
            pd.MultiIndex.from_arrays([texts("p", "q"), NUMBERS], names=["place", "hour"]),
            ["place", "hour"],
        ),
        (pd.RangeIndex(ROWS), []),
    ],
)
def test_the_index_that_pandas_wrote_is_left_out(index: Any, left_out: list[str]) -> None:
    table = pandas_table(index)
    table = table.append_column("pos", [NUMBERS]) if not left_out else table
    roles = infer_roles(Frame(table))
    found = {column.name: column for column in roles.columns if column.role == "left out"}
    assert list(found) == left_out
    for column in found.values():
        assert (column.note, column.questionable) == ("the index that pandas wrote", True)


def test_an_index_is_compared_if_a_person_says_so() -> None:
    table = pandas_table(pd.Index(NUMBERS, name="measured"))
    assert infer_roles(Frame(table), columns=("measured",)).numbers == ("measured",)


def test_metadata_that_is_none_says_nothing() -> None:
    for about in (b"{", b"[]", b'{"index_columns": 7}', b'{"index_columns": [{"kind": "range"}]}'):
        table = pa.table({"x": NUMBERS}).replace_schema_metadata({b"pandas": about})
        assert infer_roles(Frame(table)).numbers == ("x",)


RNG = np.random.default_rng(5)
ASCENDING = np.arange(200.0)


@pytest.mark.parametrize(
    "values",
    [
        ASCENDING,
        ASCENDING + 1_000_000,
        ASCENDING[::-1],
        10 * ASCENDING,
        RNG.permutation(ASCENDING),
        np.sort(RNG.choice(300, 200, replace=False)).astype(float),
        RNG.choice(250, 200, replace=False).astype(float),
        np.delete(5 * ASCENDING, [17, 90, 91]),
    ],
    ids=["up", "from a million", "down", "by ten", "shuffled", "rows dropped", "both", "by five"],
)
@pytest.mark.parametrize("name", ["Unnamed: 0.1", "SNo", "instant"])
def test_a_column_that_numbers_the_rows_is_left_out_whatever_its_name(
    values: Any, name: str
) -> None:
    found = infer_roles(Frame(pa.table({name: values, "x": np.resize(NUMBERS, len(values))})))
    column = found.columns[0]
    assert (column.role, column.questionable) == ("left out", True)
    assert column.note == "it numbers the rows: new rows have other numbers"
    assert infer_roles(Frame(found_table(name, values)), columns=(name,)).numbers == (name,)


def found_table(name: str, values: Any) -> pa.Table:
    return pa.table({name: values, "x": np.resize(NUMBERS, len(values))})


@pytest.mark.parametrize(
    "values",
    [
        np.repeat(np.arange(1990.0, 2010), 10),  # a year in a panel
        np.sort(RNG.integers(0, 100_000, 200)).astype(float),  # a sorted measurement
        np.sort(RNG.normal(0, 1, 200)),
        np.sort(RNG.integers(0, 150, 200)).astype(float),  # sorted, with ties
        RNG.integers(0, 400, 200).astype(float),
        np.arange(40.0),  # too few to tell
        ASCENDING + 0.5,
        ASCENDING % 100,
        RNG.integers(10_000, 99_999, 200).astype(float),  # post codes
        1e9 * RNG.lognormal(0, 0.4, 200),  # revenue in the range of a clock
        np.sort(36_000 + 200 * RNG.integers(0, 90, 200)).astype(float),  # salaries, sorted
        20_000_000.0 + RNG.integers(0, 9_999, 200),  # prices in the range of dates
    ],
)
def test_other_whole_numbers_are_compared_whatever_their_order(values: Any) -> None:
    (column, _) = infer_roles(Frame(found_table("value", values))).columns
    assert (column.role, column.questionable) == ("compared", False)


HOURS = 1_726_000_000 - 1_726_000_000 % 3600 + 3600.0 * np.arange(200)
DAYS = pd.date_range("2023-11-20", periods=200)
CLOCKS = {
    "seconds since 1970": HOURS,
    "milliseconds since 1970": 1e3 * HOURS,
    "microseconds since 1970": 1e6 * HOURS,
    "nanoseconds since 1970": 1e9 * HOURS,
    "dates as YYYYMMDD": DAYS.strftime("%Y%m%d").astype(float),
    "dates as YYYYMM": pd.date_range("2005-01-01", periods=200, freq="MS").strftime("%Y%m"),
    "dates as YYYYMMDDhhmm": DAYS.strftime("%Y%m%d1230").astype(float),
    "days since 1900": 45_000 + np.arange(200) / 24,
}


@pytest.mark.parametrize(("clock", "values"), CLOCKS.items())
def test_a_clock_is_known_by_its_values_whatever_its_name(clock: str, values: Any) -> None:
    for each in (np.asarray(values, float), np.repeat(np.asarray(values, float), 3)):
        name = "dteday" if clock != "days since 1900" or len(each) == 200 else "date"
        (column, _) = infer_roles(Frame(found_table(name, each))).columns
        assert (column.type, column.role) == ("time", "left out")
        assert (column.note, column.questionable) == (f"times ({clock}): new rows are later", True)


def test_a_clock_in_any_order_is_known_by_its_minutes_or_its_name() -> None:
    shuffled = RNG.permutation(HOURS)
    odd = RNG.uniform(1.6e9, 1.7e9, 200)
    assert infer_roles(Frame(found_table("when", shuffled))).columns[0].type == "time"
    assert infer_roles(Frame(found_table("created_at", odd))).columns[0].type == "time"
    assert infer_roles(Frame(found_table("amount", odd))).columns[0].type == "number"
    for hours in (np.full(200, 1_729_929_600.0), np.repeat(HOURS[:4], 50)[::-1] * 1e3):
        assert infer_roles(Frame(found_table("t", hours))).columns[0].type == "time"
    today = np.full(200, 20_240_421.0)
    assert infer_roles(Frame(found_table("day", today))).columns[0].type == "time"
    assert infer_roles(Frame(found_table("price", today))).columns[0].note == "constant"
    constant = np.full(200, 1.8e9)
    assert infer_roles(Frame(found_table("timestamp", constant))).columns[0].type == "time"
    assert infer_roles(Frame(found_table("amount", constant))).columns[0].note == "constant"


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        (["1,5", "2,25", "10"], [1.5, 2.25, 10], "numbers with decimal commas, such as '1,5'"),
        (["1.234,5", "999", "7,5"], [1234.5, 999, 7.5], "numbers with decimal commas"),
        (["1,234.5", "999", "12.5"], [1234.5, 999, 12.5], "numbers with separated thousands"),
        (["1,234,567", "999", "12"], [1234567, 999, 12], "numbers with separated thousands"),
        (["0,125", "0,250", "1,500"], [0.125, 0.25, 1.5], "numbers with decimal commas"),
        (["1 234", "999", "2 000"], [1234, 999, 2000], "numbers with separated thousands"),
        (["-1,5e3", "2,5", "+0,5"], [-1500, 2.5, 0.5], "numbers with decimal commas"),
        (["12,34,567", "1,00,000.5", "5"], [1234567, 100000.5, 5], "numbers with separated"),
        (["$1,200.50", "$7", "-$3.5"], [1200.5, 7, -3.5], "'$', such as '$1,200.50', read as"),
        (["1.200,50 €", "7 €", "-3,5 €"], [1200.5, 7, -3.5], "decimal commas and '€', such as"),
        (["€ 12", "€12.5", "€ -3"], [12, 12.5, -3], "numbers with '€', such as '€ 12', read as 12"),
        (["US$ 12", "US$3", "US$ 4"], [12, 3, 4], "numbers with 'US$'"),
        (["Rs. 1,234.5", "Rs. 12", "Rs. 3"], [1234.5, 12, 3], "separated thousands and 'Rs.'"),
        (["45 %", "7.5%", "-3 %"], [45, 7.5, -3], "numbers with '%', such as '45 %', read as 45"),
        (["12 mg", "0.5mg", "3 mg"], [12, 0.5, 3], "numbers with 'mg', such as '12 mg'"),
        (["12 µg/m³", "1e3 µg/m³", "3 µg/m³"], [12, 1000, 3], "numbers with 'µg/m³'"),
        (["12 sq ft", "1,000.5 sq ft", "3 sq ft"], [12, 1000.5, 3], "and 'sq ft'"),
        (["(1,200.5)", "999", "(3)"], [-1200.5, 999, -3], "'(1,200.5)' is read as -1200.5"),
        (["12", "7.5", "(3)"], [12, 7.5, -3], "'(3)' is read as -3"),
        (["($12)", "$7.5", "$3"], [-12, 7.5, 3], "'($12)' is read as -12"),
        (["12-", "7.5", "3-"], [-12, 7.5, -3], "'12-' is read as -12"),
    ],
)
def test_numbers_with_commas(values: list[str], expected: list[float], note: str) -> None:
    column = texts(*values)
    found = infer(column)
    assert (found.type, found.role, found.questionable) == ("number", "compared", True)
    assert note in (found.note or "")
    assert Frame(pa.table({"c": column})).numbers("c")[:3].tolist() == expected


def test_numbers_that_may_be_either_are_left_out() -> None:
    found = infer(texts("1,234", "2,345", "12"))
    assert (found.role, found.questionable) == ("left out", True)
    assert "with a decimal comma, or with separated thousands" in (found.note or "")


@pytest.mark.parametrize(
    "values",
    [
        ["1,5", "1.5", "2"],
        ["10,20,30", "40,50,60", "7"],
        ["a,b"],
        ["12 mg", "3 g", "4"],
        ["A12", "A13", "A7"],
        ["12-34", "56-78"],
        ["(a)", "(b)"],
        ["10x20", "30x40"],
        ["1.2.3 mg", "4.5.6 mg"],
    ],
)
def test_what_looks_a_little_like_numbers_is_none(values: list[str]) -> None:
    assert infer(texts(*values)).type == "category"


@pytest.mark.parametrize(
    ("written", "note"),
    [
        (["{} mg", "{} g"], "numbers with different signs or units, such as '0 mg' and '3.1 g'"),
        (["${:.2f}", "€{:.2f}"], "numbers with different signs or units, such as '$0.00' and"),
        (["{:.0f}K", "{:.3f}M"], "numbers with different signs or units"),
        (["$1,{:03.0f}"], "with a decimal comma, or with separated thousands"),
    ],
)
def test_numbers_that_no_one_can_compare_are_left_out_with_the_reason(
    written: list[str], note: str
) -> None:
    values = [written[i % len(written)].format(3.1 * i if i else 0) for i in range(ROWS)]
    found = infer(values)
    assert (found.role, found.questionable) == ("left out", True)
    assert note in (found.note or "")


WRITTEN = {
    "{:.3f}": str.maketrans({}),
    "{:,.3f}": str.maketrans({}),
    "{:.3f}!": str.maketrans(".", ","),
    "{:,.3f}!": str.maketrans(",.", ".,"),
    "{:,.3f}_": str.maketrans(",", " "),
}


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=5, max_size=20),
    st.sampled_from(sorted(WRITTEN)),
    st.sampled_from(["{}", "${}", "£ {}", "{} €", "{}%", "{} kg", "USD {}", "{} km/h", "{} m²"]),
)
def test_a_number_is_the_same_in_every_writing(
    thousandths: list[int], written: str, marked: str
) -> None:
    numbers = [1234567.125, *(each / 1000 for each in thousandths)]
    plain = [written.format(number).strip("!_").translate(WRITTEN[written]) for number in numbers]
    column = [marked.format(text) for text in plain]
    found = Frame(pa.table({"c": column})).numbers("c")
    np.testing.assert_allclose(found, numbers, rtol=1e-12)


def test_a_part_of_a_table_is_read_as_the_whole_is() -> None:
    whole = Frame(pa.table({"c": ["0,5"] * 50 + ["1,234"] * 50}))
    assert whole.slice(60, 10).numbers("c").tolist() == [1.234] * 10


def test_mixed_types_are_said() -> None:
    assert infer(["oops", *texts("1", "2")[1:]]).note == (
        "1 of 60 values are no numbers, such as 'oops', and count as missing"
    )
    mixed = infer(texts("1", "2", "x"))
    assert (mixed.type, mixed.questionable) == ("category", True)
    assert mixed.note == "40 of 60 values are numbers, the others are not, such as 'x'"
    assert not infer(texts("a", "b")).questionable


@pytest.mark.parametrize(
    "values", [[True, False] * 30, texts("True", "False"), texts("TRUE", "false"), texts("true")]
)
def test_flags_have_one_spelling(values: list[Any]) -> None:
    found = infer(values)
    assert (found.type, found.flags, found.questionable) == ("category", True, False)
    frame = Frame(pa.table({"flag": values}))
    assert set(frame.categories("flag")[1]) <= {"true", "false"}
    assert set(frame.numbers("flag")) <= {1.0, 0.0}


def test_whole_numbers_have_one_spelling() -> None:
    frame = Frame(pa.table({"k": ["3", "3.0", "3.00", "3.5", "007", "a", "1.0.0"]}))
    assert frame.categories("k")[1] == ("3", "3.5", "007", "a", "1.0.0")


def test_columns_that_nobody_asked_for_are_not_questionable() -> None:
    roles = infer_roles(table(), columns=("value",))
    assert not any(column.questionable for column in roles.columns)


def test_flags_mixed_with_ones_and_zeros_are_said() -> None:
    found = infer(texts("true", "0", "1"))
    assert (found.type, found.questionable) == ("category", True)
    assert found.note == "40 of 60 values are numbers, the others are not, such as 'true'"


def test_a_digit_group_with_an_underscore_is_no_number() -> None:
    assert infer(texts("12_3", "1_24", "7_0")).type == "category"


def test_minus_signs_and_digits_of_other_scripts_are_numbers() -> None:
    values = texts("\N{MINUS SIGN}1.5", "2.5", "\N{FULLWIDTH DIGIT THREE}")
    found = infer(values)
    assert (found.type, found.questionable) == ("number", True)
    assert found.note == "numbers in characters that are not ASCII, such as '\N{MINUS SIGN}1.5'"
    numbers = Frame(pa.table({"n": values})).numbers("n")
    assert list(numbers[:3]) == [-1.5, 2.5, 3.0]


def test_missing_texts_among_plain_numbers_are_not_questionable() -> None:
    assert not infer(texts("1", "2.5", "NA")).questionable


@pytest.mark.parametrize(
    "values",
    [
        ["2024-W05", "2024-W06"],
        ["2024W05-1", "2024W06-7"],
        ["W05 2024", "W06 2024"],
        ["2024-Q1", "2024 Q2"],
        ["Q1/2024", "Q2 2024"],
        ["2024-01", "2024-12"],
        ["01/2024", "12/2024"],
        ["Jan 2024", "February-2024"],
    ],
)
def test_months_quarters_and_weeks_of_a_year_are_times(values: list[str]) -> None:
    found = infer(texts(*values))
    assert (found.type, found.role, found.questionable) == ("time", "left out", True)


@pytest.mark.parametrize("values", [["Q1", "Q2"], ["W05", "W06"], ["1024-01", "3024-99"], ["Jan"]])
def test_codes_and_seasons_are_no_times(values: list[str]) -> None:
    assert infer(texts(*values)).type == "category"


@pytest.mark.parametrize("names", [["a", "a"], [1, "1"]])
def test_two_columns_of_one_name_are_refused(names: list[Any]) -> None:
    frame = pd.DataFrame(np.zeros((3, 2)), columns=names)
    with pytest.raises(ValueError, match="two columns are named"):
        Frame.of(frame)
    with pytest.raises(ValueError, match="two columns are named"):
        Frame.of(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))


def test_names_and_values_that_arrow_does_not_have_are_texts() -> None:
    names = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])
    frame = Frame.of(pd.DataFrame([[1 + 2j, 1.0], [2.0, 3.0]], columns=names))
    assert frame.names == ["('a', 1)", "('a', 2)"]
    assert frame.categories("('a', 1)")[1] == ("(1+2j)", "(2+0j)")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_are_numbers_of_seconds(unit: str) -> None:
    seconds = [float(i % 17) for i in range(ROWS)]
    values = pa.array(pd.to_timedelta(seconds, unit="s")).cast(pa.duration(unit))
    found = infer(values)
    assert (found.type, found.role, found.questionable) == ("number", "compared", False)
    frame = Frame(pa.table({"d": pa.concat_arrays([values, pa.nulls(1, values.type)])}))
    assert list(frame.numbers("d")[:ROWS]) == seconds
    assert np.isnan(frame.numbers("d")[ROWS])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(1)])
def test_bytes_are_the_texts_that_they_spell(kind: pa.DataType) -> None:
    values = pa.array([b"a", b"b", None] * 20, kind)
    assert (infer(values).type, infer(values).role) == ("category", "compared")
    assert Frame(pa.table({"k": values})).categories("k")[1] == ("a", "b")


def test_bytes_that_are_no_text_stay_apart() -> None:
    frame = Frame(pa.table({"k": [b"\xff", b"b", b"\xfe"]}))
    assert frame.categories("k")[1] == ("0xff", "b", "0xfe")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_year_and_unit_may_tell_rows_that_belong_together(unit: str) -> None:
    times = pa.array([1, 10**14 + 1, -(10**14)], pa.timestamp(unit, "UTC"))
    codes, labels = Frame(pa.table({"t": times})).categories("t")
    assert codes.tolist() == [0, 1, 2]
    assert len(labels) == 3
