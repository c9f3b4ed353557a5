"""What a scrape costs does not grow with the history: no query walks through it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.exporter.collector import SystemCollector
from services.exporter.totals import LATE
from shared.records import Batch, DeadLetter, DriftReport, ModelVersion, Notification, Publication
from shared.stage import Resources
from shared.store import COLLECTIONS
from tests.e2e.conftest import wait_for

HISTORY = 12_000
MOST_DOCUMENTS = 10
"""What one query may look at: the newest checks."""


def document(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "_id": f"ingest:{uuid4().hex}",
        "pipeline": "air_quality",
        "trace_id": "0" * 32,
        "recorded_at": datetime.now(UTC) - 2 * LATE - timedelta(minutes=HISTORY - number),
        "handled_seconds": 0.25,
        "handling": {"attempt": 1},
        "outbox": [],
        "outbox_open": False,
        "outbox_sent_at": None,
        **fields,
    }


@pytest.fixture
def history(resources: Resources) -> None:
    """As many batches as more than a year of hours brings, and a model for every tenth."""
    batch = {"outcome": "ingested", "rows": 5, "rows_known": 0, "set_aside": {"rows": 1}}
    batch |= {"rows_received": 6, "source": "a test", "data": "0" * 64}
    report = {"verdict": "no drift", "needs_retraining": False, "policy": "calibrated"}
    report |= {"threshold": 0.1, "drift_score": 0.0, "feature_drifts": {"a": 0.1}}
    report |= {"feature_stats": {}, "batch_id": "", "batch_rows": 5}
    report |= {"reference_version": 1, "reference_rows": 5, "timestamp": datetime.now(UTC)}
    model = {"decision": "promoted", "reason": "", "model": "0" * 64, "seal": "", "model_bytes": 1}
    model |= {"metrics": {}, "champion_version": None, "window": "0" * 64, "sequence": 1}
    model |= {"drift_report": "", "lineage": {}}
    commit = {"commit": "0" * 40, "branch": "main", "tag": "", "repository": "", "url": None}
    letter = {"stage": "ingest", "kind": "IngestionDue", "reason": "", "message": {}}
    numbers = range(1, HISTORY + 1)
    tenths = range(1, HISTORY // 10 + 1)
    store = resources.store
    for kind, documents in (
        (Batch, [document(number, sequence=number, **batch) for number in numbers]),
        (DriftReport, [document(number, sequence=number, **report) for number in numbers]),
        (ModelVersion, [document(number, version=number, **model) for number in tenths]),
        (Publication, [document(number, model_version=number, **commit) for number in tenths]),
        (Notification, [document(number, channels={"discord": "sent"}) for number in tenths]),
        (DeadLetter, [document(number, state="dismissed", **letter) for number in tenths]),
    ):
        store.collection(kind).insert_many(documents)


def test_a_scrape_looks_at_few_documents(resources: Resources, history: None) -> None:
    collector = SystemCollector(resources)
    # The first look counts the whole history, and on a busy machine takes longer than a scrape.
    assert wait_for(lambda: collector.read()["store"].failure is None, 60)
    database = resources.store.database
    database.command("profile", 2)
    assert collector.read()["store"].failure is None
    database.command("profile", 0)
    profiled = list(database["system.profile"].find({"docsExamined": {"$exists": True}}))
    of_records = [entry for entry in profiled if collection(entry) in COLLECTIONS.values()]
    assert len(of_records) > 20
    looked_at = {
        (collection(entry), str(entry["command"].get("filter"))): entry["docsExamined"]
        for entry in of_records
    }
    assert {of: seen for of, seen in looked_at.items() if seen > MOST_DOCUMENTS} == {}
    served = {metric.name: metric for metric in collector.collect()}
    assert [sample.value for sample in served["trimtab_batches"].samples] == [HISTORY]


def collection(entry: dict[str, Any]) -> str:
    return str(entry["ns"].partition(".")[2])
