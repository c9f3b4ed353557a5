"""The making of a model: what it learns from, with which features and weights."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.artifact import dump_model
from services.trainer.challenger import Fitted, Plan, Recipe, fit_model, make_plan
from services.trainer.estimators import ESTIMATORS
from services.trainer.evaluation import judge
from services.trainer.trial import hold_trial
from services.trainer.window import Pool, pool_of
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.scoring import negligible_error
from shared.settings import Settings
from shared.training import Window
from tests.air_quality_rows import with_training

NEIGHBOURS = "sklearn.neighbors.KNeighborsRegressor"

SETTINGS = Settings(
    redis_url="redis://nowhere",
    mongodb_uri="mongodb://nowhere",
    trainer_allowed_estimators=(NEIGHBOURS,),
)

TABLE = Pipeline.model_validate(
    {
        "name": "table",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "at": {"type": "time"},
                "place": {"type": "category"},
                "x": {"type": "number"},
                "y": {"type": "number"},
            },
            "event_time": "at",
            "key": ["place"],
        },
        "training": {
            "target": "y",
            "task": "regression",
            "features": ["x"],
            "time_parts": ["hour"],
            "estimator": "elastic_net",
            "parameters": {"alpha": 0.001},
        },
    }
)


def batch(hour: int, slope: float, rows: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(hour)
    x = rng.normal(size=rows)
    at = pd.Timestamp("2026-03-01", tz="UTC") + pd.Timedelta(hours=hour)
    return pd.DataFrame(
        {
            "at": pd.Series([at] * rows).dt.as_unit("us"),
            "place": pd.Series([f"p{number}" for number in range(rows)], dtype="str"),
            "x": x,
            "y": slope * x + rng.normal(0, 0.1, rows),
        }
    )


def pool(*slopes: float, pipeline: Pipeline = TABLE) -> Pool:
    """Batches 1, 2, 3, … an hour apart, the target of each a slope times x."""
    parts = [(hour, batch(hour, slope)) for hour, slope in enumerate(slopes, start=1)]
    return pool_of(parts, [], pipeline)


def planned(rows: Pool, pipeline: Pipeline = TABLE, **training: Any) -> Plan:
    everything = np.flatnonzero(rows.rows["y"].notna())
    return make_plan(rows, everything, with_training(pipeline, **training), SETTINGS)


def test_a_stated_window_is_taken_with_the_stated_features() -> None:
    plan = planned(pool(1, 2, 3), window={"last": "2 batches"})
    assert plan.recipe == Recipe(
        window=Window(policy="last", batches=2),
        time_parts=("hour",),
        parameters={"alpha": 0.001},
    )
    assert plan.training.tolist() == list(range(30, 90))
    assert plan.window.tolist() == list(range(30, 90))
    assert not plan.selection.candidates
    assert plan.found is None


def test_with_few_batches_all_rows_are_taken_without_parts_of_the_time() -> None:
    plan = planned(pool(1, 5, 9))
    assert str(plan.recipe.window) == "all"
    assert plan.recipe.time_parts == ()
    assert len(plan.training) == 90


def test_a_changed_slope_makes_the_window_short() -> None:
    plan = planned(pool(*[-3.0] * 7, *[3.0] * 7))
    assert plan.recipe.window.policy in ("last", "half_life")
    (chosen,) = (each for each in plan.selection.candidates if each.choice == plan.selection.choice)
    assert chosen.error < plan.selection.candidates[0].error / 2


def test_a_slope_that_stays_leaves_all_rows() -> None:
    plan = planned(pool(*[3.0] * 10))
    assert str(plan.recipe.window) == "all"
    assert len(plan.training) == 300


def test_rows_without_a_target_are_in_the_window_and_not_learnt_from() -> None:
    rows = pool(1, 1, 1)
    rows.rows.loc[::3, "y"] = np.nan
    plan = planned(rows, window={"last": "2 batches"})
    assert plan.window.tolist() == list(range(30, 90))
    assert set(plan.training) == {number for number in range(30, 90) if number % 3}


def test_what_is_held_out_is_not_looked_at() -> None:
    """Another target there changes neither window nor parameters."""
    search = {"grid": {"alpha": [0.001, 10.0]}}
    rows = pool(*[-3.0] * 7, *[3.0] * 7)
    training = np.arange(13 * 30 + 15)
    pipeline = with_training(TABLE, search=search)
    before = make_plan(rows, training, pipeline, SETTINGS)
    rows.rows.loc[13 * 30 + 15 :, "y"] = 1e9
    after = make_plan(rows, training, pipeline, SETTINGS)
    assert after.recipe == before.recipe
    assert before.found
    assert after.found
    assert after.found.error == before.found.error


def test_found_parameters_are_part_of_the_recipe() -> None:
    plan = planned(pool(*[3.0] * 4), parameters={"alpha": 50.0}, search={"grid": {"alpha": [0.01]}})
    assert plan.recipe.parameters == {"alpha": 0.01}
    assert plan.found
    assert plan.found.tried == plan.found.of


def test_a_half_life_for_an_estimator_without_weights_is_an_error_that_says_so() -> None:
    with pytest.raises(WillNotPass, match=r"training\.window: half_life gives rows weights"):
        make_plan(
            pool(1, 2),
            np.arange(60),
            with_training(TABLE, window={"half_life": "2h"}, estimator=NEIGHBOURS, parameters={}),
            SETTINGS,
        )


def test_a_window_that_leaves_few_rows_is_an_error_that_counts_them() -> None:
    rows = pool(1, 2)
    rows.rows.loc[33:, "y"] = np.nan
    with pytest.raises(
        WillNotPass, match=r"training\.window: last: 1 batch leaves 3 rows to train on, .* takes 10"
    ):
        planned(rows, window={"last": "1 batch"})


def _recipe(window: object) -> Recipe:
    parsed = Window.model_validate(window)
    return Recipe(window=parsed, time_parts=(), parameters={"alpha": 0.001})


def _slope(window: object) -> float:
    rows = pd.concat([batch(1, 0.0), batch(2, 4.0)], ignore_index=True)
    model = fit_model(rows, _recipe(window), TABLE, SETTINGS).model
    at = pd.DataFrame({"x": [0.0, 1.0]})
    low, high = model.predict(at)
    return float(high - low)


def test_newer_rows_weigh_more_with_a_half_life() -> None:
    """An hour older is 2⁻⁵ of the weight: the slope of both is nearly that of the newer rows."""
    assert _slope("all") == pytest.approx(2, abs=0.5)
    assert _slope({"half_life": "1h"}) > _slope("all") + 0.3
    assert planned(pool(0.0, 4.0), window={"half_life": "1h"}).training.tolist() == list(range(60))


def test_the_same_rows_and_recipe_give_the_same_bytes() -> None:
    forest = with_training(TABLE, estimator="random_forest", parameters={})
    recipe = _recipe({"half_life": "2h"}).model_copy(
        update={"parameters": {"n_estimators": 7}, "time_parts": ("hour",)}
    )
    rows = pd.concat([batch(1, 0.0), batch(2, 4.0)], ignore_index=True)
    one, two = (fit_model(rows, recipe, forest, SETTINGS) for _ in range(2))
    assert dump_model(one.model) == dump_model(two.model)
    assert one.fit_seconds > 0


def test_a_recipe_comes_back_from_its_json() -> None:
    recipe = Recipe(
        window=Window.model_validate({"half_life": "30d"}),
        time_parts=("hour", "day"),
        parameters={"a": None, "b": True, "c": 1, "d": 0.5, "e": "sqrt"},
    )
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


# Rows of one class.


def _classifying() -> Pipeline:
    content = TABLE.model_dump(by_alias=True)
    content["schema"]["columns"]["y"] = {"type": "category"}
    content["training"] |= {
        "task": "classification",
        "estimator": "logistic_regression",
        "parameters": {},
    }
    return Pipeline.model_validate(content)


def _classes(pipeline: Pipeline, of_one_class: int) -> Pool:
    """Eight batches, the oldest of which are of one class."""
    parts = []
    for hour in range(1, 9):
        rows = batch(hour, 1.0)
        said = np.where((rows["x"] > 0) & (hour > of_one_class), "yes", "no")
        parts.append((hour, rows.assign(y=pd.Series(said, dtype="str"))))
    return pool_of(parts, [], pipeline)


def test_where_a_time_cannot_be_learnt_from_alone_the_plain_choice_stands() -> None:
    pipeline = _classifying()
    rows = _classes(pipeline, of_one_class=3)
    plan = make_plan(rows, np.arange(len(rows.rows)), pipeline, SETTINGS)
    assert (str(plan.recipe.window), plan.recipe.time_parts) == ("all", ())
    assert not plan.selection.candidates
    assert fit_model(rows.rows, plan.recipe, pipeline, SETTINGS).model.classes_.tolist() == [
        *("no", "yes")
    ]


def _fit(rows: pd.DataFrame, estimator: str, pipeline: Pipeline, **parameters: Any) -> Fitted:
    recipe = Recipe(window=Window(policy="all"), time_parts=(), parameters=parameters)
    return fit_model(rows, recipe, with_training(pipeline, estimator=estimator), SETTINGS)


CLASSIFIERS = [each for each, tasks in ESTIMATORS.items() if "classification" in tasks]
REGRESSORS = [each for each, tasks in ESTIMATORS.items() if "regression" in tasks]


@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_of_one_class_every_estimator_makes_the_model_that_says_it(estimator: str) -> None:
    pipeline = _classifying()
    rows = _classes(pipeline, of_one_class=8).rows
    fitted = _fit(rows, estimator, pipeline)
    assert fitted.model.predict_proba(rows).tolist() == [[1.0]] * len(rows)
    assert fitted.note.startswith("all 240 training rows have the target 'no', so the model")


@pytest.mark.parametrize("estimator", REGRESSORS)
def test_of_a_constant_target_every_estimator_predicts_it_without_an_error(estimator: str) -> None:
    rows = batch(1, 0.0).assign(y=0.1)
    fitted = _fit(rows, estimator, TABLE)
    judged = judge(fitted.model, rows, TABLE.training)
    assert (judged.losses <= negligible_error(rows["y"], "mae")).all()
    assert fitted.note.startswith("all 30 training rows have the target 0.1, so the model")


@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_a_class_of_one_row_and_a_class_that_is_new_are_judged(estimator: str) -> None:
    pipeline = _classifying()
    rows = _classes(pipeline, of_one_class=0).rows
    rows.loc[7, "y"] = "once"
    fitted = _fit(rows, estimator, pipeline)
    later = rows.assign(y="never seen")
    losses = judge(fitted.model, later, pipeline.training).losses
    assert np.isfinite(losses).all()
    assert (losses > 1).all()


def test_an_estimator_that_refuses_a_class_of_one_row_learns_the_others() -> None:
    """With early stopping boosting divides the rows of each class."""
    pipeline = _classifying()
    rows = _classes(pipeline, of_one_class=0).rows
    rows.loc[7, "y"] = "once"
    fitted = _fit(rows, "hist_gradient_boosting", pipeline, early_stopping=True)
    assert fitted.model.classes_.tolist() == ["no", "yes"]
    assert "so these are left out: 'once' (1 rows). Ingest more rows" in fitted.note


def test_rows_that_cannot_be_learnt_from_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        WillNotPass,
        match=r"training\.estimator: elastic_net could not be fitted to these 30 rows\. Try other "
        r"training\.parameters or another training\.estimator\. ValueError says: ",
    ):
        _fit(batch(1, 0.0).assign(y=np.inf), "elastic_net", TABLE)


def test_a_fold_of_which_the_earlier_rows_are_of_one_class_is_left_out() -> None:
    pipeline = with_training(_classifying(), estimator="hist_gradient_boosting")
    rows = _classes(pipeline, of_one_class=2)
    plan = make_plan(rows, np.arange(len(rows.rows)), pipeline, SETTINGS)
    assert {len(each.errors) for each in plan.selection.candidates} <= {3, 5}
    assert len(plan.selection.candidates[0].errors) == 5


ODD_NUMBERS = st.sampled_from([0.0, 0.1, -0.1, 1.0, 1e-300, 1e100, 1e9, 2 / 3])
ODD_CLASSES = st.sampled_from(["a", "b", "1", "1.0", "", "nan", "é"])


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(["regression", "classification"]))
def test_whatever_the_targets_are_there_is_a_verdict_or_a_sentence(
    data: st.DataObject, task: str
) -> None:
    """Of few different targets some rows are learnt from, and others are judged on."""
    kinds, pipeline = (
        (ODD_NUMBERS, TABLE) if task == "regression" else (ODD_CLASSES, _classifying())
    )
    chosen = data.draw(st.lists(kinds, min_size=1, max_size=3, unique=True))
    targets = data.draw(st.lists(st.sampled_from(chosen), min_size=60, max_size=60))
    names = REGRESSORS if task == "regression" else CLASSIFIERS
    cheap = {"random_forest": {"n_estimators": 3}, "extra_trees": {"n_estimators": 3}}
    estimator = data.draw(st.sampled_from(names))
    if estimator == "hist_gradient_boosting":
        cheap[estimator] = {"max_iter": 3}
    rows = pd.concat([batch(1, 0.0), batch(2, 0.0)], ignore_index=True).assign(y=targets)
    learnt, held_out = rows.iloc[:35], rows.iloc[35:]
    fitted = _fit(learnt, estimator, pipeline, **cheap.get(estimator, {}))
    champion = judge(
        _fit(learnt, names[0], pipeline, n_estimators=3).model, held_out, pipeline.training
    )
    trial = hold_trial(fitted.model, champion, learnt, held_out, pipeline)
    assert trial.comparison
    assert np.isfinite(trial.comparison.relative_interval).all()
    assert np.isfinite(trial.losses.mean)
    if len(set(targets)) == 1:
        assert trial.comparison.relative_interval == (0, 0)
