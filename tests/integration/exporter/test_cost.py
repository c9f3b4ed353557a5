"""What a scrape costs does not grow with the history: no query walks through it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.exporter import metrics
from services.exporter.collector import SystemCollector
from services.exporter.totals import LATE
from shared.events import (
    BatchIngested,
    IngestionDue,
    caused_fields,
    dump_event,
    effect_id,
    first_event_fields,
)
from shared.records import Batch, DeadLetter, DriftReport, ModelVersion, Notification, Publication
from shared.stage import Resources
from shared.store import COLLECTIONS, Store
from shared.work import Work
from tests.integration.profiler import looked_at, profiled

HISTORY = 12_000
BACKLOG = 300
MOST_DOCUMENTS = 10
"""What one query may look at: the newest checks."""


BATCH = {
    "outcome": "ingested",
    "rows": 5,
    "rows_known": 0,
    "set_aside": {"rows": 1},
    "rows_received": 6,
    "source": "a test",
    "data": "0" * 64,
}


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
def keyless(resources: Resources) -> Resources:
    """As the exporter has them."""
    database = resources.store.database
    work = Work(database, resources.settings.lease_seconds, None)
    return replace(resources, store=Store(database, None), work=work)


@pytest.fixture
def history(resources: Resources) -> None:
    """As many batches as more than a year of hours brings, and a model for every tenth."""
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
        (Batch, [document(number, sequence=number, **BATCH) for number in numbers]),
        (DriftReport, [document(number, sequence=number, **report) for number in numbers]),
        (ModelVersion, [document(number, version=number, **model) for number in tenths]),
        (Publication, [document(number, model_version=number, **commit) for number in tenths]),
        (Notification, [document(number, channels={"discord": "sent"}) for number in tenths]),
        (DeadLetter, [document(number, state="dismissed", **letter) for number in tenths]),
    ):
        store.collection(kind).insert_many(documents)


def test_a_scrape_looks_at_few_documents(keyless: Resources, history: None) -> None:
    queries = queries_of_a_scrape(keyless, SystemCollector(keyless))
    assert len(queries) > 20
    assert walks(queries) == []


def test_a_pipeline_that_publishes_nothing_costs_no_more(keyless: Resources, history: None) -> None:
    keyless.store.collection(Publication).delete_many({})
    queries = queries_of_a_scrape(keyless, SystemCollector(keyless))
    assert [(of, seen) for of, _, seen in walks(queries)] == [("models", metrics.MOST_UNPUBLISHED)]


def test_a_backlog_costs_no_query_for_each_event(resources: Resources, keyless: Resources) -> None:
    collector = SystemCollector(keyless)
    without = len(queries_of_a_scrape(keyless, collector))
    for hour in range(BACKLOG):
        slot = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        due = IngestionDue(**first_event_fields("air_quality", slot), slot=slot)
        fields = caused_fields(due, "ingest", BatchIngested)
        follower = BatchIngested(**fields, sequence=hour + 1, rows=5, data="0" * 64)
        waits = document(HISTORY, outbox=[dump_event(follower)], outbox_open=True)
        resources.store.collection(Batch).insert_one(waits | BATCH | {"sequence": hour + 1})
        resources.work.begin(effect_id("drift", follower.event_id), "drift", follower)
    served = {metric.name: metric for metric in collector.collect()}
    unfinished = served["trimtab_unfinished_events"].samples
    assert [sample.value for sample in unfinished if sample.labels["stage"] == "drift"] == [BACKLOG]
    # The further pages of what waits, and what of it is settled.
    assert len(queries_of_a_scrape(keyless, collector)) <= without + 10


Query = tuple[str, str, int]
"""The collection, the filter, and how many documents were looked at."""


def queries_of_a_scrape(resources: Resources, collector: SystemCollector) -> list[Query]:
    """What one reading asks of the records."""
    assert collector.read()["store"].failure is None  # so that indexes and plans are there
    with profiled(resources.store.database) as entries:
        assert collector.read()["store"].failure is None
    return [query for query in looked_at(entries) if query[0] in COLLECTIONS.values()]


def walks(queries: list[Query]) -> list[Query]:
    """Those that look at more than the newest documents."""
    return [query for query in queries if query[2] > MOST_DOCUMENTS]
