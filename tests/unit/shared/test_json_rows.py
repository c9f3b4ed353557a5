"""JSON read row by row says what reading it at once says."""

import json
from collections.abc import Iterator
from json import JSONDecoder
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tables.content import UnreadableTable
from shared.tables.json_rows import (
    LONGEST_VALUE,
    MOST_MEMBERS,
    JsonRows,
    NotJson,
    is_too_deep,
    require_filled,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def cut(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def read(text: str, size: int = 7) -> JsonRows:
    return JsonRows(cut(text, size), JSONDecoder(), "records", {"total", "status"})


@given(rows=st.lists(values, max_size=5), size=st.integers(1, 30), indent=st.none() | st.just(1))
def test_a_list(rows: list[Any], size: int, indent: int | None) -> None:
    found = read(f" {json.dumps(rows, indent=indent)}\n", size)
    assert list(found) == rows
    assert found.is_found
    assert not found.is_object


@given(
    rows=st.lists(values, max_size=4),
    others=st.dictionaries(st.sampled_from(["total", "status", "x"]), values),
    size=st.integers(1, 30),
    last=st.booleans(),
)
def test_an_object_around_a_list(
    rows: list[Any], others: dict[str, Any], size: int, *, last: bool
) -> None:
    answer = others | {"records": rows} if last else {"records": rows} | others
    found = read(json.dumps(answer), size)
    assert list(found) == rows
    assert found.is_object
    assert found.members == {key: value for key, value in others.items() if key != "x"}


@given(value=values, size=st.integers(1, 9))
def test_what_is_no_table_has_no_rows(value: Any, size: int) -> None:
    found = read(json.dumps({"records": {"a": value}}), size)
    assert list(found) == []
    assert found.is_object
    assert not found.is_found


@given(text=st.text(st.sampled_from('[]{}",:1ae \n\\'), max_size=14))
def test_it_refuses_what_json_refuses(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(NotJson):
            list(read(text, 3))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "Expecting ',' delimiter at character 5"),
        ('{"total": 1}x', "Extra data at character 12"),
        ("{1: 2}", "Expecting property name enclosed in double quotes at character 1"),
        ('{"records": [], "records": []}', "the key 'records' stands twice"),
        ("[" + "[" * 100_000, "nested too deeply"),
        (f'["{"x" * LONGEST_VALUE}"]', "a value of more than 4,000,000 characters"),
        (f'["{"x" * LONGEST_VALUE}', "a value of more than 4,000,000 characters"),
        (
            "{" + ",".join(f'"{number}": 1' for number in range(MOST_MEMBERS + 1)) + "}",
            "more than 1,000 keys",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(NotJson, match=said):
        list(read(text, 1 << 20))


def test_nesting_is_counted() -> None:
    assert not is_too_deep([[{"a": [1, 2]}]], 4)
    assert is_too_deep([[{"a": [1, 2]}]], 3)
    assert not is_too_deep("[[[[", 0)


def test_most_values_have_to_be_there() -> None:
    require_filled(1_000_000, 1, 1)
    require_filled(1_000, 1_000, 0)
    require_filled(100_000, 1_000, 2_000_000)
    with pytest.raises(UnreadableTable, match="100,000 rows and 1,000 columns with only 90,000"):
        require_filled(100_000, 1_000, 90_000)
