"""The quick answer of a model is the model's own, bit for bit."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import Pipeline as Steps
from sklearn.preprocessing import StandardScaler

from services.trainer.estimators import ESTIMATORS, build_model
from shared.pipeline import Pipeline
from shared.prediction import Question, ask
from shared.training import Task
from tests.air_quality_rows import batch_rows, raw_rows, with_training

MODELS = [(name, task) for name, tasks in ESTIMATORS.items() for task in tasks]


@pytest.fixture
def rows(air_quality: Pipeline) -> pd.DataFrame:
    """As batches hold them, of two hours: shuffled, with gaps, and under an index that repeats."""
    hours = ("2026-01-05 09:00", "2026-01-05 10:00")
    tables = [batch_rows(raw_rows(hour=hour), air_quality) for hour in hours]
    rows = pd.concat(tables).sample(frac=1, random_state=0)
    at = {name: position for position, name in enumerate(rows)}
    rows.iloc[::7, at["latitude"]] = np.nan
    rows.iloc[::11, at["pollutant_id"]] = np.nan
    rows.iloc[5, at["pollutant_id"]] = "unknown"
    return rows


def fitted(pipeline: Pipeline, name: str, task: Task, rows: pd.DataFrame) -> Steps:
    """A model of the pipeline with another estimator, on some of the rows."""
    target = {"regression": "pollutant_avg", "classification": "state"}[task]
    trees = {"n_estimators": 15} if name in ("random_forest", "extra_trees") else {}
    training = {"target": target, "task": task, "estimator": name, "parameters": trees}
    known = rows[rows[target].notna() & (rows["pollutant_id"] != "unknown")]
    return build_model(with_training(pipeline, **training)).fit(known, known[target])


@pytest.mark.parametrize(("name", "task"), MODELS)
def test_the_answer_is_the_models_own(
    name: str, task: Task, rows: pd.DataFrame, air_quality: Pipeline
) -> None:
    model = fitted(air_quality, name, task, rows)
    question: Question = "predict" if task == "regression" else "predict_proba"
    for some in (rows, rows[:1], rows.assign(last_update=rows["last_update"].dt.tz_convert("UTC"))):
        np.testing.assert_array_equal(ask(model, question, some), getattr(model, question)(some))


def test_of_rows_as_published_as_well(rows: pd.DataFrame, air_quality: Pipeline) -> None:
    model = fitted(air_quality, "random_forest", "regression", rows)
    published = raw_rows(hour="2026-01-06 09:00")
    np.testing.assert_array_equal(ask(model, "predict", published), model.predict(published))


def test_a_column_that_is_missing_is_told_as_the_model_does(
    rows: pd.DataFrame, air_quality: Pipeline
) -> None:
    model = fitted(air_quality, "random_forest", "regression", rows)
    with pytest.raises(ValueError, match=r"columns are missing: .*'latitude'"):
        ask(model, "predict", rows.drop(columns="latitude"))


class TwiceAsMuch(RandomForestRegressor):  # type: ignore[misc]
    """A forest whose answer is not the mean of its trees'."""

    def predict(self, X: object) -> np.ndarray:  # noqa: N803
        """Two times the mean."""
        return np.asarray(2 * super().predict(X))


def test_a_class_derived_from_a_forest_predicts_in_its_own_way(
    rows: pd.DataFrame, air_quality: Pipeline
) -> None:
    model = fitted(air_quality, "random_forest", "regression", rows)
    known = rows[rows["pollutant_avg"].notna()]
    steps = [*model.steps[:-1], ("scale", StandardScaler()), ("estimator", TwiceAsMuch(5))]
    own = Steps(steps).fit(known, known["pollutant_avg"])
    np.testing.assert_array_equal(ask(own, "predict", rows), own.predict(rows))
