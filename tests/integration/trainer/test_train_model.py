"""The trainer on a real store: windows, versions, decisions, and what it refuses."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error

from services.trainer.train import train_model
from services.trainer.window import split, training_window
from shared.artifacts import seal, sha256
from shared.events import (
    BatchIngested,
    IngestionDue,
    ModelPromoted,
    ModelRejected,
    RetrainRequested,
    caused_fields,
    effect_id,
    first_event_fields,
)
from shared.failures import WillNotPass
from shared.frames import from_parquet, to_parquet
from shared.outcome import record_fields
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion, Reference
from shared.settings import Settings
from shared.store import Store
from tests.air_quality_rows import RECORDED, batch_rows, raw_rows, recorded_rows, with_training


class Loop:
    """Plays the other stages around the trainer."""

    def __init__(self, store: Store, settings: Settings, pipeline: Pipeline) -> None:
        self.store = store
        self.settings = settings
        self.pipeline = pipeline

    def ingest(self, sequence: int, rows: pd.DataFrame) -> BatchIngested:
        data = self.store.put_blob(to_parquet(rows))
        slot = datetime(2026, 1, 1, sequence, tzinfo=UTC)
        due = IngestionDue(**first_event_fields("air_quality", "slot", sequence), slot=slot)
        event = BatchIngested(
            **caused_fields(due, "ingest", BatchIngested),
            sequence=sequence,
            rows=len(rows),
            data=data,
        )
        batch = Batch(
            **record_fields(due, "ingest"),
            outcome="ingested",
            sequence=sequence,
            data=data,
            rows=len(rows),
            rows_received=len(rows),
            source="a test",
        )
        self.store.record(batch, [event])
        return event

    def request(self, batch: BatchIngested, reason: str | None = None) -> RetrainRequested:
        """What the drift stage asks for after a batch."""
        reference = self.store.reference("air_quality")
        return RetrainRequested(
            **caused_fields(batch, "drift", RetrainRequested),
            reason=reason or ("drift" if reference else "first_model"),
            reference_version=reference.version if reference else None,
            sequence=batch.sequence,
        )

    def train(
        self, request: RetrainRequested, pipeline: Pipeline | None = None
    ) -> tuple[ModelVersion, ModelPromoted | ModelRejected]:
        """Train, record the outcome and, after a promotion, move the reference."""
        outcome = train_model(request, pipeline or self.pipeline, self.store, self.settings)
        self.store.record(outcome.record, outcome.events)
        (event,) = outcome.events
        assert isinstance(outcome.record, ModelVersion)
        assert isinstance(event, ModelPromoted | ModelRejected)
        if isinstance(event, ModelPromoted):
            self._adopt(event)
        return outcome.record, event

    def _adopt(self, event: ModelPromoted) -> None:
        current = self.store.reference("air_quality")
        self.store.record(
            Reference(
                **record_fields(event, "drift"),
                version=current.version + 1 if current else 1,
                data=event.window,
                rows=event.window_rows,
                up_to_sequence=event.sequence,
                model_version=event.model_version,
            )
        )

    def newest_rows(self, model: ModelVersion) -> int:
        """How many rows the batch has that asked for a model."""
        return self.store.batches_between("air_quality", 0, model.sequence)[-1].rows

    def window(self, model: ModelVersion) -> pd.DataFrame:
        return from_parquet(self.store.blob(model.window))


@pytest.fixture
def loop(store: Store, settings: Settings, air_quality: Pipeline) -> Loop:
    quick = with_training(air_quality, parameters={"n_estimators": 8})
    return Loop(store, settings, quick)


Hour = Callable[..., pd.DataFrame]


@pytest.fixture
def hour(air_quality: Pipeline) -> Hour:
    """The rows of an hour as a batch holds them."""

    def rows(hour: int, **options: Any) -> pd.DataFrame:
        raw = raw_rows(hour=f"2026-01-05 {hour:02}:00", **options)
        typed = batch_rows(raw, air_quality)
        return typed.sort_values(["last_update", "station", "pollutant_id"], ignore_index=True)

    return rows


def test_the_first_model_is_promoted_and_its_record_says_how_it_was_made(
    loop: Loop, hour: Hour
) -> None:
    rows = hour(9)
    request = loop.request(loop.ingest(1, rows))
    model, event = loop.train(request)
    assert isinstance(event, ModelPromoted)
    assert (event.model_version, event.replaced_version, event.sequence) == (1, None, 1)
    assert (event.window, event.window_rows) == (model.window, len(rows))
    assert event.trace_id == model.trace_id == request.trace_id
    assert model.id == effect_id("trainer", request.event_id)
    assert (model.decision, model.champion_version, model.version) == ("promoted", None, 1)
    assert model.reason.startswith("first model: mean absolute error ")
    assert model.lineage["batches"] == [loop.store.batches_between("air_quality", 0, 1)[0].id]
    assert model.lineage["sequences"] == [1]
    assert model.lineage["reference_version"] is None
    assert model.lineage["training"]["features"] == [*loop.pipeline.training.features]
    assert model.lineage["hyper_parameters"]["n_estimators"] == 8
    assert model.lineage["hyper_parameters"]["random_state"] == 42
    assert {"python", "scikit-learn", "trimtab"} <= model.lineage["versions"].keys()


def test_the_metrics_hold_for_the_stored_model_on_the_held_out_rows(loop: Loop, hour: Hour) -> None:
    rows = hour(9)
    model, _ = loop.train(loop.request(loop.ingest(1, rows)))
    held_out = split(rows, loop.pipeline, len(rows)).held_out
    stored = joblib.load(io.BytesIO(loop.store.blob(model.model)))
    error = mean_absolute_error(held_out["pollutant_avg"], stored.predict(held_out))
    metrics = model.metrics
    assert metrics["mae"] == pytest.approx(error)
    assert {"mse", "rmse", "r2_score"} <= metrics.keys()
    assert sum(metrics["feature_importance"].values()) == pytest.approx(1)
    assert list(metrics["feature_importance"]) == [
        *("latitude", "longitude", "pollutant_min", "pollutant_max", "pollutant_id"),
        *("hour", "day", "month"),
    ]
    known = rows["pollutant_avg"].notna().sum()
    assert known < len(rows)
    assert metrics["data_stats"] == {
        "total_samples": known,
        "training_samples": known - len(held_out),
        "test_samples": len(held_out),
    }
    assert metrics["champion"] is None
    assert metrics["held_out"]["last_event_at"] == "2026-01-05T09:00:00+05:30"
    json.dumps(metrics, allow_nan=False)


def test_the_record_tells_the_hashes_the_seal_and_the_size(loop: Loop, hour: Hour) -> None:
    model, _ = loop.train(loop.request(loop.ingest(1, hour(9))))
    data = loop.store.blob(model.model)
    key = loop.settings.model_signing_key
    assert key
    assert model.seal == seal(data, key)
    assert model.model_bytes == len(data)
    assert model.metrics["model_sha256"] == model.model == sha256(data)
    assert model.metrics["window_sha256"] == model.window
    assert model.lineage["hyper_parameters"]["n_jobs"] is None


def test_a_window_of_one_batch_is_the_batchs_own_bytes(loop: Loop, hour: Hour) -> None:
    batch = loop.ingest(1, hour(9))
    assert loop.train(loop.request(batch))[0].window == batch.data


def test_the_report_that_asked_for_the_model_is_named(loop: Loop, hour: Hour) -> None:
    batch = loop.ingest(1, hour(9))
    report = DriftReport(
        **record_fields(batch, "drift"),
        verdict="no reference",
        needs_retraining=True,
        drift_score=None,
        threshold=0.1,
        policy="mean_std_change",
        feature_drifts={},
        feature_stats={},
        timestamp=datetime.now(UTC),
        sequence=1,
        batch_id="ingest:1",
        batch_rows=batch.rows,
        reference_version=None,
        reference_rows=None,
    )
    loop.store.record(report)
    assert loop.train(loop.request(batch))[0].drift_report == report.id


def test_a_challenger_that_learnt_the_drift_replaces_the_champion(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    model, event = loop.train(loop.request(loop.ingest(2, hour(15, level=150, lean=0.9))))
    assert isinstance(event, ModelPromoted)
    assert (event.model_version, event.replaced_version) == (2, 1)
    assert model.champion_version == model.metrics["champion"]["version"] == 1
    assert model.metrics["mae"] < model.metrics["champion"]["mae"]
    rows = model.metrics["data_stats"]["test_samples"]
    assert ", not worse than v1 with " in model.reason
    assert model.reason.endswith(f" on the same {rows:,} rows")


def test_a_worse_challenger_is_rejected_and_the_champion_stays(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    stump = with_training(loop.pipeline, parameters={"n_estimators": 1, "max_depth": 1})
    model, event = loop.train(loop.request(loop.ingest(2, hour(10))), stump)
    assert isinstance(event, ModelRejected)
    assert (event.model_version, event.champion_version, event.sequence) == (2, 1, 2)
    assert event.reason == model.reason
    assert ", worse than v1 with " in model.reason
    assert model.metrics["mae"] > model.metrics["champion"]["mae"]
    champion = loop.store.champion("air_quality")
    assert champion
    assert champion.version == 1
    later, _ = loop.train(loop.request(loop.ingest(3, hour(11))))
    assert (later.version, later.champion_version) == (3, 1)
    assert later.lineage["sequences"] == [2, 3]


def test_the_champions_figures_are_its_errors_on_the_same_rows(loop: Loop, hour: Hour) -> None:
    first, _ = loop.train(loop.request(loop.ingest(1, hour(9))))
    second, _ = loop.train(loop.request(loop.ingest(2, hour(15))))
    held_out = split(loop.window(second), loop.pipeline, loop.newest_rows(second)).held_out
    champion = joblib.load(io.BytesIO(loop.store.blob(first.model)))
    error = mean_absolute_error(held_out["pollutant_avg"], champion.predict(held_out))
    assert second.metrics["champion"]["mae"] == pytest.approx(error)


def test_the_window_is_the_reference_and_the_batches_since(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    loop.ingest(2, hour(10))
    request = loop.request(loop.ingest(3, hour(11)))
    loop.ingest(4, hour(12))
    window = training_window(request, loop.pipeline, loop.store)
    assert [batch.sequence for batch in window.batches] == [2, 3]
    assert window.reference
    assert window.reference.version == 1
    expected = pd.concat([hour(9), hour(10), hour(11)], ignore_index=True)
    pd.testing.assert_frame_equal(window.rows, expected)


def test_before_the_first_model_the_window_is_all_batches(loop: Loop, hour: Hour) -> None:
    for sequence in (1, 2):
        batch = loop.ingest(sequence, hour(8 + sequence))
    window = training_window(loop.request(batch), loop.pipeline, loop.store)
    assert len(window.rows) == 2 * len(hour(9))


def test_a_late_batch_takes_its_place_in_time(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    request = loop.request(loop.ingest(2, hour(7)))
    window = training_window(request, loop.pipeline, loop.store)
    assert window.rows["last_update"].is_monotonic_increasing
    assert (
        split(window.rows, loop.pipeline, window.batches[-1].rows)
        .held_out["last_update"]
        .dt.hour.eq(9)
        .all()
    )


def test_of_a_longer_window_the_newest_rows_are_kept(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    request = loop.request(loop.ingest(2, hour(10)))
    short = with_training(loop.pipeline, max_window_rows=200)
    rows = training_window(request, short, loop.store).rows
    assert rows["last_update"].dt.hour.value_counts().to_dict() == {10: 180, 9: 20}
    model, _ = loop.train(request, short)
    pd.testing.assert_frame_equal(loop.window(model), rows)


def test_a_reference_that_a_person_set_stands_alone_and_is_not_compared(
    loop: Loop, hour: Hour
) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    stump = with_training(loop.pipeline, parameters={"n_estimators": 1, "max_depth": 1})
    rows = hour(10)
    model, event = loop.train(loop.request(loop.ingest(2, rows), "reference_set"), stump)
    assert isinstance(event, ModelPromoted)
    assert event.replaced_version == 1
    assert model.metrics["champion"] == {"version": 1}
    assert model.reason.startswith("a person set the reference: ")
    pd.testing.assert_frame_equal(loop.window(model), rows)


def test_the_same_inputs_give_the_same_model(loop: Loop, hour: Hour) -> None:
    request = loop.request(loop.ingest(1, hour(9)))
    one = train_model(request, loop.pipeline, loop.store, loop.settings)
    two = train_model(request, loop.pipeline, loop.store, loop.settings)
    assert isinstance(one.record, ModelVersion)
    assert isinstance(two.record, ModelVersion)
    assert one.record.model == two.record.model
    assert one.record.window == two.record.window
    assert one.events[0].event_id == two.events[0].event_id


def test_a_table_without_times_that_tells_classes(store: Store, settings: Settings) -> None:
    pipeline = Pipeline.model_validate(
        {
            "name": "air_quality",
            "source": {"kind": "manual"},
            "schema": {
                "columns": {
                    "petal": {"type": "number"},
                    "colour": {"type": "category"},
                    "kind": {"type": "category"},
                }
            },
            "training": {
                "target": "kind",
                "task": "classification",
                "features": ["petal", "colour"],
                "parameters": {"n_estimators": 8},
            },
        }
    )
    rng = np.random.default_rng(1)
    petal = rng.normal(3, 1, 300)
    rows = pd.DataFrame(
        {
            "petal": petal,
            "colour": pd.Series(rng.choice(["white", "blue"], 300), dtype="str"),
            "kind": pd.Series(np.where(petal > 3, "virginica", "setosa"), dtype="str"),
        }
    )
    loop = Loop(store, settings, pipeline)
    first, _ = loop.train(loop.request(loop.ingest(1, rows)))
    assert first.metrics["accuracy"] > 0.9
    assert first.reason.startswith("first model: log loss ")
    assert "last_event_at" not in first.metrics["held_out"]
    assert first.metrics["feature_importance"]["petal"] > 0.9
    json.dumps(first.metrics, allow_nan=False)
    upside_down = rows.assign(petal=6 - rows["petal"])
    second, event = loop.train(loop.request(loop.ingest(2, upside_down), "reference_set"))
    assert isinstance(event, ModelPromoted)
    assert second.metrics["accuracy"] > 0.9


# What is refused.


def test_without_a_signing_key_nothing_is_trained(loop: Loop, hour: Hour) -> None:
    request = loop.request(loop.ingest(1, hour(9)))
    loop.settings = loop.settings.model_copy(update={"model_signing_key": None})
    with pytest.raises(WillNotPass, match="MODEL_SIGNING_KEY is not set"):
        loop.train(request)


@pytest.fixture
def second_request(loop: Loop, hour: Hour) -> RetrainRequested:
    """A request after a second batch, with a first model as champion."""
    loop.train(loop.request(loop.ingest(1, hour(9))))
    return loop.request(loop.ingest(2, hour(10)))


def _replace_bytes(store: Store, model: ModelVersion, data: bytes) -> None:
    (file,) = store.database["blobs.files"].find({"filename": model.model})
    store.database["blobs.chunks"].update_one(
        {"files_id": file["_id"], "n": 0}, {"$set": {"data": data}}
    )
    store.database["blobs.files"].update_one(
        {"_id": file["_id"]}, {"$set": {"length": len(data), "chunkSize": len(data)}}
    )


def test_a_champion_whose_stored_bytes_were_changed_is_not_loaded(
    loop: Loop, second_request: RetrainRequested
) -> None:
    champion = loop.store.champion("air_quality")
    assert champion
    _replace_bytes(loop.store, champion, b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(WillNotPass, match=f"the stored bytes of {champion.model} were altered"):
        loop.train(second_request)


def test_a_champion_with_a_hash_that_fits_and_a_seal_that_does_not_is_not_loaded(
    loop: Loop, second_request: RetrainRequested
) -> None:
    evil = loop.store.put_blob(b"cos\nsystem\n(S'false'\ntR.")
    loop.store.collection(ModelVersion).update_one({"version": 1}, {"$set": {"model": evil}})
    with pytest.raises(WillNotPass, match=r"champion, v1, is not to be trusted: .*seal.*anew"):
        loop.train(second_request)


def test_a_champion_that_was_sealed_with_another_key_is_not_loaded(
    loop: Loop, second_request: RetrainRequested
) -> None:
    other = loop.settings.model_dump() | {"model_signing_key": "another key of some length"}
    loop.settings = Settings(**other)
    with pytest.raises(WillNotPass, match=r"v1, is not to be trusted: .*MODEL_SIGNING_KEY"):
        loop.train(second_request)


def _without_latitude(pipeline: Pipeline) -> Pipeline:
    return with_training(pipeline, features=["longitude", "pollutant_max"])


def test_a_champion_that_cannot_predict_the_new_rows_is_an_error_that_says_so(
    loop: Loop, hour: Hour
) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    rows = hour(10)
    loop.store.collection(Reference).delete_many({})
    for sequence in (1, 2):  # the feed lost a column, and the pipeline file followed
        batch = loop.ingest(sequence + 1, rows.drop(columns="latitude"))
    request = RetrainRequested(
        **caused_fields(batch, "drift", RetrainRequested), reason="reference_set", sequence=3
    )
    compared = request.model_copy(update={"reason": "first_model"})
    loop.store.collection(Batch).delete_many({"sequence": 1})
    with pytest.raises(
        WillNotPass, match=r"v1, cannot predict .*latitude.*trimtab reference set FILE"
    ):
        loop.train(compared, _without_latitude(loop.pipeline))
    model, _ = loop.train(request, _without_latitude(loop.pipeline))
    assert model.decision == "promoted"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference_version": 7}, "reference v7 of air_quality is not in the store"),
        ({"sequence": 9}, "batch 9 of air_quality is not in the store; .*RETENTION_DAYS"),
    ],
)
def test_rows_that_are_not_there_are_an_error_that_names_them(
    loop: Loop, second_request: RetrainRequested, changes: dict[str, int], words: str
) -> None:
    with pytest.raises(WillNotPass, match=words):
        loop.train(second_request.model_copy(update=changes))


def test_a_window_without_targets_is_an_error(loop: Loop, hour: Hour) -> None:
    rows = hour(9).assign(pollutant_avg=np.nan)
    with pytest.raises(WillNotPass, match="0 of 180 rows have a value of pollutant_avg"):
        loop.train(loop.request(loop.ingest(1, rows)))


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded answers beside this checkout")
def test_recorded_snapshots(loop: Loop, air_quality: Pipeline) -> None:
    for number in range(3):
        rows = batch_rows(recorded_rows(number), air_quality)
        model, _ = loop.train(loop.request(loop.ingest(number + 1, rows)))
    held_out = split(loop.window(model), loop.pipeline, loop.newest_rows(model)).held_out
    assert held_out["last_update"].dt.strftime("%Y-%m").eq("2025-03").all()
    assert 4 < model.metrics["mae"] < 8
    assert model.metrics["r2_score"] > 0.8
    assert model.metrics["mae"] < model.metrics["champion"]["mae"]
