"""Bytes without a record go; all others stay."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import gridfs
import pytest
from bson import ObjectId
from redis import Redis

from services.cli.embedded.addresses import connected
from services.cli.embedded.servers import Valkey
from shared.events import IngestionDue, first_event_fields
from shared.failures import WillNotPass
from shared.outcome import record_fields
from shared.records import (
    Batch,
    ChunkCounts,
    DriftReport,
    ModelVersion,
    Reference,
    SetAside,
)
from shared.retention import WORKERS_KEPT, remove_unnamed_blobs
from shared.stage import Resources
from shared.store import Store
from tests.conftest import AIR_QUALITY

LONG_AGO = datetime.now(UTC) - timedelta(days=100)


def test_workers_that_are_gone_are_forgotten(resources: Resources, valkey: Valkey) -> None:
    with Redis.from_url(valkey.url) as redis:
        for part in ("drift@gone", "sweep"):
            redis.hset(f"{resources.settings.key_prefix}heartbeats", part, LONG_AGO.isoformat())
    resources.broker.note_alive("drift@here")
    resources.broker.forget_workers(silent_since=datetime.now(UTC) - WORKERS_KEPT)
    assert resources.broker.last_alive().keys() == {"drift@here", "sweep"}


def due(number: int) -> IngestionDue:
    return IngestionDue(**first_event_fields("air_quality", "slot", number), slot=datetime.now(UTC))


def put_long_ago(store: Store, data: bytes) -> str:
    digest = store.put_blob(data)
    store.database["blobs.files"].update_one(
        {"filename": digest}, {"$set": {"uploadDate": LONG_AGO}}
    )
    return digest


def model(store: Store, version: int, decision: str) -> str:
    digest = put_long_ago(store, f"model {version}".encode())
    losses = put_long_ago(store, f"losses {version}".encode())
    plot = put_long_ago(store, f"plot {version}".encode())
    fields = record_fields(due(version), "trainer") | {"recorded_at": LONG_AGO}
    store.record(
        ModelVersion(
            **fields,
            version=version,
            decision=decision,
            reason="a test",
            model=digest,
            seal="",
            model_bytes=1,
            metrics={},
            champion_version=None,
            window=digest,
            sequence=1,
            drift_report="",
            lineage={},
            held_out_losses=losses,
            plots={"errors.png": plot},
        )
    )
    return digest


def test_named_bytes_stay_and_unnamed_ones_go(store: Store) -> None:
    named, aside = put_long_ago(store, b"named"), put_long_ago(store, b"set aside")
    labels = put_long_ago(store, b"labels")
    unnamed, fresh = put_long_ago(store, b"unnamed"), store.put_blob(b"fresh")
    store.record(
        Batch(
            **record_fields(due(1), "ingest"),
            outcome="ingested",
            sequence=1,
            data=named,
            labels=labels,
            rows=1,
            rows_received=2,
            set_aside=SetAside(rows=1, reasons={"a: missing": 1}, data=aside),
            source="a test",
        )
    )
    assert remove_unnamed_blobs(store, retention_days=30) == 1
    assert [store.blob(each) for each in (named, aside, labels, fresh)] == [
        b"named",
        b"set aside",
        b"labels",
        b"fresh",
    ]
    with pytest.raises(WillNotPass, match="holds no bytes"):
        store.blob(unnamed)


def test_champion_outlives_the_retention_and_older_models_do_not(store: Store) -> None:
    old, champion, rejected = (
        model(store, 1, "promoted"),
        model(store, 2, "promoted"),
        model(store, 3, "rejected"),
    )
    assert remove_unnamed_blobs(store, retention_days=400) == 0
    assert remove_unnamed_blobs(store, retention_days=30) == 2 * 3
    assert store.blob(champion) == b"model 2"
    for gone in (old, rejected):
        with pytest.raises(WillNotPass):
            store.blob(gone)


def test_what_a_check_names_goes_with_its_record(store: Store) -> None:
    names = ("profile", "counts", "details", "chart", "chunk", "reference", "its profile")
    blobs = {name: put_long_ago(store, name.encode()) for name in names}
    report = DriftReport(
        **record_fields(due(1), "drift"),
        verdict="no drift",
        needs_retraining=False,
        policy="calibrated",
        threshold=0.1,
        drift_score=0.0,
        feature_drifts={},
        feature_stats={},
        timestamp=LONG_AGO,
        sequence=1,
        batch_id="a",
        batch_rows=1,
        reference_version=1,
        reference_rows=1,
        **{name: blobs[name] for name in ("profile", "counts", "details", "chart")},
    )
    chunk = ChunkCounts(
        **record_fields(due(2), "drift"), sequence=1, row_group=0, counts=blobs["chunk"]
    )
    reference = Reference(
        **record_fields(due(3), "drift"),
        version=1,
        data=blobs["reference"],
        profile=blobs["its profile"],
        rows=1,
        up_to_sequence=1,
        model_version=1,
    )
    for record in (report, chunk, reference):
        store.record(record)
    assert remove_unnamed_blobs(store, retention_days=30) == 0
    store.collection(DriftReport).delete_one({})
    assert remove_unnamed_blobs(store, retention_days=30) == 4
    store.collection(ChunkCounts).delete_one({})
    assert remove_unnamed_blobs(store, retention_days=30) == 1
    assert store.blob(blobs["its profile"]) == b"its profile"


def test_rest_of_a_broken_upload_goes(store: Store) -> None:
    broken = ObjectId.from_datetime(LONG_AGO)
    store.database["blobs.chunks"].insert_one({"files_id": broken, "n": 0, "data": b"half"})
    assert remove_unnamed_blobs(store, retention_days=30) == 1
    assert store.database["blobs.chunks"].count_documents({}) == 0
    assert not gridfs.GridFS(store.database, collection="blobs").exists(broken)


def test_a_command_does_not_change_how_long_records_are_kept(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = resources.settings
    monkeypatch.setenv("REDIS_URL", given.redis_url.get_secret_value())
    monkeypatch.setenv("MONGODB_URI", given.mongodb_uri.get_secret_value())  # type: ignore[union-attr]
    monkeypatch.setenv("MONGODB_DATABASE", given.mongodb_database)
    monkeypatch.setenv("PIPELINES", str(AIR_QUALITY.parent))
    monkeypatch.setenv("RETENTION_DAYS", "2")
    resources.store.prepare("ingest", 1000)
    with connected(tmp_path) as from_a_shell:
        assert from_a_shell.store.newest(Batch, {"pipeline": "air_quality"}, "sequence") is None
    indexes = resources.store.collection(Batch).index_information()
    assert indexes["retention"]["expireAfterSeconds"] == 1000 * 24 * 3600
