"""Every view keeps to 80 columns, with long names and reasons, and shows all of them."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from services.cli.model_comparison import compare
from services.cli.models_view import comparison_sheet
from services.cli.replay.play import Played, Replayed
from services.cli.replay.view import batches_table, summary_table
from services.cli.terminal import console
from shared.events import STAGES
from shared.records import (
    Batch,
    DeadLetter,
    DriftReport,
    Publication,
    Reference,
    RetiredReference,
    SetAside,
)
from shared.stage import Resources
from shared.store import Store
from tests.integration.cli.conftest import PARCELS, Run
from tests.integration.publisher.promotions import model_version
from tests.unit.publisher.evaluated import evaluated, segment

WIDTH = 80
NAME = "a_pipeline_whose_name_has_40_characters_"
COLUMN = "a column whose name has forty characters"
BRANCH = "releases/of/the/model/that/is/this/long/"
REASON = f"the reason begins here, {'is long, ' * 30}names {COLUMN}, and ends here"
URL = f"https://git.example.org/{'team/' * 6}models/commit/{'c0ffee' * 6}1234"
SHA = "0" * 64
AT = datetime(2026, 1, 10, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def long_names(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline with a long name, and a terminal of 80 columns."""
    assert len(NAME) == len(COLUMN) == len(BRANCH) == 40
    definition = yaml.safe_load((PARCELS / "parcels.yaml").read_text())
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "long.yaml").write_text(yaml.safe_dump(definition | {"name": NAME}))
    file = home / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"PIPELINES": str(folder)}))
    monkeypatch.setattr(console, "_width", WIDTH)


def fields(stage: str, number: int) -> dict[str, Any]:
    return {
        "_id": f"{stage}:{number:032}",
        "pipeline": NAME,
        "trace_id": f"{number:032}",
        "recorded_at": AT + timedelta(hours=number),
    }


def require_fits(output: str, *values: str) -> None:
    """No line is longer than the terminal, and each value is there, folded or not.

    Of a folded cell the parts stand beside other cells, so its letters are looked for in order.
    """
    lines = output.splitlines()
    assert [line for line in lines if cell_len(line) > WIDTH] == []
    for value in values:
        letters = iter(output)
        assert all(letter in letters for letter in "".join(value.split())), (value, output)


def shown(renderable: Any) -> str:
    file = io.StringIO()
    Console(file=file, width=WIDTH).print(renderable)
    return file.getvalue()


@pytest.fixture
def history(resources: Resources) -> Store:
    """Large figures, long reasons."""
    store = resources.store
    for number in (1_234_567, 1_234_568):
        store.record(
            Batch(
                **fields("ingest", number),
                outcome="ingested",
                sequence=number,
                rows=12_345_678,
                rows_received=12_345_678,
                set_aside=SetAside(rows=1_234_567, reasons={REASON: 1_234_567}),
                last_event_at=AT,
                source="a test",
            )
        )
        store.record(
            DriftReport(
                **fields("drift", number),
                verdict="drift",
                needs_retraining=True,
                reason=REASON,
                p=3.2e-8,
                threshold=0.00025,
                policy="calibrated",
                drift_score=0.6,
                feature_drifts={COLUMN: 0.6},
                feature_stats={},
                timestamp=AT,
                sequence=number,
                batch_id="x",
                batch_rows=12_345_678,
                reference_version=12,
                reference_rows=12_345_678,
                incident=1_234_567,
            )
        )
    store.record(
        Reference(
            **fields("drift", 3), version=12, data=SHA, rows=10, up_to_sequence=3, model_version=1
        )
    )
    store.record(
        RetiredReference(
            **fields("drift", 4),
            version=11,
            data=SHA,
            rows=12_345_678,
            timestamp=AT,
            drift_score=0.6,
            feature_drifts={f"{COLUMN}{n}": 0.6 for n in range(3)},
        )
    )
    figures = {"mae": 123_456.789, "r2_score": -12_345.678}
    for version, decision in ((1234, "promoted"), (1235, "promoted"), (1236, "rejected")):
        model = model_version(
            version,
            id=f"trainer:{version:032}",
            pipeline=NAME,
            decision=decision,
            reason=REASON,
            restores=1233 if version == 1235 else None,
            metrics=evaluated(
                **figures,
                segment_column=COLUMN,
                champion={"version": 1234, **figures},
                segments=[segment(COLUMN, 1_234_567), segment("x" * 40, 3)],
            ),
            sequence=1_234_567,
        )
        store.record(model)
        if decision == "promoted":
            store.record(
                Publication(
                    **fields("publisher", version),
                    model_version=version,
                    commit="c0ffee" * 6 + "1234",
                    branch=BRANCH,
                    tag=f"{NAME}/v{version}",
                    repository="/models.git",
                    url=URL,
                )
            )
    store.record(
        DeadLetter(
            **fields("notifier", 9),
            stage="notifier",
            kind="RetrainRequested",
            reason=REASON,
            message={},
            attempts=8,
        )
    )
    return store


def test_history(run: Run, history: Store) -> None:
    output = run("history").stdout
    require_fits(output, REASON, "1234567", "12,345,678", "drift → retrain", f"{COLUMN}2 0.60")


def test_models(run: Run, history: Store) -> None:
    output = run("models").stdout
    require_fits(output, REASON, "v1234", "former champion", URL, "c0ffeec0ff", "restores v1233")


def test_one_model(run: Run, history: Store) -> None:
    require_fits(run("models", "show", "1236").stdout, NAME, REASON, COLUMN, "x" * 40)


def test_two_models(history: Store) -> None:
    from shared.records import ModelVersion

    first, second = (
        history.newest(ModelVersion, {"version": version}, "version") for version in (1234, 1236)
    )
    assert first
    assert second
    require_fits(shown(comparison_sheet(compare(first, second, history))), COLUMN, "x" * 40)


def test_dead_letters(run: Run, history: Store) -> None:
    require_fits(run("dead-letters", "list").stdout, f"notifier:{9:032}", NAME, REASON)


def test_one_chain(run: Run, history: Store) -> None:
    output = run("history", "show", f"trainer:{1236:032}").stdout
    require_fits(output.replace("│", "").replace("├──", "").replace("└──", ""), NAME)


def test_status(run: Run, resources: Resources, history: Store) -> None:
    workers = [f"ingest@a-host-whose-name-is-rather-long-{n}.example.org" for n in range(2)]
    for part in (*workers, *(f"{stage}@a" for stage in STAGES), "beat", "sweep"):
        resources.broker.note_alive(part)
    output = run("status").stdout
    require_fits(output, NAME, REASON, "v1235", "dead letters: 1", workers[1], "drift: p = 3.2e-8")


def test_a_file_taken_in_by_hand(run: Run) -> None:
    require_fits(run("ingest", str(PARCELS / "batches" / "1.csv")).stdout, NAME)


def test_replay() -> None:
    names = [f"{NAME[:38]}{number:02}" for number in range(7)]
    batches = tuple(
        Played(
            file=f"{COLUMN}.csv",
            rows=12_345_678,
            error=123_456.789,
            drift=True,
            p=0.1,
            reason=REASON,
            trained=True,
            promoted=False,
            published_bytes=0,
        )
        for _ in range(3)
    )
    replayed = [Replayed(name, "mae", batches) for name in names]
    require_fits(shown(batches_table(replayed)), COLUMN, "12,345,678", "123456.789 r")
    require_fits(shown(summary_table(replayed)), *names, "123456.789")


def test_nothing_yet(run: Run) -> None:
    assert "No batches yet." in run("history").stdout
    assert "None was replaced yet." in run("history").stdout
    assert "No models yet." in run("models").stdout
    assert "No commits yet." in run("models").stdout
    assert "no dead letters" in run("dead-letters", "list").stdout
    said = " ".join(run("status").stdout.split())
    assert "No batches yet. `trimtab ingest FILE` or `trimtab reference set FILE` makes" in said
