"""The trial: all of them on the same rows."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline as Steps

from services.trainer.evaluation import compare, judge
from services.trainer.trial import hold_trial
from shared.pipeline import Pipeline
from shared.scoring import groups_of

PIPELINE = Pipeline.model_validate(
    {
        "name": "trial",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "place": {"type": "category"},
                "kind": {"type": "category"},
                "x": {"type": "number"},
                "z": {"type": "number"},
                "y": {"type": "number"},
            }
        },
        "training": {
            "target": "y",
            "task": "regression",
            "features": ["x", "z"],
            "metric": "rmse",
            "group": ["place"],
            "seed": 7,
        },
        "gate": {"segment": "kind", "confidence": 0.9},
    }
)


def rows(seed: int, count: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, count))
    return pd.DataFrame(
        {
            "place": rng.choice([f"p{number}" for number in range(40)], count),
            "kind": rng.choice(["a", "b"], count),
            "x": x,
            "z": z,
            "y": 3 * x + 2 * z + rng.normal(size=count),
        }
    )


def model(*columns: str) -> Steps:
    chosen = ColumnTransformer([("numbers", "passthrough", list(columns))])
    learnt = rows(1)
    return Steps([("features", chosen), ("estimator", LinearRegression())]).fit(learnt, learnt["y"])


def test_challenger_champion_and_baseline_predict_the_same_rows() -> None:
    held_out, training = rows(2), PIPELINE.training
    challenger, champion = model("x", "z"), judge(model("x"), held_out, training)
    trial = hold_trial(challenger, champion, rows(1), held_out, PIPELINE)
    own = judge(challenger, held_out, training)
    assert trial.challenger.metrics == own.metrics
    assert trial.champion is champion
    assert trial.baseline_kind == "mean of the training rows by kind"
    for judged in (trial.challenger, trial.baseline, champion):
        assert len(judged.losses) == len(held_out)
    groups = groups_of(held_out, ("place",))
    expected = compare(own.losses, champion.losses, groups, "rmse", 0.9, 7)
    assert trial.comparison
    assert asdict(trial.comparison) == asdict(expected)
    assert trial.comparison.relative_interval[1] < 0
    assert trial.losses.mean**0.5 == pytest.approx(own.metrics["rmse"])
    assert len(trial.losses.rows) == held_out["place"].nunique()
    assert {each.segment for each in trial.segments} == {"a", "b"}
    assert all(each.comparison for each in trial.segments)


def test_the_baseline_knows_nothing_of_the_held_out_rows() -> None:
    held_out = rows(2)
    learnt = rows(1).assign(y=100.0)
    trial = hold_trial(model("x"), None, learnt, held_out, PIPELINE)
    assert set(np.asarray(trial.baseline.predicted)) == {100.0}


def test_without_a_champion_nothing_is_compared() -> None:
    trial = hold_trial(model("x"), None, rows(1), rows(2), PIPELINE)
    assert trial.champion is None
    assert trial.comparison is None
    assert all(each.comparison is None for each in trial.segments)


def test_the_same_model_does_not_differ_from_itself() -> None:
    held_out = rows(2)
    champion = judge(model("x", "z"), held_out, PIPELINE.training)
    found = hold_trial(model("x", "z"), champion, rows(1), held_out, PIPELINE).comparison
    assert found
    assert (found.difference, found.interval, found.relative_interval) == (0, (0, 0), (0, 0))
