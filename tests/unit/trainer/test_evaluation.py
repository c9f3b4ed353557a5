"""Metrics against figures worked out by hand and against scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import f1_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from services.trainer.evaluation import (
    classification_metrics,
    evaluate,
    feature_importance,
    regression_metrics,
)
from shared.pipeline import Training

VALUES = st.integers(-(10**8), 10**8).map(lambda cents: cents / 100)


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def test_errors_worked_out_by_hand() -> None:
    actual, predicted = np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 3.0])
    assert regression_metrics(actual, predicted) == {
        "mae": pytest.approx(4 / 3),
        "mse": pytest.approx(10 / 3),
        "rmse": pytest.approx(math.sqrt(10 / 3)),
        "r2_score": pytest.approx(1 - 10 / 14),
    }


@pytest.mark.parametrize("actual", [[5.0], [5.0, 5.0, 5.0]])
def test_r2_is_none_where_the_target_has_no_spread(actual: list[float]) -> None:
    metrics = regression_metrics(np.array(actual), np.zeros(len(actual)))
    assert metrics == {"mae": 5, "mse": 25, "rmse": 5, "r2_score": None}


@settings(deadline=None)
@given(
    st.integers(1, 20).flatmap(
        lambda n: st.tuples(arrays(float, n, elements=VALUES), arrays(float, n, elements=VALUES))
    )
)
def test_no_figure_is_nan_or_infinite(pair: tuple[np.ndarray, np.ndarray]) -> None:
    metrics = regression_metrics(*pair)
    assert all(figure is None or math.isfinite(figure) for figure in metrics.values())
    assert metrics["mae"] <= metrics["rmse"] * (1 + 1e-9)


def test_classes_worked_out_by_hand() -> None:
    metrics = classification_metrics(
        texts("no", "yes", "yes", "no"),
        np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1], [0.5, 0.5]]),
        texts("no", "yes"),
    )
    assert metrics == {
        "log_loss": pytest.approx(-sum(map(math.log, (0.8, 0.6, 0.1, 0.5))) / 4),
        "accuracy": 0.75,
        "macro_f1": pytest.approx((0.8 + 2 / 3) / 2),
    }


def test_several_classes_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    classes = texts("a", "b", "c")
    actual = rng.choice(classes, 50)
    shares = rng.dirichlet([1, 1, 1], 50)
    metrics = classification_metrics(actual, shares, classes)
    assert metrics["log_loss"] == pytest.approx(log_loss(actual, shares, labels=classes))
    predicted = classes[shares.argmax(axis=1)]
    assert metrics["macro_f1"] == pytest.approx(f1_score(actual, predicted, average="macro"))
    assert metrics["accuracy"] == np.mean(actual == predicted)


def test_a_class_that_the_model_never_saw_costs_much_and_not_everything() -> None:
    metrics = classification_metrics(
        texts("no", "perhaps"), np.array([[1.0, 0.0], [0.5, 0.5]]), texts("no", "yes")
    )
    assert metrics["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)
    assert metrics["accuracy"] == 0.5


def test_one_class_alone() -> None:
    metrics = classification_metrics(texts("no", "no"), np.ones((2, 1)), texts("no"))
    assert metrics == {"log_loss": 0, "accuracy": 1, "macro_f1": 1}


ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 1.0, 3.0, 3.0]})


def test_a_model_is_asked_about_the_rows_and_told_the_target() -> None:
    training = Training(target="y", task="regression", features=("x",))
    model = make_pipeline(FunctionTransformer(), DummyRegressor()).fit(ROWS, ROWS["y"])
    assert evaluate(model, ROWS, training)["mae"] == 1


def test_a_classifier_is_asked_for_probabilities() -> None:
    rows = ROWS.assign(y=["b", "a", "a", "a"]).astype({"y": "str"})
    training = Training(target="y", task="classification", features=("x",))
    model = make_pipeline(FunctionTransformer(), DummyClassifier()).fit(rows, rows["y"].to_numpy())
    metrics = evaluate(model, rows, training)
    assert metrics["accuracy"] == 0.75
    assert metrics["log_loss"] == pytest.approx(-(math.log(0.25) + 3 * math.log(0.75)) / 4)


def test_an_estimator_without_importances_has_none() -> None:
    steps = make_pipeline(FunctionTransformer(), DummyRegressor())
    steps.steps[-1] = ("estimator", DummyRegressor())
    assert feature_importance(steps.fit(ROWS, ROWS["y"])) == {}
