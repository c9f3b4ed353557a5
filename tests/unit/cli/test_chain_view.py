"""A chain as a tree: whole at any width, and with nothing in it that steers a terminal."""

from datetime import UTC, datetime, timedelta
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from services.cli.chain import Chain, Step, as_json
from services.cli.chain_view import chain_tree
from shared.events import IngestionDue, RollbackRequested, effect_id, first_event_fields
from shared.outcome import Handling
from shared.plain_text import visible
from shared.records import Batch, DeadLetter, Notification

NOW = datetime(2026, 1, 10, 9, tzinfo=UTC)
DUE = IngestionDue(
    **(first_event_fields("air_quality", "slot", 1) | {"occurred_at": NOW}), slot=NOW
)
BASE = {"pipeline": "air_quality", "trace_id": DUE.trace_id, "recorded_at": NOW}
INGEST = effect_id("ingest", DUE.event_id)
READ = Batch(
    **BASE,
    id=INGEST,
    outcome="nothing new",
    rows_received=3_300,
    source="file 1.csv",
    handled_seconds=0.25,
)


def reading(**changes: object) -> Step:
    known = {
        "stage": "ingest",
        "effect": INGEST,
        "event": DUE,
        "state": "done",
        "record": READ,
        "handling": Handling(event=DUE, attempt=1, begun_at=NOW + timedelta(seconds=2)),
        "attempts": 1,
    }
    return Step(**(known | changes))  # type: ignore[arg-type]


def shown(chain: Chain, width: int = 200) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=False)
    console.print(chain_tree(chain), highlight=False)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_reading_that_brought_nothing() -> None:
    said = shown(Chain(DUE.trace_id, [reading()])).splitlines()
    assert said[0] == f"Trace {DUE.trace_id}  pipeline air_quality"
    assert said[1] == "2026-01-10 09:00:02 UTC: file 1.csv, due 2026-01-10 09:00:00 UTC"
    event = f"ingest  IngestionDue {DUE.event_id[:8]}"
    assert said[2].replace("\u00a0", " ") == (f"└── 09:00:02  {event}  waited 2.00 s, took 0.25 s")
    assert said[3].strip() == "nothing new in 3,300 rows"


def test_tries_are_said_where_one_was_not_enough() -> None:
    said = shown(Chain(DUE.trace_id, [reading(attempts=3)]))
    assert "took 0.25 s, 3 tries" in said.replace("\u00a0", " ")


def test_another_day_is_said() -> None:
    letter = DeadLetter(
        **BASE | {"recorded_at": NOW + timedelta(days=1)},
        id="drift:0",
        stage="drift",
        kind="BatchIngested",
        reason="too late",
        message={},
        attempts=5,
    )
    late = Step("drift", "drift:0", None, "given up", letter, attempts=5)
    said = shown(Chain(DUE.trace_id, [reading(led_to=[late])]))
    assert "2026-01-11 09:00:00  drift  BatchIngested" in said
    assert "given up: too late" in said
    assert "trimtab dead-letters show drift:0" in said


def test_a_rollback_begins_with_the_person_who_asked_for_it() -> None:
    asked = RollbackRequested(
        **first_event_fields("air_quality", "rollback"), model_version=1, champion_version=3
    )
    chain = Chain(asked.trace_id, [Step("trainer", "trainer:0", asked, "queued", attempts=0)])
    assert "a person wants v1 back" in shown(chain)
    assert as_json(chain)["steps"][0]["handled_seconds"] is None


TEXTS = st.text(st.characters(), max_size=60)  # lone surrogates and controls too


@given(TEXTS, TEXTS, st.integers(40, 200), st.floats(0, 1e6), st.integers(1, 100))
def test_any_words_fit_any_width_and_steer_no_terminal(
    title: str, answer: str, width: int, seconds: float, attempts: int
) -> None:
    told = Notification(
        **BASE,
        id="notifier:0",
        title=title,
        text="",
        channels={"discord": answer},
        handled_seconds=seconds,
    )
    step = Step("notifier", "notifier:0", DUE, "done", told, attempts=attempts, remark=answer)
    waits = Step("drift", "drift:0", DUE, "waits", remark=answer)
    read = READ.model_copy(update={"source": title})
    said = shown(Chain(DUE.trace_id, [reading(record=read, led_to=[step, waits])]), width)
    assert visible(said) == said
    assert all(cell_len(line) <= width for line in said.splitlines())
    assert said.encode()
    if title.isalnum() and len(title) < width - 20 and title.isascii():
        assert title in said
