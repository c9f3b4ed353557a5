"""Losses worked out by hand, and their sums by group."""

import io
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from shared.scoring import (
    LEAST_PROBABILITY,
    Floats,
    GroupLosses,
    Predicted,
    error_of,
    groups_of,
    predict,
    row_losses,
)
from shared.training import Metric, Training

RNG = np.random.default_rng(5)


def classes(*names: object) -> pd.Series:
    return pd.Series(names, dtype="str")


# The loss of a row.


@pytest.mark.parametrize(
    ("metric", "losses", "error"),
    [("mae", [1, 0, 3], 4 / 3), ("rmse", [1, 0, 9], math.sqrt(10 / 3))],
)
def test_losses_of_numbers(metric: Metric, losses: list[float], error: float) -> None:
    found = row_losses(np.array([2.0, 2.0, 3.0]), pd.Series([1.0, 2.0, 6.0]), metric)
    assert found.tolist() == losses
    assert error_of(float(found.mean()), metric) == pytest.approx(error)


SHARES = pd.DataFrame({"no": [0.8, 0.4, 0.9], "yes": [0.2, 0.6, 0.1]})


def test_losses_of_classes() -> None:
    actual = classes("no", "yes", "yes")
    assert row_losses(SHARES, actual, "accuracy").tolist() == [0, 0, 1]
    assert row_losses(SHARES, actual, "log_loss") == pytest.approx(
        [-math.log(0.8), -math.log(0.6), -math.log(0.1)]
    )


def test_a_class_that_the_model_does_not_know_is_wrong_and_costs_much_and_not_everything() -> None:
    actual = classes("perhaps", "perhaps", "no")
    assert row_losses(SHARES, actual, "accuracy").tolist() == [1, 1, 0]
    losses = row_losses(SHARES, actual, "log_loss")
    assert losses[:2] == pytest.approx([-math.log(LEAST_PROBABILITY)] * 2)
    assert np.isfinite(losses).all()


def test_a_share_of_zero_costs_as_much_as_a_class_that_is_not_known() -> None:
    sure = pd.DataFrame({"no": [1.0], "yes": [0.0]})
    assert row_losses(sure, classes("yes"), "log_loss") == row_losses(
        sure, classes("perhaps"), "log_loss"
    )


def test_a_model_of_one_class() -> None:
    alone = pd.DataFrame({"no": [1.0, 1.0]})
    assert row_losses(alone, classes("no", "yes"), "accuracy").tolist() == [0, 1]
    assert row_losses(alone, classes("no", "no"), "log_loss").tolist() == [0, 0]


@given(st.floats(-1e9, 1e9), st.integers(2, 200))
def test_the_mean_of_equal_numbers_predicts_them_without_an_error(value: float, rows: int) -> None:
    actual = pd.Series([value] * rows)
    predicted = np.full(rows, sum([value] * rows) / rows)
    assert row_losses(predicted, actual, "mae").tolist() == [0.0] * rows
    assert row_losses(predicted, actual, "rmse").tolist() == [0.0] * rows


def test_a_share_that_is_one_but_for_the_last_digits_has_no_loss() -> None:
    sure = pd.DataFrame({"no": [1 - 2e-16], "yes": [2e-16]})
    assert row_losses(sure, classes("no"), "log_loss").tolist() == [0.0]


def _numbers() -> tuple[Predicted, pd.Series]:
    return RNG.normal(size=200), pd.Series(RNG.normal(size=200))


def _classes() -> tuple[Predicted, pd.Series]:
    shares = pd.DataFrame(RNG.dirichlet([1, 2, 3], 200), columns=["a", "b", "c"])
    return shares, pd.Series(RNG.choice(["a", "b", "c"], 200))


@pytest.mark.parametrize(
    ("metric", "sample", "reference"),
    [
        ("mae", _numbers, mean_absolute_error),
        ("rmse", _numbers, root_mean_squared_error),
        ("log_loss", _classes, log_loss),
        (
            "accuracy",
            _classes,
            lambda actual, said: 1 - accuracy_score(actual, said.idxmax(axis=1)),
        ),
    ],
)
def test_the_error_is_that_of_scikit_learn(
    metric: Metric,
    sample: Callable[[], tuple[Predicted, pd.Series]],
    reference: Callable[[pd.Series, Predicted], float],
) -> None:
    predicted, actual = sample()
    error = error_of(float(row_losses(predicted, actual, metric).mean()), metric)
    assert error == pytest.approx(reference(actual, predicted))


# What a model says.

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 1.0, 3.0, 3.0]}, index=[9, 7, 5, 3])


def test_a_regressor_says_numbers() -> None:
    training = Training(target="y", task="regression", features=("x",))
    model = make_pipeline(FunctionTransformer(), DummyRegressor()).fit(ROWS, ROWS["y"])
    assert np.asarray(predict(model, ROWS, training)).tolist() == [2, 2, 2, 2]


def test_a_classifier_says_shares_under_the_names_of_its_classes() -> None:
    training = Training(target="y", task="classification", features=("x",))
    model = make_pipeline(FunctionTransformer(), DummyClassifier()).fit(ROWS, [0, 1, 1, 1])
    said = predict(model, ROWS, training)
    expected = pd.DataFrame({"0": 0.25, "1": 0.75}, index=ROWS.index)
    pd.testing.assert_frame_equal(pd.DataFrame(said), expected)


# Groups.


def test_rows_equal_in_all_group_columns_are_one_group() -> None:
    rows = pd.DataFrame({"a": ["x", "x", "y", "x"], "b": [1, 2, 1, 1]})
    groups = groups_of(rows, ("a", "b"))
    assert groups[0] == groups[3]
    assert len(set(groups)) == 3


def test_rows_without_a_group_are_one_group_together() -> None:
    rows = pd.DataFrame({"a": pd.Series(["x", None, "y", None, "x"], dtype="str")})
    groups = groups_of(rows, ("a",))
    assert groups[1] == groups[3]
    assert len(set(groups)) == 3
    assert groups.min() == 0


def test_without_group_columns_each_row_is_one() -> None:
    assert groups_of(ROWS, ()).tolist() == [0, 1, 2, 3]


LOSSES = st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 12)), min_size=1, max_size=60)


@given(LOSSES)
def test_sums_by_group_lose_nothing(pairs: list[tuple[float, int]]) -> None:
    losses = np.array([loss for loss, _ in pairs])
    groups = np.array([group for _, group in pairs], dtype=np.intp)
    found = GroupLosses.of(losses, groups)
    assert len(found.rows) == len(set(groups.tolist()))
    assert found.rows.sum() == len(pairs)
    assert (found.rows > 0).all()
    assert found.mean == pytest.approx(losses.mean())
    again = GroupLosses.from_bytes(found.to_bytes())
    np.testing.assert_array_equal(again.sums, found.sums)
    np.testing.assert_array_equal(again.rows, found.rows)
    assert again.to_bytes() == found.to_bytes()


def test_sums_by_group_worked_out_by_hand() -> None:
    found = GroupLosses.of(np.array([1.0, 2.0, 4.0]), np.array([3, 0, 3]))
    assert (found.sums.tolist(), found.rows.tolist()) == ([2, 5], [1, 2])
    assert found.mean == pytest.approx(7 / 3)


def _saved(table: Floats) -> bytes:
    sink = io.BytesIO()
    np.save(sink, table, allow_pickle=True)
    return sink.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"not an array", _saved(np.zeros((3, 4))), _saved(np.array([{}, {}], dtype=object))],
    ids=["a text", "another shape", "a pickle"],
)
def test_other_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"pickle|unpack"):
        GroupLosses.from_bytes(data)
