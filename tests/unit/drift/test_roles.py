"""What the columns of a table are taken for."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
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
    found = infer_roles(Frame(pa.table({"c": values, "x": range(5000)}))).columns[0]
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
    assert infer(list(range(ROWS)), name).role == "compared"


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
