"""Tables that keep to the terminal's width and lose nothing."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from services.cli.listing import Listing, right


def rendered(listing: Listing, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(listing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_note_stands_below_its_row_and_has_the_whole_width() -> None:
    listing = Listing("model", right("MAE"))
    listing.add_row("v1", "6.5", notes=("a" * 70,))
    listing.add_row("v12", "12.25")
    lines = [line.rstrip() for line in rendered(listing)]
    assert lines == ["model    MAE", "v1       6.5", "    " + "a" * 70, "v12    12.25"]


def test_without_rows_a_sentence_takes_the_place_of_the_headings() -> None:
    assert rendered(Listing("model", title="Models", empty="no models yet")) == [
        "Models",
        "no models yet",
    ]


def test_a_cell_is_plain_text() -> None:
    listing = Listing("name")
    listing.add_row("[bold]x[/]")
    assert rendered(listing)[1].rstrip() == "[bold]x[/]"


words = st.text("abcdefghij0123456789é漢", min_size=1, max_size=60)


@given(
    st.lists(st.tuples(words, words, words, words), min_size=1, max_size=4),
    st.integers(40, 120),
)
def test_no_line_is_longer_than_the_terminal_and_no_letter_is_lost(
    rows: list[tuple[str, str, str, str]], width: int
) -> None:
    listing = Listing("a", right("b"), "c")
    for *cells, note in rows:
        listing.add_row(*cells, notes=(note,))
    lines = rendered(listing, width)
    assert max(map(cell_len, lines)) <= width
    shown = "".join(sorted("".join(lines).replace(" ", "")))
    assert shown == "".join(sorted("abc" + "".join("".join(row) for row in rows)))
