"""The three sentences at the end of the demo, from the records."""

import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from services.cli.summary import demo_summary, moved_most, story
from shared.drift import CellFinding
from shared.records import Batch, DriftReport
from shared.stage import Resources
from shared.store import Store
from tests.integration.publisher.promotions import model_version
from tests.unit.drift import sample_reports

AT = datetime(2026, 1, 10, 9, tzinfo=UTC)
NAME = "air_quality"


def fields(stage: str, number: int) -> dict[str, Any]:
    return {
        "_id": f"{stage}:{number}",
        "pipeline": NAME,
        "trace_id": f"{number:032}",
        "recorded_at": AT + timedelta(hours=number),
    }


def cell(column: str, effect: float, p: float) -> CellFinding:
    (first, *_) = sample_reports.air_quality().cells
    changes = {"column": column, "segment": None, "other_column": None, "kind": first.kind}
    moved = {"effect": effect, "p": p, "speaks": True, "direction": f"median 1 → {effect}, so"}
    return first.model_copy(update=changes | moved)


def check(store: Store, number: int, cells: tuple[CellFinding, ...] = ()) -> DriftReport:
    full = sample_reports.air_quality().model_copy(update={"cells": list(cells)})
    record = DriftReport(
        **fields("drift", number),
        verdict="drift" if cells else "no drift",
        needs_retraining=bool(cells),
        reason="it drifted",
        p=0.0 if cells else 0.5,
        threshold=0.00025,
        policy="calibrated",
        drift_score=0.6,
        feature_drifts={},
        feature_stats={},
        timestamp=AT,
        sequence=number,
        batch_id="x",
        batch_rows=840,
        reference_version=1,
        reference_rows=840,
        details=store.put_blob(gzip.compress(full.model_dump_json().encode())),
    )
    store.record(record)
    store.record(
        Batch(
            **fields("ingest", number), outcome="ingested", sequence=number, rows=840,
            rows_received=840, last_event_at=AT + timedelta(hours=number), source="a test",
        )
    )  # fmt: skip
    return record


def model(store: Store, version: int, sequence: int, **changes: Any) -> None:
    store.record(model_version(version, sequence=sequence, **changes))


def metrics(version: int, difference: float) -> dict[str, Any]:
    made = model_version(version).metrics
    return made | {"comparison": {"relative_difference": difference}}


@pytest.fixture
def played(store: Store) -> Store:
    """The history of the demo."""
    for number in range(1, 6):
        check(store, number)
    check(store, 6, (cell("SO2", 0.3, 1e-20), cell("PM2.5", 0.6, 1e-17)))
    check(store, 7, (cell("averages", 0.4, 1e-30),))
    model(store, 1, 1, champion_version=None)
    model(store, 2, 6, champion_version=1, metrics=metrics(2, -0.431))
    rejected = {"decision": "rejected", "reason": "no better", "metrics": metrics(3, 0.06)}
    model(store, 3, 7, champion_version=2, **rejected)
    return store


def test_it_is_told_in_three_sentences(played: Store) -> None:
    told = [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in story(played, NAME)]
    assert told == [
        "1. 5 of 7 batches show no drift, so no model is trained for them.",
        "2. Batch 6 has changed most in PM2.5 (median 1 → 0.6): model v2, whose error on the same "
        "rows is 43 % lower, replaces v1.",
        "3. Batch 7 has changed most in averages (median 1 → 0.4): the gate rejects model v3, "
        "whose error on the same rows is 6 % higher, and v2 stays the champion.",
    ]


def test_a_rejection_in_spite_of_a_lower_error_is_told_without_the_error(store: Store) -> None:
    check(store, 1, (cell("SO2", 0.3, 1e-20),))
    model(store, 1, 1, champion_version=None)
    model(store, 2, 1, champion_version=1, decision="rejected", metrics=metrics(2, -0.1))
    assert story(store, NAME)[2] == (
        "3. Batch 1 has changed most in SO2 (median 1 → 0.3): the gate rejects model v2, "
        "and v1 stays the champion."
    )


def test_what_did_not_happen_is_told_as_well(store: Store) -> None:
    check(store, 1)
    assert story(store, NAME)[1:] == (
        "2. No model has replaced an earlier one.",
        "3. No model was rejected: there is no champion.",
    )


def test_equal_p_values_are_told_apart_by_effect(store: Store) -> None:
    report = check(store, 1, (cell("a", 0.1, 1e-18), cell("b", 0.5, 1e-16), cell("c", 0.2, 0.01)))
    assert moved_most(report, store).startswith("b ")


def test_the_verdict_is_on_the_last_screen_of_24_lines(
    played: Store, resources: Resources, tmp_path: Path
) -> None:
    paper = io.StringIO()
    demo_summary(Console(file=paper, width=80), resources, tmp_path)
    lines = paper.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80
    last_screen = "\n".join(lines[-23:])  # the shell's prompt has the last line
    for part in ("Batches", "drift → retrain", "v3 rejected", "v2 promoted", "1. ", "2. ", "3. "):
        assert part in last_screen
    assert lines[-1].strip().endswith("champion.")
