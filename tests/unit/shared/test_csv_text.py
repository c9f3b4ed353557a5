"""CSV: separators, names, and what a stray quote may cost."""

import csv
import io
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.tables import csv_text
from shared.tables.content import UnreadableTable
from shared.tables.csv_text import CsvText, Row


def rows_of(*blocks: str) -> list[Row]:
    source = CsvText(iter(blocks))
    return [row for piece in source.pieces() for row in source.rows_of(piece)]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a,b", ["a", "b"]),
        ("a;b", ["a", "b"]),
        ("a\tb", ["a", "b"]),
        ("a", ["a"]),
        ('"x, y, z";b', ["x, y, z", "b"]),
        ("price (EUR, net);amount;tax", ["price (EUR, net)", "amount", "tax"]),
        ("a;b,c", ["a;b", "c"]),
        (' a ," b ', ["a", '" b']),
        ('"two\nlines",b', ["two\nlines", "b"]),
        (",a,", ["Unnamed: 0", "a", "Unnamed: 2"]),
        ("\ufeffa,b\ufeff", ["a", "b"]),
        ("sep=;\r\na,x;b", ["a,x", "b"]),
        ('"sep=|"\n\na|b', ["a", "b"]),
        ("SEP=;\na,x;b", ["a,x", "b"]),
        ("sep=\t\na\tb", ["a", "b"]),
        ("sep=x,b", ["sep=x", "b"]),
        ("sep=^\na^b", ["a", "b"]),
        ("sep=§\n", ["sep=§"]),
    ],
)
def test_headers(header: str, names: list[str]) -> None:
    assert CsvText(iter([f"\r\n{header}\n1\n"])).names == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty, without even a header"),
        ("\n\r\n", "empty, without even a header"),
        ("a,b, a\n", "two columns named 'a'"),
        ("Unnamed: 1,\n", "two columns named 'Unnamed: 1'"),
        ("a\0,\0b\0", "the character 0"),
    ],
)
def test_what_is_no_header(text: str, said: str) -> None:
    with pytest.raises(UnreadableTable, match=said):
        CsvText(iter([text]))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # quotes as they should be
        ('1,"x, y",3\n', [["1", "x, y", "3"]]),
        ('1,"two\nlines",3\r\n', [["1", "two\nlines", "3"]]),
        ('1,"say ""hi""",3\n', [["1", 'say "hi"', "3"]]),
        ('1,5" pipe,3\n', [["1", '5" pipe', "3"]]),
        # one that is not closed in its line, and closes nowhere
        ('1,"x,3\n4,5,6\n7,8,9\n', [["1", '"x', "3"], ["4", "5", "6"], ["7", "8", "9"]]),
        # one that meets the next opening quote
        ('1,"x,3\n4,"5",6\n', [["1", '"x', "3"], ["4", "5", "6"]]),
        # one that meets a quote which closes, in a row that is then too short or too long
        ('1,"x,3\n4,5"\n7,8,9\n', [["1", '"x', "3"], ["4", '5"'], ["7", "8", "9"]]),
        # one that would swallow whole rows although the row has the right length
        ('1,2,"x\n4,5,6\n7,8,x"\n', [["1", "2", '"x'], ["4", "5", "6"], ["7", "8", 'x"']]),
        # something behind the closing quote
        ('1,"a" inch,3\n4,5,6\n', [["1", '"a" inch', "3"], ["4", "5", "6"]]),
        # a stray quote before a value of several lines
        ('1,"x,3\n4,"two\nlines",6\n', [["1", '"x', "3"], ["4", "two\nlines", "6"]]),
    ],
)
@pytest.mark.parametrize("block", ["whole", "lines"])
def test_quotes(text: str, rows: list[Row], block: str) -> None:
    blocks = io.StringIO("a,b,c\n" + text, newline="").readlines() if block == "lines" else None
    assert rows_of(*(blocks or ["a,b,c\n" + text])) == rows


@pytest.mark.parametrize("end", ["", ",,\n", ",,\r\n,,", " ,\t,\n\n,,\n" * 9, '"",,\n,,\n'])
@pytest.mark.parametrize("last", ["4,5,\n", '"4",5,\n', '4,5,"\n"\n'])
def test_rows_without_a_value_are_none_at_the_end(end: str, last: str) -> None:
    text = "a,b,c\n1,2,3\n,,\n" + last + end
    whole = rows_of(text)
    assert [row[:2] for row in whole] == [["1", "2"], ["", ""], ["4", "5"]]
    assert rows_of(*io.StringIO(text, newline="").readlines()) == whole


def test_a_cell_may_be_larger_than_pythons_csv_reader_likes() -> None:
    assert rows_of("a,b\n" + "x" * 500_000 + ",1\n") == [["x" * 500_000, "1"]]


def test_values_of_trailing_columns_without_a_name_may_be_left_out() -> None:
    source = CsvText(iter(["a,b,,\n"]))
    assert [source.fault(values) for values in range(1, 6)] == [
        "fewer values than columns",
        None,
        None,
        None,
        "more values than columns",
    ]


@pytest.mark.parametrize(
    "line",
    ['"x,1,2\n', 'x","y",2\n', 'x,"""y,2\n', '"\n', ',"",",\n', '"a\n"b\n', 'x,"y\nz,"', '"" "'],
)
def test_the_time_grows_with_the_size_whatever_the_quotes(line: str) -> None:
    """A rule that reads the rest of the file again for each quote would take minutes."""
    text = "a,b,c\n" + line * (300_000 // len(line))
    began = time.process_time()
    rows_of(text)
    assert time.process_time() - began < 10


@settings(deadline=None)
@given(
    text=st.text(st.sampled_from('ab,"\n'), max_size=40),
    ends=st.sets(st.integers(0, 40), max_size=4),
)
def test_no_row_is_eaten(text: str, ends: set[int]) -> None:
    """Rows and blocks come whatever the quotes are; rows that are well quoted come as they are."""
    whole = "h,i,j\n" + text
    lines = io.StringIO(whole, newline="").readlines()
    cuts = [0, *sorted(end for end in ends if end < len(lines)), len(lines)]
    blocks = ["".join(lines[a:b]) for a, b in pairwise(cuts)]
    found = rows_of(*filter(None, blocks))
    assert rows_of(whole) == found
    values = "".join("".join(row) for row in found)
    assert sorted(values.replace('"', "").replace(",", "").replace("\n", "")) == sorted(
        text.replace('"', "").replace(",", "").replace("\n", "")
    )
    strict = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        expected = [row for row in strict if row]
        while expected and not any(value.strip(" \t\n") for value in expected[-1]):
            expected.pop()
    except csv.Error:
        return
    if all(len(row) == 3 for row in expected) and not any("\n" in "".join(r) for r in expected):
        assert found == expected


def test_text_of_which_every_line_is_a_row_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that Arrow can read it, which is faster."""
    monkeypatch.setattr(csv_text.CsvText, "_rows", None)
    text = 'a,b\n"x, y",1\n"say ""hi""",\n'
    assert list(CsvText(iter([text])).pieces()) == ['"x, y",1\n"say ""hi""",\n']
