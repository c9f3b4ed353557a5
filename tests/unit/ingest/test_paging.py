"""Which rows of a table have come, over pages that may overlap."""

import random

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.paging import Collection, Read


def page(*values: str) -> pd.DataFrame:
    return pd.DataFrame({"x": values}, dtype=object)


def read(*pages: str, total: int | None = None, ended: bool = True) -> Read:
    return Read([page(*values) for values in pages], total, ended=ended)


def collected(*reads: Read) -> Collection:
    collection = Collection()
    for each in reads:
        collection.add(each)
    return collection


def values(collection: Collection) -> str:
    return "".join(sorted(collection.rows["x"]))


def test_equal_rows_of_different_pages_are_one_row() -> None:
    found = collected(read("abc", "cad", total=6))
    assert (values(found), found.missing, found.is_final) == ("abcd", 2, False)


def test_equal_rows_of_one_page_are_two_rows() -> None:
    found = collected(read("aab", "cd", total=5))
    assert (values(found), found.missing, found.is_final) == ("aabcd", 0, True)


def test_further_reads_fill_what_is_missing() -> None:
    found = collected(read("abc", "cad", total=6), read("efab", "cd", total=6))
    assert (values(found), found.missing, found.is_final) == ("abcdef", 0, True)


def test_reads_in_a_fixed_order_say_what_the_table_is() -> None:
    found = collected(read("abc", "cad", total=7), read("ab", "cc", "ad", total=7))
    assert (values(found), found.missing, found.is_final) == ("aabccd", 1, True)


def test_reads_with_pages_of_the_same_length_prove_no_order() -> None:
    found = collected(read("abc", "cad", total=6), read("abc", "cad", total=6))
    assert (values(found), found.is_final) == ("abcd", False)


def test_without_a_total_repeated_rows_tell_of_missing_ones() -> None:
    assert collected(read("abc", "cad")).missing == 2
    assert collected(read("abc", "cad", ended=False)).missing == 0


def test_rows_beyond_the_total_count() -> None:
    more = read("abc", "def", total=3)
    more.total_is_wrong = True
    assert collected(more).missing == 0
    assert collected(read("abc", "cde", total=3)).missing == 0


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20),
    st.integers(1, 7),
    st.integers(0, 1_000),
)
def test_no_row_comes_more_often_than_the_table_holds_it(
    table: list[str], size: int, seed: int
) -> None:
    """Each page is cut from another order of the table."""
    order = random.Random(seed)  # noqa: S311
    collection = Collection()
    for _ in range(5):
        pages = [
            "".join(order.sample(table, len(table))[offset : offset + size])
            for offset in range(0, len(table), size)
        ]
        collection.add(read(*pages, total=len(table)))
        found = values(collection)
        assert all(found.count(value) <= table.count(value) for value in found)
        assert len(found) + collection.missing == len(table)
