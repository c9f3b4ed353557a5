"""The trainer on a real store: windows, versions, decisions, and what it refuses."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error

from services.trainer.reproduction import reproduce
from services.trainer.train import train_model
from services.trainer.window import (
    Pool,
    held_out_of,
    learnt_from,
    packed,
    split,
    training_pool,
)
from shared.artifacts import sealed, sha256
from shared.events import (
    BatchIngested,
    Event,
    IngestionDue,
    ModelPromoted,
    ModelRejected,
    RetrainRequested,
    ReviewNeeded,
    caused_fields,
    effect_id,
    first_event_fields,
)
from shared.failures import WillNotPass
from shared.frames import from_parquet, to_parquet
from shared.outcome import record_fields
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion, Reference
from shared.scoring import GroupLosses
from shared.settings import Settings
from shared.store import Store
from tests.air_quality_rows import RECORDED, batch_rows, raw_rows, recorded_rows, with_training
from tests.asking import set_as_reference
from tests.integration.plain_records import check_of
from tests.keys import authenticate


class Loop:
    """Plays the other stages around the trainer."""

    def __init__(self, store: Store, settings: Settings, pipeline: Pipeline) -> None:
        self.store = store
        self.settings = settings
        self.pipeline = pipeline

    def ingest(
        self, sequence: int, rows: pd.DataFrame | None, labels: pd.DataFrame | None = None
    ) -> BatchIngested:
        """Take in rows, targets of earlier rows, or both."""
        data = None if rows is None else self.store.put_blob(to_parquet(rows))
        late = None if labels is None else self.store.put_blob(to_parquet(labels))
        count = 0 if rows is None else len(rows)
        slot = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=sequence)
        due = IngestionDue(**first_event_fields("air_quality", "slot", sequence), slot=slot)
        event = BatchIngested(
            **caused_fields(due, "ingest", BatchIngested),
            sequence=sequence,
            rows=count,
            data=data,
            labels=late,
        )
        batch = Batch(
            **record_fields(due, "ingest"),
            outcome="ingested",
            sequence=sequence,
            data=data,
            rows=count,
            labels=late,
            labelled_rows=0 if labels is None else len(labels),
            rows_received=count,
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
        model, (event, *_) = self.outcome(request, pipeline)
        assert isinstance(event, ModelPromoted | ModelRejected)
        return model, event

    def outcome(
        self, request: RetrainRequested, pipeline: Pipeline | None = None
    ) -> tuple[ModelVersion, tuple[Event, ...]]:
        """The record of a training, and all its events."""
        outcome = train_model(request, pipeline or self.pipeline, self.store, self.settings)
        self.store.record(outcome.record, outcome.events)
        assert isinstance(outcome.record, ModelVersion)
        for event in outcome.events:
            if isinstance(event, ModelPromoted):
                self._adopt(event)
        return outcome.record, outcome.events

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

    def pool(self, request: RetrainRequested, pipeline: Pipeline | None = None) -> Pool:
        return training_pool(request, pipeline or self.pipeline, self.store)

    def held_out(self, model: ModelVersion) -> pd.DataFrame:
        """The rows that a model was judged on."""
        rows = self.window(model)
        mask = held_out_of(model, rows, self.pipeline, self.store)
        assert mask is not None
        return rows[mask]

    def window(self, model: ModelVersion) -> pd.DataFrame:
        return from_parquet(self.store.blob(model.window))


@pytest.fixture
def whole_loop(store: Store, settings: Settings, air_quality: Pipeline) -> Loop:
    quick = with_training(air_quality, parameters={"n_estimators": 8})
    return Loop(store, settings, quick)


@pytest.fixture
def loop(whole_loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Without what takes most of the time: another process for each model, and its pictures."""
    monkeypatch.setattr("services.trainer.train.why_not_usable", lambda *_: None)
    monkeypatch.setattr("services.trainer.train.render_plots", lambda *_: {})
    return whole_loop


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
    assert model.lineage["reason"] == "first_model"
    assert model.lineage["sequences"] == [1]
    assert model.lineage["reference_version"] is None
    assert model.lineage["training"] == loop.pipeline.training.model_dump(mode="json")
    assert model.lineage["schema"] == loop.pipeline.data.model_dump(mode="json")
    assert model.lineage["recipe"] == {
        "window": {"policy": "all", "batches": None, "span": None},
        "time_parts": [],
        "parameters": {"n_estimators": 8},
    }
    assert {"python", "scikit-learn", "trimtab"} <= model.lineage["versions"].keys()
    forest = joblib.load(io.BytesIO(loop.store.blob(model.model))).named_steps["estimator"]
    assert (forest.n_estimators, forest.random_state, forest.n_jobs) == (8, 42, None)


def test_the_metrics_hold_for_the_stored_model_on_the_held_out_rows(loop: Loop, hour: Hour) -> None:
    rows = hour(9)
    model, _ = loop.train(loop.request(loop.ingest(1, rows)))
    known = rows[rows["pollutant_avg"].notna()]
    assert len(known) < len(rows)
    held_out = rows.iloc[split(rows, loop.pipeline, 0.2 * len(known)).held_out]
    stored = joblib.load(io.BytesIO(loop.store.blob(model.model)))
    error = mean_absolute_error(held_out["pollutant_avg"], stored.predict(held_out))
    metrics = model.metrics
    assert metrics["mae"] == pytest.approx(error)
    learnt = known.drop(held_out.index)
    typical = learnt.groupby("pollutant_id")["pollutant_avg"].median()
    naive = mean_absolute_error(held_out["pollutant_avg"], held_out["pollutant_id"].map(typical))
    assert metrics["baseline"]["mae"] == pytest.approx(naive)
    assert metrics["data_stats"] == {
        "total_samples": len(known),
        "training_samples": len(learnt),
        "test_samples": len(held_out),
    }
    assert model.held_out_losses
    losses = GroupLosses.from_bytes(loop.store.blob(model.held_out_losses))
    assert losses.mean == pytest.approx(error)
    assert losses.rows.sum() == len(held_out)
    assert len(losses.rows) == held_out["station"].nunique()


ORIGINAL_KEYS = {"mae", "mse", "rmse", "r2_score", "feature_importance", "data_stats"}


def test_the_metrics_keep_the_originals_keys_and_say_how_they_were_come_by(
    loop: Loop, hour: Hour
) -> None:
    model, _ = loop.train(loop.request(loop.ingest(1, hour(9))))
    metrics = model.metrics
    assert (
        ORIGINAL_KEYS
        | {
            *("mape", "deciding_metric", "champion", "baseline", "comparison", "segment_column"),
            *("segments", "gate", "held_out", "window", "parameters", "search", "versions"),
            *("features", "trained_at", "fit_seconds", "model_sha256", "window_sha256"),
        }
        == metrics.keys()
    )
    assert (metrics["champion"], metrics["comparison"], metrics["search"]) == (None, None, None)
    assert metrics["deciding_metric"] == "mae"
    assert metrics["baseline"]["kind"] == "median of the training rows by pollutant_id"
    assert sum(metrics["feature_importance"].values()) == pytest.approx(1)
    assert list(metrics["feature_importance"]) == [
        *("latitude", "longitude", "pollutant_min", "pollutant_max", "pollutant_id"),
    ], "parts of the time are on probation until there are enough batches"
    assert metrics["held_out"] == {
        "rows": "the newest, whole groups",
        "first_event_at": "2026-01-05T09:00:00+05:30",
        "last_event_at": "2026-01-05T09:00:00+05:30",
        "older_than_training": False,
    }
    assert metrics["window"] == {
        "policy": "auto",
        "chosen": "all",
        "rows": metrics["data_stats"]["training_samples"],
        "candidates": [],
        "first_event_at": "2026-01-05T09:00:00+05:30",
        "last_event_at": "2026-01-05T09:00:00+05:30",
    }
    gate = metrics["gate"]
    assert (gate["policy"], gate["margin"]) == ("not_worse", 0.01)
    assert (gate["decision"], gate["reason"]) == (model.decision, model.reason)
    assert [guard["name"] for guard in gate["guards"]] == [
        "enough held-out rows",
        "better than the baseline",
        "usable in a fresh process",
        "small enough for the repository",
    ]
    assert metrics["segment_column"] == "pollutant_id"
    assert len(metrics["segments"]) == 6
    assert sum(each["rows"] for each in metrics["segments"]) == len(loop.held_out(model))
    assert all(each["few"] for each in metrics["segments"])
    json.dumps(metrics, allow_nan=False)


def test_parts_of_the_time_that_are_asked_for_are_features(loop: Loop, hour: Hour) -> None:
    stated = with_training(loop.pipeline, window="all")
    model, _ = loop.train(loop.request(loop.ingest(1, hour(9))), stated)
    assert list(model.metrics["feature_importance"])[-3:] == ["hour", "day", "month"]


def test_the_record_tells_the_hashes_the_seal_and_the_size(loop: Loop, hour: Hour) -> None:
    model, _ = loop.train(loop.request(loop.ingest(1, hour(9))))
    data = loop.store.blob(model.model)
    key = loop.settings.model_signing_key
    assert key
    assert model == sealed(model, key)
    assert model.model_bytes == len(data)
    assert model.metrics["model_sha256"] == model.model == sha256(data)
    assert model.metrics["window_sha256"] == model.window


def test_a_window_of_one_batch_is_the_batchs_own_bytes(loop: Loop, hour: Hour) -> None:
    """Rows without a target are among them, or the next missing target would be a drift."""
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


def test_a_challenger_that_learnt_the_drift_replaces_the_champion(
    whole_loop: Loop, hour: Hour
) -> None:
    whole_loop.train(whole_loop.request(whole_loop.ingest(1, hour(9))))
    model, event = whole_loop.train(
        whole_loop.request(whole_loop.ingest(2, hour(15, level=150, lean=0.9)))
    )
    assert isinstance(event, ModelPromoted)
    assert (event.model_version, event.replaced_version) == (2, 1)
    assert model.champion_version == model.metrics["champion"]["version"] == 1
    assert model.metrics["mae"] < model.metrics["champion"]["mae"]
    assert model.metrics["comparison"]["interval"][1] < 0
    assert model.metrics["comparison"]["rows"] == model.metrics["data_stats"]["test_samples"]
    assert "against v1 (95\N{NO-BREAK SPACE}% interval " in model.reason
    assert model.reason.endswith(": not_worse")
    assert model.plots.keys() == {
        f"plots/{name}-{theme}.png"
        for name in ("predictions", "error_by_segment", "feature_importance")
        for theme in ("light", "dark")
    }
    assert all(
        whole_loop.store.blob(digest).startswith(b"\x89PNG") for digest in model.plots.values()
    )


def test_a_worse_challenger_is_rejected_and_the_champion_stays(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    stump = with_training(loop.pipeline, parameters={"n_estimators": 1, "max_depth": 1})
    model, event = loop.train(loop.request(loop.ingest(2, hour(10))), stump)
    assert isinstance(event, ModelRejected)
    assert (event.model_version, event.champion_version, event.sequence) == (2, 1, 2)
    assert event.reason == model.reason
    assert "against v1 (95\N{NO-BREAK SPACE}% interval " in model.reason
    assert model.metrics["mae"] > model.metrics["champion"]["mae"]
    assert model.metrics["comparison"]["difference"] == pytest.approx(
        model.metrics["mae"] - model.metrics["champion"]["mae"]
    )
    assert model.metrics["gate"]["decision"] == "rejected"
    assert not model.plots
    assert sha256(loop.store.blob(model.model)) == model.metrics["model_sha256"]
    champion = loop.store.champion("air_quality")
    assert champion
    assert champion.version == 1
    later, _ = loop.train(loop.request(loop.ingest(3, hour(11))))
    assert (later.version, later.champion_version) == (3, 1)
    assert later.lineage["sequences"] == [1, 2, 3]
    reference = loop.store.reference("air_quality")
    assert reference
    assert (reference.model_version == 1) == (later.decision == "rejected")


def test_the_champions_figures_are_its_errors_on_the_same_rows(loop: Loop, hour: Hour) -> None:
    first, _ = loop.train(loop.request(loop.ingest(1, hour(9))))
    second, _ = loop.train(loop.request(loop.ingest(2, hour(15))))
    held_out = loop.held_out(second)
    champion = joblib.load(io.BytesIO(loop.store.blob(first.model)))
    error = mean_absolute_error(held_out["pollutant_avg"], champion.predict(held_out))
    assert second.metrics["champion"]["mae"] == pytest.approx(error)


# The rows at hand.


def test_the_pool_is_the_batches_up_to_the_one_that_asks(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    loop.ingest(2, hour(10))
    request = loop.request(loop.ingest(3, hour(11)))
    loop.ingest(4, hour(12))
    pool = loop.pool(request)
    expected = pd.concat([hour(9), hour(10), hour(11)], ignore_index=True)
    pd.testing.assert_frame_equal(pool.rows, expected)
    assert np.unique(pool.batch, return_counts=True)[0].tolist() == [1, 2, 3]


def test_before_the_first_model_the_pool_is_all_batches(loop: Loop, hour: Hour) -> None:
    for sequence in (1, 2):
        batch = loop.ingest(sequence, hour(8 + sequence))
    assert len(loop.pool(loop.request(batch)).rows) == 2 * len(hour(9))


def test_rows_of_batches_that_are_no_longer_kept_are_the_references(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    request = loop.request(loop.ingest(2, hour(10)))
    before = loop.pool(request).rows
    loop.store.collection(Batch).delete_many({"sequence": 1})
    pool = loop.pool(request)
    pd.testing.assert_frame_equal(pool.rows, before)
    assert np.unique(pool.batch).tolist() == [0, 2]


def test_targets_that_came_later_are_learnt_from(loop: Loop, hour: Hour) -> None:
    rows = hour(9)
    labels = rows[["last_update", "station", "pollutant_id", "pollutant_avg"]]
    loop.ingest(1, rows.assign(pollutant_avg=np.nan))
    loop.ingest(2, None, labels.iloc[:90])
    request = loop.request(loop.ingest(3, None, labels.iloc[90:]))
    pool = loop.pool(request)
    pd.testing.assert_frame_equal(pool.rows, rows)
    model, _ = loop.train(request)
    assert model.metrics["data_stats"]["total_samples"] == rows["pollutant_avg"].notna().sum()
    pd.testing.assert_frame_equal(loop.window(model), rows)


def test_a_late_batch_takes_its_place_in_time_and_is_judged_on(loop: Loop, hour: Hour) -> None:
    """The champion has learnt from the newer rows of the batch before."""
    loop.train(loop.request(loop.ingest(1, hour(9))))
    model, _ = loop.train(loop.request(loop.ingest(2, hour(7))))
    assert loop.window(model)["last_update"].is_monotonic_increasing
    assert loop.held_out(model)["last_update"].dt.hour.eq(7).all()


IDENTITY = ["last_update", "station", "pollutant_id"]


def _names(rows: pd.DataFrame) -> set[tuple[object, ...]]:
    return set(rows[IDENTITY].itertuples(index=False, name=None))


def _learnt(loop: Loop, model: ModelVersion) -> set[tuple[object, ...]]:
    window = loop.window(model)
    known = window[window["pollutant_avg"].notna()]
    return _names(known) - _names(loop.held_out(model))


def test_small_batches_are_held_out_in_part_until_there_are_enough(loop: Loop, hour: Hour) -> None:
    """Half of an hour has fewer than the 20 rows that the gate asks for."""
    loop.train(loop.request(loop.ingest(1, hour(5))))
    champion = loop.store.champion("air_quality")
    assert champion
    learnt = _learnt(loop, champion)
    for number in range(2, 5):
        rows = hour(4 + number)
        batch = loop.ingest(number, rows[rows["station"].isin(rows["station"].unique()[:5])])
        model, _ = loop.train(loop.request(batch))
        held_out = loop.held_out(model)
        assert len(held_out) >= 20
        assert held_out["last_update"].dt.hour.nunique() > 1
        assert not _names(held_out) & learnt
        if model.decision == "promoted":
            learnt = _learnt(loop, model)


def _as_recorded_before(loop: Loop, model: ModelVersion) -> ModelVersion:
    """The champion as an earlier version of Trimtab recorded it: with a count of held-out rows."""
    rows = len(loop.held_out(model))
    loop.store.collection(ModelVersion).update_one(
        {"_id": model.id}, {"$unset": {"held_out": ""}, "$set": {"lineage.held_out_rows": rows}}
    )
    authenticate(loop.store)
    champion = loop.store.champion("air_quality")
    assert champion
    assert champion.held_out is None
    return champion


def test_what_an_earlier_versions_champion_has_learnt_is_known(loop: Loop, hour: Hour) -> None:
    model, _ = loop.train(loop.request(loop.ingest(1, hour(9))))
    expected = _learnt(loop, model)
    champion = _as_recorded_before(loop, model)
    pool = loop.pool(loop.request(loop.ingest(2, hour(10))))
    assert _names(pool.rows[learnt_from(champion, pool, loop.pipeline, loop.store)]) == expected


def test_a_champion_whose_record_says_nothing_has_learnt_from_all_there_was(
    loop: Loop, hour: Hour
) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    champion = loop.store.champion("air_quality")
    assert champion
    untold = champion.model_copy(update={"held_out": None, "lineage": {}})
    pool = loop.pool(loop.request(loop.ingest(2, hour(10))))
    learnt = learnt_from(untold, pool, loop.pipeline, loop.store)
    assert (learnt == (pool.batch == 1)).all()


def test_a_version_that_was_recorded_before_is_reproduced(loop: Loop, hour: Hour) -> None:
    model, _ = loop.train(loop.request(loop.ingest(1, hour(9))))
    assert reproduce(model, loop.pipeline, loop.store, loop.settings).same
    champion = _as_recorded_before(loop, model)
    assert reproduce(champion, loop.pipeline, loop.store, loop.settings).same


def test_a_champion_that_knows_all_rows_is_not_replaced(loop: Loop, hour: Hour) -> None:
    """The batch brings rows without a target, and what was held out is no longer at hand."""
    loop.train(loop.request(loop.ingest(1, hour(9))))
    champion = loop.store.champion("air_quality")
    assert champion
    no_row = loop.store.put_blob(packed(np.zeros(len(loop.window(champion)), dtype=bool)))
    assert loop.settings.model_signing_key
    altered = champion.model_copy(update={"held_out": no_row})
    seal = sealed(altered, loop.settings.model_signing_key).seal
    loop.store.collection(ModelVersion).update_one(
        {"_id": champion.id}, {"$set": {"held_out": no_row, "seal": seal}}
    )
    authenticate(loop.store)
    rows = hour(10).assign(pollutant_avg=np.nan)
    _, event = loop.train(loop.request(loop.ingest(2, rows)))
    assert isinstance(event, ModelRejected)
    assert "v1 has learnt from all rows that have a target" in event.reason


def test_of_a_longer_pool_the_newest_rows_are_kept(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    request = loop.request(loop.ingest(2, hour(10)))
    short = with_training(loop.pipeline, max_window_rows=200)
    rows = loop.pool(request, short).rows
    assert rows["last_update"].dt.hour.value_counts().to_dict() == {10: 180, 9: 20}
    model, event = loop.train(request, short)
    pd.testing.assert_frame_equal(loop.window(model), rows)
    assert isinstance(event, ModelPromoted | ModelRejected)
    assert event.window_rows == 200


def _set_reference(loop: Loop, sequence: int, rows: pd.DataFrame) -> RetrainRequested:
    batch = loop.ingest(sequence, rows)
    set_as_reference(sequence, loop.store)
    loop.store.record(check_of(batch, verdict="reference set", sequence=sequence))
    return loop.request(batch, "reference_set")


def test_a_reference_that_a_person_set_stands_alone_and_is_not_compared(
    loop: Loop, hour: Hour
) -> None:
    loop.train(loop.request(loop.ingest(1, hour(9))))
    stump = with_training(loop.pipeline, parameters={"n_estimators": 1, "max_depth": 1})
    rows = hour(10)
    model, event = loop.train(_set_reference(loop, 2, rows), stump)
    assert isinstance(event, ModelPromoted)
    assert event.replaced_version == 1
    assert (model.metrics["champion"], model.metrics["comparison"]) == (None, None)
    assert model.champion_version == 1
    assert model.reason.startswith("a person set the reference: ")
    pd.testing.assert_frame_equal(loop.window(model), rows)


def test_nothing_older_comes_back_after_a_reference_that_a_person_set(
    loop: Loop, hour: Hour
) -> None:
    loop.train(loop.request(loop.ingest(1, hour(8))))
    loop.train(_set_reference(loop, 2, hour(9)))
    request = loop.request(loop.ingest(3, hour(10)))
    expected = pd.concat([hour(9), hour(10)], ignore_index=True)
    pd.testing.assert_frame_equal(loop.pool(request).rows, expected)


# The window that a pipeline states.


@pytest.mark.parametrize(
    ("window", "hours"),
    [
        ("all", [8, 9, 10]),
        ({"last": "2 batches"}, [9, 10]),
        ({"last": "1h"}, [9, 10]),
        ({"half_life": "2h"}, [8, 9, 10]),
    ],
)
def test_a_stated_window_is_what_is_learnt_from(
    window: object, hours: list[int], loop: Loop, hour: Hour
) -> None:
    for sequence in (1, 2, 3):
        batch = loop.ingest(sequence, hour(7 + sequence))
    stated = with_training(loop.pipeline, window=window)
    model, _ = loop.train(loop.request(batch), stated)
    rows = loop.window(model)
    expected = pd.concat([hour(number) for number in hours], ignore_index=True)
    pd.testing.assert_frame_equal(rows, expected)
    said = model.metrics["window"]
    assert said["policy"] == said["chosen"] == str(stated.training.window)
    assert said["first_event_at"] == f"2026-01-05T{hours[0]:02}:00:00+05:30"
    assert said["rows"] == model.metrics["data_stats"]["training_samples"]
    assert model.lineage["sequences"] == [number - 7 for number in hours]


def test_weights_by_age_make_another_model(loop: Loop, hour: Hour) -> None:
    for sequence in (1, 2):
        batch = loop.ingest(sequence, hour(8 + sequence, lean=0.5 if sequence == 1 else 0.9))
    request = loop.request(batch)
    models = {
        train_model(
            request, with_training(loop.pipeline, window=window), loop.store, loop.settings
        ).record.model  # type: ignore[attr-defined]
        for window in ("all", {"half_life": "1h"})
    }
    assert len(models) == 2


def test_a_window_that_leaves_nothing_to_learn_from_is_an_error_that_names_it(
    loop: Loop, hour: Hour
) -> None:
    loop.ingest(1, hour(9))
    request = loop.request(loop.ingest(2, hour(10).assign(pollutant_avg=np.nan)))
    newest = with_training(loop.pipeline, window={"last": "1 batch"})
    with pytest.raises(WillNotPass, match=r"training\.window: last: 1 batch leaves 0 rows"):
        loop.train(request, newest)


@pytest.fixture
def eight_hours(loop: Loop, hour: Hour) -> RetrainRequested:
    """After eight batches in the course of which the target's place has changed for good."""
    for sequence in range(1, 9):
        rows = hour(8 + sequence, stations=12, lean=0.1 if sequence < 4 else 0.9)
        batch = loop.ingest(sequence, rows)
    return loop.request(batch)


def test_the_best_window_is_chosen_by_validation_and_said(
    loop: Loop, eight_hours: RetrainRequested
) -> None:
    model, _ = loop.train(eight_hours)
    window = model.metrics["window"]
    assert window["policy"] == "auto"
    assert [each["window"] for each in window["candidates"]][:2] == [
        "all, without parts of the time",
        "all, with parts of the time",
    ]
    (chosen,) = (each for each in window["candidates"] if each["chosen"])
    assert chosen["window"].startswith(window["chosen"])
    assert chosen["error"] == min(
        each["error"] for each in window["candidates"] if each["p"] is None or each["p"] <= 0.01
    )
    json.dumps(model.metrics, allow_nan=False)


def test_the_same_inputs_give_the_same_model(loop: Loop, hour: Hour) -> None:
    request = loop.request(loop.ingest(1, hour(9)))
    one = train_model(request, loop.pipeline, loop.store, loop.settings)
    two = train_model(request, loop.pipeline, loop.store, loop.settings)
    assert isinstance(one.record, ModelVersion)
    assert isinstance(two.record, ModelVersion)
    assert one.record.model == two.record.model
    assert one.record.window == two.record.window
    assert one.events[0].event_id == two.events[0].event_id


def flowers() -> Pipeline:
    """A pipeline without times that tells classes."""
    return Pipeline.model_validate(
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


def flower_rows() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    petal = rng.normal(3, 1, 300)
    return pd.DataFrame(
        {
            "petal": petal,
            "colour": pd.Series(rng.choice(["white", "blue"], 300), dtype="str"),
            "kind": pd.Series(np.where(petal > 3, "virginica", "setosa"), dtype="str"),
        }
    )


def test_a_table_without_times_that_tells_classes(store: Store, settings: Settings) -> None:
    pipeline, rows = flowers(), flower_rows()
    loop = Loop(store, settings, pipeline)
    first, _ = loop.train(loop.request(loop.ingest(1, rows)))
    assert first.metrics["accuracy"] > 0.9
    assert first.reason.startswith("first model: log loss ")
    assert "last_event_at" not in first.metrics["held_out"]
    assert first.metrics["feature_importance"]["petal"] > 0.9
    json.dumps(first.metrics, allow_nan=False)
    upside_down = rows.assign(petal=6 - rows["petal"])
    second, event = loop.train(_set_reference(loop, 2, upside_down))
    assert isinstance(event, ModelPromoted)
    assert second.metrics["accuracy"] > 0.9
    assert second.metrics["held_out"] == {"rows": "chosen by a hash of their group"}
    assert second.metrics["baseline"]["kind"] == "shares of the classes"


# The gate, through the whole of it.


@pytest.mark.parametrize("policy", ["not_worse", "always"])
@pytest.mark.parametrize(
    ("changes", "guard"),
    [
        ({"publish": {"max_file_bytes": 1000}}, "small enough for the repository"),
        ({"gate": {"min_groups": 500}}, "enough held-out rows"),
        ({"gate": {"min_rows": 5000}}, "enough held-out rows"),
    ],
)
def test_a_guard_rejects_whatever_the_policy_says(
    policy: str, changes: dict[str, dict[str, int]], guard: str, loop: Loop, hour: Hour
) -> None:
    content = loop.pipeline.model_dump(by_alias=True)
    content["gate"]["policy"] = policy
    for part, values in changes.items():
        content[part] |= values
    model, event = loop.train(
        loop.request(loop.ingest(1, hour(9))), Pipeline.model_validate(content)
    )
    assert isinstance(event, ModelRejected)
    assert f"not {guard} (" in model.reason
    failed = [each["name"] for each in model.metrics["gate"]["guards"] if not each["passed"]]
    assert failed == [guard]
    assert loop.store.champion("air_quality") is None


def test_a_model_worse_than_the_baseline_is_no_champion(loop: Loop, hour: Hour) -> None:
    """One that is given nothing to go by."""
    blind = with_training(loop.pipeline, features=["latitude"], time_parts=[])
    blind = with_training(blind, parameters={"n_estimators": 1, "min_samples_leaf": 1})
    model, event = loop.train(loop.request(loop.ingest(1, hour(9))), blind)
    assert isinstance(event, ModelRejected)
    assert "not better than the baseline (" in event.reason
    assert model.metrics["mae"] > model.metrics["baseline"]["mae"]


def test_a_person_is_asked_to_look_once_after_so_many_rejections(loop: Loop, hour: Hour) -> None:
    loop.train(loop.request(loop.ingest(1, hour(6))))
    stump = with_training(loop.pipeline, parameters={"n_estimators": 1, "max_depth": 1})
    reviews = []
    for sequence in range(2, 7):
        model, events = loop.outcome(loop.request(loop.ingest(sequence, hour(5 + sequence))), stump)
        assert isinstance(events[0], ModelRejected)
        reviews += [event for event in events if isinstance(event, ReviewNeeded)]
        if model.version == 4:
            (review,) = reviews
            assert (review.model_version, review.champion_version) == (4, 1)
            assert (review.sequence, review.rejections) == (4, 3)
            assert review.reason == model.reason
    assert len(reviews) == 1


def test_people_hear_of_the_first_rejection_where_nothing_was_ever_promoted(
    loop: Loop, hour: Hour
) -> None:
    """And of the third one in a row, and of no other."""
    content = loop.pipeline.model_dump(by_alias=True)
    content["publish"] |= {"max_file_bytes": 1000}
    small = Pipeline.model_validate(content)
    asked = []
    for sequence in range(1, 5):
        _, events = loop.outcome(loop.request(loop.ingest(sequence, hour(5 + sequence))), small)
        assert isinstance(events[0], ModelRejected)
        asked += [event.rejections for event in events if isinstance(event, ReviewNeeded)]
    assert asked == [1, 3]


def test_a_training_that_is_done_again_asks_a_person_again_with_the_same_event(
    loop: Loop, hour: Hour
) -> None:
    """A worker that died before it recorded the outcome leaves no second message."""
    content = loop.pipeline.model_dump(by_alias=True)
    content["gate"] |= {"review_after": 1, "min_rows": 5000}
    pipeline = Pipeline.model_validate(content)
    request = loop.request(loop.ingest(1, hour(9)))
    first, second = (
        train_model(request, pipeline, loop.store, loop.settings).events for _ in range(2)
    )
    assert [event.type for event in first] == ["ModelRejected", "ReviewNeeded"]
    assert [event.event_id for event in first] == [event.event_id for event in second]


def test_a_request_older_than_a_decided_one_comes_too_late(loop: Loop, hour: Hour) -> None:
    old = loop.request(loop.ingest(1, hour(9)))
    loop.train(loop.request(loop.ingest(2, hour(10))))
    with pytest.raises(
        WillNotPass, match="v1 was trained for batch 2, which is newer than batch 1"
    ):
        loop.train(old)


# Tables that are hard to learn from.


def test_a_batch_of_a_hundred_rows_is_enough_for_a_first_model(loop: Loop, hour: Hour) -> None:
    rows = hour(9, stations=20)
    rows = rows[rows["pollutant_avg"].notna()].head(100)
    model, event = loop.train(loop.request(loop.ingest(1, rows)))
    assert isinstance(event, ModelPromoted)
    assert model.metrics["data_stats"]["test_samples"] >= 20


def test_a_target_that_never_changes_is_learnt(loop: Loop, hour: Hour) -> None:
    for sequence in (1, 2):
        rows = hour(8 + sequence).assign(pollutant_avg=7.0)
        model, event = loop.train(loop.request(loop.ingest(sequence, rows)))
        assert isinstance(event, ModelPromoted)
    assert (model.metrics["mae"], model.metrics["r2_score"]) == (0, None)
    assert model.metrics["comparison"]["relative_difference"] == 0
    json.dumps(model.metrics, allow_nan=False)


def test_a_target_of_one_class_is_learnt(store: Store, settings: Settings) -> None:
    pipeline = flowers()
    rows = flower_rows().assign(kind=pd.Series(["setosa"] * 300, dtype="str"))
    loop = Loop(store, settings, pipeline)
    model, _ = loop.train(loop.request(loop.ingest(1, rows)))
    assert (model.metrics["log_loss"], model.metrics["accuracy"]) == (0, 1)
    json.dumps(model.metrics, allow_nan=False)


def test_rows_none_of_which_has_a_time_or_a_segment_are_learnt_from(loop: Loop, hour: Hour) -> None:
    content = loop.pipeline.model_dump(by_alias=True)
    content["schema"]["columns"]["last_update"]["required"] = False
    content["schema"]["columns"]["pollutant_id"]["required"] = False
    timeless = Pipeline.model_validate(content)
    rows = hour(9)
    rows = rows.assign(
        last_update=pd.Series(pd.NaT, index=rows.index, dtype=rows["last_update"].dtype),
        pollutant_id=pd.Series([None] * len(rows), dtype="str"),
    )
    for window in ("auto", {"last": "2h"}, {"half_life": "2h"}):
        stated = with_training(timeless, window=window)
        outcome = train_model(loop.request(loop.ingest(1, rows)), stated, loop.store, loop.settings)
        assert isinstance(outcome.record, ModelVersion)
        assert [each["segment"] for each in outcome.record.metrics["segments"]] == ["(missing)"]
        assert outcome.record.metrics["held_out"]["first_event_at"] is None
        loop.store.collection(Batch).delete_many({})


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
    authenticate(loop.store)
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
    set_as_reference(3, loop.store)
    loop.store.record(check_of(batch, verdict="reference set", sequence=3))
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
    held_out = loop.held_out(model)
    assert held_out["last_update"].dt.strftime("%Y-%m").eq("2025-03").all()
    assert 4 < model.metrics["mae"] < 8
    assert model.metrics["r2_score"] > 0.8
    assert model.metrics["mae"] < model.metrics["champion"]["mae"]
