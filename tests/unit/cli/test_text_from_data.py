"""Text from data in every view: shown as it is, whatever it holds, and never markup."""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import RenderableType

from services.cli.chain import Chain, Step
from services.cli.chain_view import chain_tree
from services.cli.check_view import print_report
from services.cli.dead_letters import in_words as letters_in_words
from services.cli.journal import Line
from services.cli.listing import Listing, right
from services.cli.literal import Console, Text
from services.cli.model_comparison import compare
from services.cli.models_view import comparison_sheet, model_sheet, models_table
from services.cli.replay.memory_store import MemoryStore
from services.cli.replay.play import Played, Replayed
from services.cli.replay.view import batches_table as replayed_batches
from services.cli.replay.view import summary_table
from services.cli.rows_set_aside import RowsSetAside
from services.cli.rows_set_aside import in_words as rows_in_words
from services.cli.status_view import print_status
from services.cli.summary import batches_table, commits_table, references_table
from services.cli.terminal import fail
from services.cli.view import LiveView
from services.drift.report.model import ColumnRole, MissingRate, QuestionableColumn
from services.ingest.set_aside import RefusedRow
from shared.drift import CellFinding
from shared.plain_text import visible
from shared.records import (
    Batch,
    DeadLetter,
    DriftReport,
    ModelVersion,
    Publication,
    RetiredReference,
    SetAside,
)
from shared.training import Training
from tests.integration.publisher.promotions import model_version
from tests.unit.drift.sample_reports import bare
from tests.unit.publisher.evaluated import evaluated, segment

WIDE: Final = 4000
"""No text is folded, so each can be looked for."""
SHA: Final = "0" * 64
AT: Final = datetime(2026, 1, 10, 9, tzinfo=UTC)
TRAINING: Final = Training(target="y", task="regression", features=("x",))
BASE: Final[dict[str, Any]] = {"pipeline": "made", "trace_id": "0" * 32, "recorded_at": AT}
View = Callable[[Console, str], None]


def shown(view: View, text: str) -> str:
    """What a view with this text in all places that data fill prints to a terminal."""
    console = Console(file=io.StringIO(), width=WIDE)
    view(console, text)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def printed(*make: Callable[[str], RenderableType]) -> View:
    def view(console: Console, text: str) -> None:
        for each in make:
            console.print(each(text))

    return view


def report(text: str) -> DriftReport:
    return DriftReport(
        **BASE,
        id="drift:1",
        verdict="drift",
        needs_retraining=True,
        reason=text,
        p=0.0001,
        threshold=0.001,
        policy="calibrated",
        drift_score=0.6,
        feature_drifts={text: 0.6},
        feature_stats={},
        timestamp=AT,
        sequence=1,
        batch_id="x",
        batch_rows=10,
        reference_version=1,
        reference_rows=10,
    )


def batch(text: str) -> Batch:
    aside = SetAside(rows=1, reasons={text: 1})
    return Batch(
        **BASE,
        id="ingest:1",
        outcome="ingested",
        sequence=1,
        rows=10,
        rows_received=10,
        set_aside=aside,
        last_event_at=AT,
        source=text,
    )


def history(text: str) -> MemoryStore:
    store = MemoryStore()
    store.record(batch(text))
    store.record(report(text))
    metrics = evaluated(
        segment_column=text,
        segments=[segment(text, 30)],
        feature_importance={text: 1.0},
        parameters={text: text},
    )
    for version in (1, 2):
        store.record(model_version(version, pipeline="made", reason=text, metrics=metrics))
    store.record(
        Publication(
            **BASE,
            id="publisher:1",
            model_version=1,
            commit="c0ffee",
            branch=text,
            tag=text,
            repository=text,
            url=text,
        )
    )
    store.record(
        RetiredReference(
            **BASE,
            id="drift:0",
            version=1,
            data=SHA,
            rows=10,
            timestamp=AT,
            drift_score=0.6,
            feature_drifts={text: 0.6},
        )
    )
    return store


def two_models(text: str) -> RenderableType:
    store = history(text)
    first, second = store.find(ModelVersion, {}, oldest_by="version")
    return comparison_sheet(compare(first, second, store))


def one_model(text: str) -> RenderableType:
    store = history(text)
    model = store.newest(ModelVersion, {}, "version")
    assert model
    return model_sheet(model, "champion", store.newest(Publication, {}, "recorded_at"))


def letter(text: str) -> DeadLetter:
    return DeadLetter(
        **BASE, id="drift:2", stage="drift", kind=text, reason=text, message={}, attempts=2
    )


def chain(text: str) -> RenderableType:
    given_up = Step("drift", "drift:2", None, "given up", letter(text), remark=text)
    read = Step("ingest", "ingest:1", None, "done", batch(text), led_to=[given_up])
    return chain_tree(Chain("0" * 32, [read]))


def replayed(text: str) -> list[Replayed]:
    played = Played(
        file=text,
        rows=10,
        error=1.5,
        drift=True,
        p=0.1,
        trained=True,
        promoted=False,
        reason=text,
        published_bytes=0,
    )
    return [Replayed(text, "mae", (played,))]


def check(console: Console, text: str) -> None:
    cell = CellFinding(
        kind="category",
        column=text,
        other_column=text,
        segment=text,
        p=0.0001,
        effect=0.5,
        speaks=True,
        direction=text,
        reference_rows=10,
        current_rows=10,
    )
    found = bare(
        name=text,
        verdict="drift",
        reason=text,
        cells=[cell],
        new_categories={text: {text: 3}},
        columns=[ColumnRole(name=text, type="category", role="compared", inferred=True, note=text)],
        questionable_columns=[QuestionableColumn(name=text, done="left out", why=text)],
        missing_rates={text: MissingRate(reference=0.1, current=0.2)},
        assumptions=[text],
    )
    print_report(console, found)


def status(console: Console, text: str) -> None:
    part = {"alive": True, "seconds_ago": 1.0, "workers": {text: 1.0, f"{text}2": 2.0}}
    pipeline = {
        "batch": 1,
        "checked": 1,
        "reference": 1,
        "champion": 1,
        "decision": text,
        "remark": text,
        "sentences": [text],
        "attention": [text],
        "next_due": None,
    }
    state = {
        "parts": {text: part},
        "queues": {},
        "pipelines": {text: pipeline},
        "work": {"leases": 0, "waiting": 0, "later": 0, "left": 0},
        "unsent": {"records": 0},
        "problems": [text],
        "attention": [text],
    }
    print_status(console, state)


def live(console: Console, text: str) -> None:
    with LiveView(console) as view:
        view.step(text)
        view.say(Line("drift", text, "yellow", text))


def refused_rows(text: str) -> str:
    row = RefusedRow(text, text, text, text, {text: text})
    return rows_in_words(RowsSetAside(batch(text), [row]))


def listing(text: str) -> Listing:
    table = Listing(text, right(text), title=text)
    table.add_row(text, Text(text, "bold"), notes=(text,))
    return table


VIEWS: Final[dict[str, View]] = {
    "a listing": printed(listing),
    "history": printed(
        lambda text: batches_table(history(text), "made"),
        lambda text: references_table(history(text), "made"),
    ),
    "models": printed(
        lambda text: models_table(
            history(text), "made", Training(target="y", task="regression", features=("x",))
        ),
        lambda text: commits_table(history(text), "made"),
    ),
    "one model": printed(one_model),
    "two models": printed(two_models),
    "one chain": printed(chain),
    "dead letters": printed(lambda text: letters_in_words([letter(text)])),
    "rows set aside": printed(refused_rows),
    "replay": printed(
        lambda text: replayed_batches(replayed(text)), lambda text: summary_table(replayed(text))
    ),
    "check": check,
    "status": status,
    "live": live,
}

ODD: Final = (
    "[/b]",
    "[red]x[/red]",
    "[link=https://example.org]x[/link]",
    "[bold",
    "\\[x]",
    ":smile:",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;https://example.org\x1b\\x",
    "a\rb\tc\x08d\x07e\x00f",
    "a\nb",
    "a\u202eb\u2066c",
    "a\u2028b\x85c",
    "a\u200bb",
    "e\u0301\u0302",
    "\U0001f469\u200d\U0001f4bb",
    "100 %s {x} {0} $x",
    "<script>x</script>",
    "  x ",
    "",
)
TEXTS: Final = st.text(
    st.characters(codec="utf-8") | st.sampled_from("[]/\\:\x1b\n\r\t\u202e="), max_size=14
)


def require_as_it_is(text: str, output: str) -> None:
    """Each word stands there, what steers a terminal as its escape, and nothing steers it."""
    assert visible(output) == output
    missing = [word for word in visible(text).split() if word not in output]
    assert not missing, output


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("text", ODD)
def test_odd_texts(name: str, text: str) -> None:
    require_as_it_is(text, shown(VIEWS[name], text))


@pytest.mark.parametrize("name", VIEWS)
@settings(max_examples=25, deadline=None)
@given(text=TEXTS)
def test_any_text(name: str, text: str) -> None:
    require_as_it_is(text, shown(VIEWS[name], text))


@given(st.text(st.characters()))
def test_only_what_steers_is_written_otherwise(text: str) -> None:
    escaped = visible(text)
    assert len(escaped.encode()) >= len(text)
    assert visible(escaped) == escaped
    if text.isprintable():
        assert escaped == text


@pytest.mark.parametrize("text", [*ODD, "\ud800x\udfff"])
def test_an_error_about_a_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(text)
    require_as_it_is(text, capsys.readouterr().err)
