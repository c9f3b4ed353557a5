"""What the commands show of drift reports that the store holds."""

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import Result

from services.cli.demo import write_reports
from services.cli.report import MOST_PAST_CHECKS, past_checks
from services.cli.summary import batches_table
from services.drift.report.model import DriftReport
from shared import records
from shared.failures import WillNotPass
from shared.stage import Resources
from shared.store import Store
from tests.integration.cli.conftest import Run
from tests.unit.drift import sample_reports

NOW = datetime(2026, 1, 10, 9, tzinfo=UTC)
REASON = (
    "pollutant_avg in PM2.5: median 84 → 131, 27 % of rows above the reference's 99th percentile "
    "(p = 3.2e-8, threshold 0.00025)"
)


def kept(sequence: int, pipeline: str = "parcels") -> dict[str, Any]:
    return {
        "id": f"drift:{pipeline}:{sequence}",
        "pipeline": pipeline,
        "trace_id": "0" * 32,
        "recorded_at": NOW + timedelta(hours=sequence),
    }


def a_check(
    store: Store, sequence: int, report: DriftReport | None = None, **changes: Any
) -> records.DriftReport:
    """The record of a check, in the store, with the whole report if it is given."""
    fields = kept(sequence) | {
        "verdict": report.verdict if report else "no drift",
        "needs_retraining": report.needs_retraining if report else False,
        "reason": report.reason
        if report
        else "nothing beyond chance (p = 0.34, threshold 0.00025)",
        "policy": "calibrated",
        "p": report.p if report else 0.34,
        "threshold": report.threshold if report else 0.00025,
        "drift_score": report.drift_score if report else 0.02,
        "feature_drifts": {},
        "feature_stats": {},
        "timestamp": NOW + timedelta(hours=sequence),
        "sequence": sequence,
        "batch_id": f"ingest:{sequence}",
        "batch_rows": 301,
        "reference_version": 1,
        "reference_rows": 10_000,
    }
    if report:
        fields["details"] = store.put_blob(gzip.compress(report.model_dump_json().encode()))
    record = records.DriftReport(**(fields | changes))
    store.record(record)
    return record


def a_batch(store: Store, sequence: int, pipeline: str = "parcels") -> records.Batch:
    batch = records.Batch(
        **kept(sequence, pipeline),
        outcome="ingested",
        sequence=sequence,
        rows=3_456,
        rows_received=3_456,
        last_event_at=NOW + timedelta(hours=sequence),
        source="a test",
    )
    store.record(batch)
    return batch


@pytest.fixture
def report() -> DriftReport:
    return sample_reports.air_quality()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refusal(done: Result) -> str:
    assert isinstance(done.exception, WillNotPass)
    return str(done.exception)


def test_the_page_of_a_batch_shows_its_check_and_those_before(
    run: Run, store: Store, report: DriftReport, folder: Path
) -> None:
    for sequence in range(1, 4):
        a_check(store, sequence)
    a_check(store, 4, report)
    a_check(store, 5, sample_reports.parcels())
    done = run("report", "4", "--pipeline", "parcels")
    assert done.exit_code == 0, done.output
    said = "parcels-batch-4.html: batch 4, drift: p = 3.2e-8, threshold 0.00025"
    assert " ".join(done.stdout.split()) == said
    page = (folder / "parcels-batch-4.html").read_text(encoding="utf-8")
    assert "PM2.5 and PM10 rose" in page
    assert re.findall(r"<span>check (\d+), ", page) == ["1", "4"]
    assert "The last 4\N{NO-BREAK SPACE}checks as a table" in page


def test_without_a_number_it_is_the_newest_that_was_compared(
    run: Run, store: Store, report: DriftReport, folder: Path
) -> None:
    a_check(store, 1, sample_reports.parcels())
    a_check(store, 2, report)
    a_check(store, 3, verdict="reference set", p=None, drift_score=None)
    assert run("report", "-o", "page.html").exit_code == 0
    assert "PM2.5 and PM10 rose" in (folder / "page.html").read_text(encoding="utf-8")


def test_it_can_be_printed_where_no_file_can_be_written(
    run: Run, store: Store, report: DriftReport, folder: Path
) -> None:
    """As in a container: `docker compose run --rm -T cli report -o - > report.html`."""
    a_check(store, 1, report)
    printed = run("report", "-o", "-")
    assert printed.stdout.startswith("<!DOCTYPE html>")
    assert printed.stdout.rstrip().endswith("</html>")
    assert run("report", "--json", "-o", "-").stdout == run("report", "--json").stdout
    assert list(folder.iterdir()) == []


def test_as_json_it_is_the_stored_report(
    run: Run, store: Store, report: DriftReport, folder: Path
) -> None:
    a_check(store, 1, report)
    printed = run("report", "--json")
    assert DriftReport.model_validate_json(printed.stdout) == report
    assert run("report", "--json", "-o", "drift_report.json").exit_code == 0
    assert (folder / "drift_report.json").read_text(encoding="utf-8") == printed.stdout
    assert [file.name for file in folder.iterdir()] == ["drift_report.json"]


def test_history_has_the_newest_checks_up_to_the_batch_and_of_no_other_pipeline(
    store: Store,
) -> None:
    many = MOST_PAST_CHECKS + 5
    checks = [a_check(store, sequence, p=sequence / 1000) for sequence in range(1, many + 3)]
    a_check(store, 2, **kept(2, "other"))
    past = past_checks(store, checks[many - 1])
    assert [one.sequence for one in past] == list(range(many, many - MOST_PAST_CHECKS, -1))
    assert (past[0].p, past[0].threshold, past[0].effect) == (many / 1000, 0.00025, 0.02)


def test_a_batch_that_is_not_there_is_named(run: Run, store: Store) -> None:
    a_check(store, 1)
    a_batch(store, 2)
    assert "no batch 7; `trimtab history` lists" in refusal(run("report", "7"))
    assert "batch 2 waits to be checked" in refusal(run("report", "2"))
    assert "no batch has been compared" in refusal(run("report"))


def test_a_batch_that_was_not_compared_has_no_report(run: Run, store: Store) -> None:
    a_check(store, 1, verdict="no reference", reason="it is the first batch", p=None)
    said = refusal(run("report", "1"))
    assert said == "parcels: batch 1 has no report (no reference: it is the first batch)"


def test_a_report_whose_retention_is_over_is_told_in_short(
    run: Run, store: Store, report: DriftReport
) -> None:
    a_check(store, 1, report)
    store.remove_blobs(keep=set(), uploaded_before=datetime.now(UTC) + timedelta(minutes=1))
    said = refusal(run("report", "1"))
    assert "its report is no longer there; in short: drift, PM2.5 and PM10 rose" in said


@pytest.mark.parametrize(
    "data",
    [b"not gzip", gzip.compress(b'{"format": "trimtab-drift-report/9"}', mtime=0), b"\x1f\x8b"],
)
def test_a_report_that_cannot_be_read_says_so(run: Run, store: Store, data: bytes) -> None:
    a_check(store, 1, details=store.put_blob(data))
    assert "batch 1: its report cannot be read" in refusal(run("report", "1"))


def test_a_file_that_cannot_be_written_says_so(run: Run, store: Store, report: DriftReport) -> None:
    a_check(store, 1, report)
    assert "cannot write /no/such/page.html: No such file" in refusal(
        run("report", "-o", "/no/such/page.html")
    )


def test_the_demo_writes_a_page_and_its_json_for_each_batch_compared(
    resources: Resources, store: Store, report: DriftReport, tmp_path: Path
) -> None:
    first = a_check(store, 1, verdict="no reference", p=None, drift_score=None)
    a_check(store, 2, report)
    folder = tmp_path / "reports"
    write_reports(resources, folder)
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["batch-1.json", "batch-2.html", "batch-2.json"]
    assert json.loads((folder / "batch-1.json").read_text()) == first.model_dump(mode="json")
    whole = (folder / "batch-2.json").read_text()
    assert DriftReport.model_validate_json(whole) == report


@pytest.fixture
def checks(store: Store, report: DriftReport) -> None:
    """Five batches: a first one, one as ever, one that drifted, one too small, one that waits."""
    for sequence in range(1, 6):
        a_batch(store, sequence, "air_quality")
    air_quality = "air_quality"
    a_check(
        store,
        1,
        **kept(1, air_quality),
        verdict="no reference",
        needs_retraining=True,
        reason="there is no reference yet",
        p=None,
        drift_score=None,
    )
    a_check(store, 2, **kept(2, air_quality))
    a_check(store, 3, report, **kept(3, air_quality), reason=REASON)
    a_check(
        store,
        4,
        **kept(4, air_quality),
        policy="mean_std_change",
        verdict="drift",
        p=None,
        threshold=0.1,
        drift_score=0.1512,
        reason="the columns' mean change 0.151 > 0.1; the largest is pollutant_max's, 0.61",
    )


@pytest.mark.usefixtures("checks")
def test_the_list_of_batches_tells_each_decision_in_80_columns(store: Store) -> None:
    paper = StringIO()
    Console(file=paper, width=80).print(batches_table(store, "air_quality"))
    lines = paper.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    decisions = [
        "no reference → train",
        "no drift 0.34 0.00025",
        "drift → retrain 3.2e-8 0.00025",
        "drift 0.151 0.1",
        "waits to be checked",
    ]
    rows = [" ".join(line.split()) for line in lines if re.search(r"^ +\d  2026", line)]
    assert len(rows) == len(decisions)
    for row, decision in zip(rows, decisions, strict=True):
        assert row.endswith(decision)
    said = " ".join(" ".join(lines).split())
    assert "there is no reference yet" in said
    assert "27 % of rows above the reference's 99th percentile" in said
    assert "nothing beyond chance" not in said


def test_status_tells_the_newest_decision(run: Run, store: Store, report: DriftReport) -> None:
    a_check(store, 1)
    a_check(store, 2, report)
    state = json.loads(run("status", "--json").stdout)["pipelines"]["parcels"]
    assert (state["checked"], state["verdict"], state["p"]) == (2, "drift", report.p)
    assert state["drift_score"] == report.drift_score
    assert state["decision"].split() == ["drift:", "p", "=", "3.2e-8,", "threshold", "0.00025"]
    assert state["reason"] == report.reason
