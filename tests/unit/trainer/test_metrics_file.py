"""What `metrics.json` says, made of a real plan, fit and trial of simulated rows."""

import json
from typing import Any

import numpy as np
import pytest

from services.trainer.challenger import fit_model, make_plan
from services.trainer.evaluation import judge
from services.trainer.gate import Evidence, decide
from services.trainer.metrics_file import metrics_content
from services.trainer.trial import hold_trial
from services.trainer.window import hold_out, pool_of
from shared.events import RetrainRequested, first_event_fields
from shared.pipeline import Pipeline
from shared.settings import Settings
from tests.air_quality_rows import batch_rows, raw_rows, with_training

SETTINGS = Settings(redis_url="redis://nowhere", mongodb_uri="mongodb://nowhere")


def content(
    pipeline: Pipeline, *, champion: bool = False, batches: int = 2, timed: bool = True
) -> dict[str, Any]:
    """The file of a model on simulated hours; a champion is the model itself."""
    if not timed:
        data = pipeline.data.model_copy(update={"event_time": None})
        pipeline = pipeline.model_copy(update={"data": data})
    parts = [
        (hour, batch_rows(raw_rows(20, hour=f"2026-01-05 {8 + hour:02}:00"), pipeline))
        for hour in range(1, batches + 1)
    ]
    pool = pool_of(parts, [], pipeline)
    sides = hold_out(pool, pipeline, np.zeros(len(pool.rows), dtype=bool))
    plan = make_plan(pool, sides.training, pipeline, SETTINGS)
    learnt, held_out = pool.rows.iloc[plan.training], pool.rows.iloc[sides.held_out]
    fitted = fit_model(learnt, plan.recipe, pipeline, SETTINGS)
    against = judge(fitted.model, held_out, pipeline.training) if champion else None
    trial = hold_trial(fitted.model, against, learnt, held_out, pipeline)
    asked = RetrainRequested(
        **first_event_fields("air_quality", "test"), reason="drift", sequence=batches
    )
    evidence = Evidence(
        metric=pipeline.training.deciding_metric,
        challenger=trial.losses.mean,
        baseline=float(trial.baseline.losses.mean()),
        negligible=trial.negligible,
        rows=len(held_out),
        groups=len(trial.losses.rows),
        new_to_both=True,
        comparison=trial.comparison,
        champion_version=3 if champion else None,
        segments=trial.segments,
        model_bytes=1,
        max_file_bytes=2,
        loads=None,
        note="",
    )
    verdict = decide(asked, evidence, pipeline.gate)
    version = 3 if champion else None
    return metrics_content(fitted, plan, trial, verdict, learnt, held_out, pipeline, version)


@pytest.fixture(scope="module")
def quick(air_quality: Pipeline) -> Pipeline:
    return with_training(air_quality, parameters={"n_estimators": 5})


def test_of_a_first_model_nothing_is_compared(quick: Pipeline) -> None:
    found = content(quick)
    assert (found["champion"], found["comparison"], found["search"]) == (None, None, None)
    assert {each["relative_difference"] for each in found["segments"]} == {None}
    assert {each["champion"] for each in found["segments"]} == {None}
    assert found["parameters"] == {"n_estimators": 5}
    assert found["features"] == {"columns": list(quick.training.features), "time_parts": []}


def test_of_a_champion_there_are_its_version_and_the_same_metrics(quick: Pipeline) -> None:
    found = content(quick, champion=True)
    metrics = ("mae", "mse", "rmse", "r2_score", "mape")
    assert found["champion"] == {"version": 3} | {name: found[name] for name in metrics}
    assert found["baseline"].keys() == {"kind", *metrics}
    assert found["comparison"] == {
        "metric": "mae",
        "difference": 0,
        "interval": (0, 0),
        "relative_difference": 0,
        "relative_interval": (0, 0),
        "confidence": 0.95,
        "rows": found["data_stats"]["test_samples"],
        "groups": found["comparison"]["groups"],
        "resamples": 4000,
        "seed": 42,
    }
    assert {each["relative_difference"] for each in found["segments"]} == {0}


def test_counts_add_up(quick: Pipeline) -> None:
    found = content(quick)
    counts = found["data_stats"]
    assert counts["training_samples"] + counts["test_samples"] == counts["total_samples"]
    assert found["window"]["rows"] == counts["training_samples"]
    assert sum(each["rows"] for each in found["segments"]) == counts["test_samples"]
    for each in found["segments"]:
        assert each["groups"] <= each["rows"]
        assert each["few"] == (each["rows"] < 30 or each["groups"] < 5)


def test_times_are_those_of_the_rows(quick: Pipeline) -> None:
    found = content(quick)
    assert found["window"]["first_event_at"] == "2026-01-05T09:00:00+05:30"
    assert found["held_out"] == {
        "rows": "the newest, whole groups",
        "first_event_at": "2026-01-05T10:00:00+05:30",
        "last_event_at": "2026-01-05T10:00:00+05:30",
        "older_than_training": False,
    }


def test_without_event_times_the_file_says_how_rows_were_held_out(quick: Pipeline) -> None:
    found = content(with_training(quick, time_parts=()), timed=False)
    assert found["held_out"] == {"rows": "chosen by a hash of their group"}
    assert "first_event_at" not in found["window"]


def test_the_search_and_the_candidates_are_said(quick: Pipeline) -> None:
    coarse = {"n_estimators": 5, "min_samples_leaf": 80}
    grid = {"min_samples_leaf": [1, 5]}
    found = content(with_training(quick, parameters=coarse, search={"grid": grid}), batches=8)
    search = found["search"]
    assert search["tried"] == search["of"]
    assert (search["error"] > 0, search["failed"]) == (True, [])
    assert found["parameters"]["min_samples_leaf"] in (1, 5)
    candidates = found["window"]["candidates"]
    assert sum(each["chosen"] for each in candidates) == 1
    assert candidates[0]["p"] is None
    assert candidates[0]["window"] == "all, without parts of the time"
    assert all(each["folds"] >= 3 for each in candidates)


@pytest.mark.parametrize("champion", [False, True])
def test_it_is_json_without_nan(champion: bool, quick: Pipeline) -> None:
    found = content(quick, champion=champion)
    assert json.loads(json.dumps(found, allow_nan=False)).keys() == found.keys()
