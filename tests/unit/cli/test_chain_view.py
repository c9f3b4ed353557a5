"""The tree of a chain: whatever a record holds, the terminal gets text."""

from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from services.cli.chain import Chain, Step
from services.cli.chain_view import chain_tree
from shared.events import IngestionDue, first_event_fields
from shared.outcome import record_fields
from shared.records import Batch
from tests.unit.cli.test_journal import NOW


def tree_of(text: str) -> str:
    due = IngestionDue(**first_event_fields("parcels", "slot", 1), slot=NOW)
    fields = record_fields(due, "ingest")
    record = Batch(**fields, outcome="nothing new", rows_received=3, source=text)
    step = Step("ingest", record.id, due, "done", record, remark=text)
    console = Console(file=StringIO(), width=200, color_system=None)
    console.print(chain_tree(Chain(due.trace_id, [step])))
    written = console.file
    assert isinstance(written, StringIO)
    return written.getvalue()


@given(st.text(max_size=60))
def test_no_text_from_outside_commands_the_terminal(text: str) -> None:
    written = tree_of(f"from {text}")
    assert "from " in written
    assert all(char.isprintable() or char == "\n" for char in written.replace("\u00a0", " "))


def test_an_escape_is_shown_and_not_obeyed() -> None:
    written = tree_of("\x1b]0;owned\x07\x1b[2J[red]no markup[/red]")
    assert "\x1b" not in written
    assert "[red]no markup[/red]" in written
