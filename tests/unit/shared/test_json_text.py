"""JSON: which forms are tables."""

import json
from typing import Any

import pytest

from shared.tables.content import UnreadableTable
from shared.tables.json_text import json_pieces

ROWS = [{"a": 1}, {"a": 2}]
ANSWER = {"status": "ok", "total": 2, "records": ROWS}


def read(*blocks: str) -> list[Any]:
    """The rows, of lines those that are JSON."""
    found: list[Any] = []
    for piece in json_pieces(iter(blocks), json.JSONDecoder()):
        found += map(json.loads, piece.split()) if isinstance(piece, str) else piece
    return found


@pytest.mark.parametrize("value", [ROWS, ANSWER])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_document_may_be_one_line_or_many(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert read(text) == read(f"\n {text}\n\n") == ROWS
    lines = text.splitlines(keepends=True)
    assert read(*lines) == ROWS


def test_lines_of_objects() -> None:
    assert read('{"a":1}\n{"a":2}\n') == read('{"a":1}\n', "\n", '{"a":2}\n') == ROWS


def test_one_object_is_one_row() -> None:
    assert read('{"a": 1}') == read('{\n"a": 1\n}\n') == [{"a": 1}]


def test_a_row_may_have_a_column_named_records() -> None:
    assert read('{"records": 1}') == [{"records": 1}]
    assert read('{"records":[{"a":1}]}\n{"records":[]}\n') == [
        {"records": [{"a": 1}]},
        {"records": []},
    ]


def test_no_rows() -> None:
    assert read("[]") == read('{"records": []}') == []


def test_one_line_with_a_comma_or_the_character_0_spoils_itself_alone() -> None:
    for first in ('{"a": 0},', '{"a": "\0"}'):
        text = f'{first}\n{{"a":1}}\n{{"a":2}}\n'
        assert list(json_pieces(iter([text]), json.JSONDecoder())) == [text]


def test_values_that_are_no_objects_come_as_they_are() -> None:
    assert read('[{"a": 1}, 2]') == [{"a": 1}, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("7", "not a JSON list of objects, an object with such a list under 'records', or lines"),
        ("[1, 2]", "not a JSON list of objects"),
        ('"a"', "not a JSON list of objects"),
        ('{"a": ', "not JSON: "),
        ('[{"a": 1}', "not JSON: "),
        (
            '{"a": 1},\n{"a": 2},\n',
            "lines of JSON objects that end with a comma; remove the commas",
        ),
        ('{"a": 1},\n{"a": 2},\n{"a": 3}', "lines of JSON objects that end with a comma"),
        ('[\n{"a": 1},\n{"a": 2},\n{"a": 3},\n{"a"', "not JSON: "),
        ('{\0"\0a\0"\0:\0 \x001\0}\0\n\0', "not JSON: it holds the character 0; if it is UTF-16"),
        (
            '{"a": [1, 2], "b": ["x", "y"]}',
            "not a JSON list of objects.*; it is one object of lists",
        ),
        ('{"data": [{"a": 1}, {"a": 2}]}', "it is one object of lists or objects"),
        ('{"0": {"a": 1}, "1": {"a": 2}}', "it is one object of lists or objects"),
        ("{" * 100_000, "not JSON: "),
        ("[" * 100_000, "not JSON: "),
    ],
)
def test_what_is_no_table(text: str, said: str) -> None:
    with pytest.raises(UnreadableTable, match=said):
        read(text)
