"""The commands against a store and a broker that run: what they print, and what they leave."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.cli.main import app
from shared.events import IngestionDue, first_event_fields
from shared.failures import WillNotPass
from shared.outcome import Outcome
from shared.records import Batch, DeadLetter
from shared.stage import Resources, StageRuntime
from tests.integration.cli.conftest import PARCELS, Run


def as_json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_ingest_keeps_a_batch_and_sends_it_on(run: Run, resources: Resources) -> None:
    done = run("ingest", str(PARCELS / "batches" / "1.csv"), "--no-wait")
    assert done.exit_code == 0, done.output
    assert "batch 1: " in done.stdout
    assert resources.broker.queue_lengths()["drift"] == 1


def test_ingest_as_json(run: Run) -> None:
    batch = as_json(run("ingest", str(PARCELS / "batches" / "1.csv"), "--json", "--no-wait"))
    assert (batch["outcome"], batch["sequence"], batch["as_reference"]) == ("ingested", 1, False)
    assert batch["source"] == "file 1.csv"


def test_reference_set_marks_the_batch(run: Run) -> None:
    path = str(PARCELS / "reference.csv")
    assert (
        as_json(run("reference", "set", path, "--because", "a test", "--json", "--no-wait"))[
            "as_reference"
        ]
        is True
    )


def test_ingest_of_a_missing_file_is_refused(run: Run) -> None:
    done = run("ingest", "no-such.csv")
    assert isinstance(done.exception, WillNotPass)
    assert "no-such.csv" in str(done.exception)


def test_unknown_pipeline_lists_those_there_are(run: Run) -> None:
    done = run("history", "--pipeline", "other")
    assert isinstance(done.exception, WillNotPass)
    assert "parcels" in str(done.exception)


def test_history_of_a_new_system_is_empty(run: Run) -> None:
    assert as_json(run("history", "--json")) == {
        "drift_reports": [],
        "reference_data_history": [],
    }
    assert "Batches" in run("history").stdout
    assert as_json(run("models", "--json")) == []
    assert "Models" in run("models").stdout


def test_history_lists_a_batch_that_waits(run: Run) -> None:
    run("ingest", str(PARCELS / "batches" / "1.csv"))
    assert "waits" in run("history").stdout


@pytest.fixture
def letter(resources: Resources) -> DeadLetter:
    """An event that the ingest stage gave up on."""

    def refuse(_event: IngestionDue, _resources: Resources) -> Outcome:
        raise WillNotPass("the key is wrong")

    slot = datetime(2026, 1, 1, tzinfo=UTC)
    event = IngestionDue(**first_event_fields("parcels", "slot", slot), slot=slot)
    StageRuntime("ingest", resources).handle(event.model_dump(mode="json"), refuse)
    (letter,) = resources.store.find(DeadLetter, {})
    return letter


def test_dead_letters_are_listed_and_shown(run: Run, letter: DeadLetter) -> None:
    (listed,) = as_json(run("dead-letters", "list", "--json"))
    assert listed["reason"] == "the key is wrong"
    assert "the key is wrong" in " ".join(run("dead-letters", "list").stdout.split())
    assert as_json(run("dead-letters", "show", letter.id))["kind"] == "IngestionDue"


def test_replayed_dead_letter_is_handled_again(
    run: Run, letter: DeadLetter, resources: Resources
) -> None:
    assert run("dead-letters", "replay", letter.id).exit_code == 0
    assert resources.broker.queue_lengths()["ingest"] == 1
    assert as_json(run("dead-letters", "list", "--json")) == []
    handled: list[str] = []

    def accept(event: IngestionDue, _resources: Resources) -> Outcome:
        handled.append(event.event_id)
        from shared.outcome import record_fields

        fields = record_fields(event, "ingest")
        return Outcome(Batch(**fields, outcome="nothing new", rows_received=0, source="a test"))

    StageRuntime("ingest", resources).handle(letter.message, accept)
    assert handled == [letter.message["event_id"]]
    assert resources.work.all() == []


def test_dead_letter_is_replayed_once(run: Run, letter: DeadLetter) -> None:
    assert run("dead-letters", "replay", "all").exit_code == 0
    again = run("dead-letters", "replay", letter.id)
    assert "was replayed before" in str(again.exception)


def test_replaying_all_passes_over_what_is_no_event(
    run: Run, letter: DeadLetter, resources: Resources
) -> None:
    """Anybody who can write to the broker can make such a letter."""
    runtime = StageRuntime("drift", resources)
    for number in range(2):
        runtime.bury_foreign(f"forged {number}", "a test")
    done = run("dead-letters", "replay", "all")
    assert done.exit_code == 1
    assert f"sent again: {letter.id}" in " ".join(done.stdout.split())
    assert done.stdout.count("not sent: ") == 2
    assert resources.broker.queue_lengths()["ingest"] == 1


def test_dismissed_dead_letter_is_closed_and_can_be_replayed(run: Run, letter: DeadLetter) -> None:
    assert "dismissed" in run("dead-letters", "dismiss", letter.id, "--because", "a test").stdout
    assert as_json(run("dead-letters", "list", "--json")) == []
    assert "was dismissed before" in str(
        run("dead-letters", "dismiss", letter.id, "--because", "a test").exception
    )
    assert run("dead-letters", "replay", letter.id).exit_code == 0


def test_unknown_dead_letter_says_so(run: Run) -> None:
    assert "no dead letter 'x'" in str(run("dead-letters", "show", "x").exception)


def test_unreadable_message_cannot_be_replayed(run: Run, resources: Resources) -> None:
    StageRuntime("ingest", resources).handle({"type": "Unheard"}, lambda *_: None)  # type: ignore[arg-type, return-value]
    (letter,) = resources.store.find(DeadLetter, {})
    assert "cannot be replayed" in str(run("dead-letters", "replay", letter.id).exception)


@pytest.mark.parametrize(
    "command",
    [
        [],
        *(
            [name]
            for name in ("demo", "up", "down", "ingest", "status", "history", "models", "report")
        ),
        ["reference", "set"],
        ["feed", "simulate"],
        ["feed", "replay"],
        *(["dead-letters", name] for name in ("list", "show", "replay", "dismiss")),
        *(["models", name] for name in ("show", "compare", "load", "reproduce")),
        ["rollback"],
        ["replay"],
    ],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_it_tells_its_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output == f"trimtab {version('trimtab')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_complete(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    done = CliRunner().invoke(app, ["--show-completion"], prog_name="trimtab")
    assert done.exit_code == 0
    assert "_TRIMTAB_COMPLETE" in done.output
