"""Metrics and comparisons, against figures worked out by hand, scikit-learn, SciPy, simulation."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import (
    f1_score,
    log_loss,
    mean_absolute_percentage_error,
    r2_score,
    roc_auc_score,
)
from sklearn.pipeline import Pipeline as Steps
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from services.trainer.estimators import build_model, input_columns
from services.trainer.evaluation import (
    Comparison,
    Judged,
    SegmentComparison,
    baseline,
    by_segment,
    classification_metrics,
    compare,
    feature_importance,
    judge,
    judge_predictions,
    regression_metrics,
    relative,
)
from shared.pipeline import Pipeline
from shared.scoring import LEAST_PROBABILITY, Floats, error_of
from shared.training import Metric, Task, Training
from tests.air_quality_rows import batch_rows, raw_rows, with_training

VALUES = st.integers(-(10**8), 10**8).map(lambda cents: cents / 100)


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def shares(table: list[list[float]], *classes: str) -> pd.DataFrame:
    return pd.DataFrame(table, columns=list(classes))


# Metrics of numbers.


def test_errors_worked_out_by_hand() -> None:
    actual, predicted = np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 3.0])
    assert regression_metrics(actual, predicted) == {
        "mae": pytest.approx(4 / 3),
        "mse": pytest.approx(10 / 3),
        "rmse": pytest.approx(math.sqrt(10 / 3)),
        "r2_score": pytest.approx(1 - 10 / 14),
        "mape": pytest.approx((1 + 0 + 1 / 2) / 3),
    }


@pytest.mark.parametrize("actual", [[5.0], [5.0, 5.0, 5.0]])
def test_r2_is_none_where_the_target_has_no_spread(actual: list[float]) -> None:
    metrics = regression_metrics(np.array(actual), np.zeros(len(actual)))
    assert metrics == {"mae": 5, "mse": 25, "rmse": 5, "r2_score": None, "mape": 1}


def test_errors_as_shares_are_none_where_a_target_is_zero() -> None:
    metrics = regression_metrics(np.array([0.0, 4.0]), np.array([1.0, 3.0]))
    assert metrics["mape"] is None
    assert metrics["mae"] == 1


def test_numbers_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    actual, predicted = rng.normal(5, 1, 80), rng.normal(5, 1, 80)
    metrics = regression_metrics(actual, predicted)
    assert metrics["r2_score"] == pytest.approx(r2_score(actual, predicted))
    assert metrics["mape"] == pytest.approx(mean_absolute_percentage_error(actual, predicted))


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


# Metrics of classes.


def test_classes_worked_out_by_hand() -> None:
    metrics = classification_metrics(
        shares([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1], [0.5, 0.5]], "no", "yes"),
        texts("no", "yes", "yes", "no"),
    )
    assert metrics == {
        "log_loss": pytest.approx(-sum(map(math.log, (0.8, 0.6, 0.1, 0.5))) / 4),
        "accuracy": 0.75,
        "macro_f1": pytest.approx((0.8 + 2 / 3) / 2),
        "roc_auc": 0.5,  # of the four pairs of a yes and a no, two are in the right order
    }


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_classes_agree_with_scikit_learn(classes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    actual = rng.choice(texts(*classes), 50)
    table = rng.dirichlet([1] * len(classes), 50)
    metrics = classification_metrics(pd.DataFrame(table, columns=list(classes)), actual)
    assert metrics["log_loss"] == pytest.approx(log_loss(actual, table, labels=list(classes)))
    predicted = texts(*classes)[table.argmax(axis=1)]
    assert metrics["macro_f1"] == pytest.approx(f1_score(actual, predicted, average="macro"))
    assert metrics["accuracy"] == np.mean(actual == predicted)
    area = (
        roc_auc_score(actual == "b", table[:, 1])
        if len(classes) == 2
        else roc_auc_score(actual, table, multi_class="ovr")
    )
    assert metrics["roc_auc"] == pytest.approx(area)


def test_the_order_of_a_models_classes_changes_nothing() -> None:
    table = shares([[0.8, 0.2], [0.4, 0.6]], "no", "yes")
    actual = texts("no", "no")
    assert classification_metrics(table, actual) == classification_metrics(
        table[["yes", "no"]], actual
    )


def test_a_class_that_the_model_never_saw_costs_much_and_not_everything() -> None:
    table = shares([[1.0, 0.0], [0.5, 0.5]], "no", "yes")
    metrics = classification_metrics(table, texts("no", "perhaps"))
    assert metrics["log_loss"] == pytest.approx(-math.log(LEAST_PROBABILITY) / 2)
    assert metrics["accuracy"] == 0.5
    assert metrics["roc_auc"] is None


def test_one_class_alone() -> None:
    metrics = classification_metrics(shares([[1.0], [1.0]], "no"), texts("no", "no"))
    assert metrics == {"log_loss": 0, "accuracy": 1, "macro_f1": 1, "roc_auc": None}


def test_rows_of_one_class_alone_have_no_area_under_the_curve() -> None:
    metrics = classification_metrics(
        shares([[0.8, 0.2], [0.6, 0.4]], "no", "yes"), texts("no", "no")
    )
    assert metrics["roc_auc"] is None
    assert metrics["accuracy"] == 1


@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_the_deciding_error_is_the_metric_that_is_shown(metric: Metric) -> None:
    rng = np.random.default_rng(8)
    training = Training(target="y", task="classification", features=("x",), metric=metric)
    rows = pd.DataFrame({"y": rng.choice(["a", "b", "c", "d"], 60)})
    table = pd.DataFrame(rng.dirichlet([1, 1, 1], 60), columns=["a", "b", "c"])
    judged = judge_predictions(table, rows, training)
    shown = judged.metrics[metric] if metric == "log_loss" else 1 - judged.metrics[metric]
    assert error_of(float(judged.losses.mean()), metric) == pytest.approx(shown)


# A model is asked.

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 1.0, 3.0, 3.0]})


def test_a_model_is_asked_about_the_rows_and_told_the_target() -> None:
    training = Training(target="y", task="regression", features=("x",))
    model = make_pipeline(FunctionTransformer(), DummyRegressor()).fit(ROWS, ROWS["y"])
    judged = judge(model, ROWS, training)
    assert judged.metrics["mae"] == 1
    assert judged.losses.tolist() == [1, 1, 1, 1]


def test_a_classifier_is_asked_for_probabilities() -> None:
    rows = ROWS.assign(y=["b", "a", "a", "a"]).astype({"y": "str"})
    training = Training(target="y", task="classification", features=("x",))
    model = make_pipeline(FunctionTransformer(), DummyClassifier()).fit(rows, rows["y"].to_numpy())
    metrics = judge(model, rows, training).metrics
    assert metrics["accuracy"] == 0.75
    assert metrics["log_loss"] == pytest.approx(-(math.log(0.25) + 3 * math.log(0.75)) / 4)


# The baseline.

KNOWN = pd.DataFrame(
    {
        "kind": pd.Series(["a", "a", "a", "b", "b", None], dtype="str"),
        "y": [1.0, 2.0, 9.0, 10.0, 20.0, 300.0],
        "colour": pd.Series(["red", "red", "blue", "blue", "blue", "red"], dtype="str"),
    }
)
ASKED = pd.DataFrame(
    {
        "kind": pd.Series(["b", "a", "new", None], dtype="str"),
        "y": [0.0, 0.0, 0.0, 0.0],
        "colour": pd.Series(["red", "blue", "green", "red"], dtype="str"),
    }
).set_axis([30, 10, 20, 5])


def naive(task: Task, metric: Metric, segment: str | None) -> tuple[str, Any]:
    target = "y" if task == "regression" else "colour"
    training = Training(target=target, task=task, features=("x",), metric=metric)
    kind, judged = baseline(KNOWN, ASKED, training, segment)
    return kind, judged.predicted


@pytest.mark.parametrize(
    ("metric", "segment", "kind", "said"),
    [
        ("mae", None, "median of the training rows", [9.5] * 4),
        ("rmse", None, "mean of the training rows", [57.0] * 4),
        ("mae", "kind", "median of the training rows by kind", [15, 2, 9.5, 9.5]),
        ("rmse", "kind", "mean of the training rows by kind", [15, 4, 57, 57]),
    ],
)
def test_the_typical_target_is_that_of_the_segment_if_it_is_known(
    metric: Metric, segment: str | None, kind: str, said: list[float]
) -> None:
    words, predicted = naive("regression", metric, segment)
    assert words == kind
    assert predicted.tolist() == pytest.approx(said)


def test_the_shares_of_the_classes_are_those_of_the_segment_if_it_is_known() -> None:
    words, predicted = naive("classification", "log_loss", "kind")
    assert words == "shares of the classes by kind"
    assert list(predicted.columns) == ["blue", "red"]
    assert predicted["red"].tolist() == pytest.approx([0, 2 / 3, 0.5, 0.5])
    assert predicted.index.tolist() == ASKED.index.tolist()
    overall = naive("classification", "log_loss", None)[1]
    assert overall["red"].tolist() == [0.5] * 4


def test_rows_none_of_which_has_a_segment_have_a_baseline() -> None:
    nowhere = KNOWN.assign(kind=pd.Series([None] * len(KNOWN), dtype="str"))
    for task, target in (("regression", "y"), ("classification", "colour")):
        training = Training(target=target, task=task, features=("x",))
        apart = baseline(nowhere, ASKED, training, "kind")[1]
        together = baseline(nowhere, ASKED, training, None)[1]
        assert apart.metrics == together.metrics


# The comparison.


def interval(
    new: Floats, old: Floats, groups: np.ndarray, metric: Metric = "mae", confidence: float = 0.95
) -> Comparison:
    return compare(new, old, groups, metric, confidence, seed=42)


def test_the_difference_is_that_of_the_errors_of_all_rows() -> None:
    found = interval(np.array([1.0, 3.0, 2.0]), np.array([2.0, 6.0, 4.0]), np.array([0, 0, 1]))
    assert found.difference == pytest.approx(2 - 4)
    assert found.relative_difference == pytest.approx(-0.5)
    assert (found.rows, found.groups, found.resamples, found.seed) == (3, 2, 4000, 42)
    assert found.relative_interval == pytest.approx((-0.5, -0.5)), "each row's loss is halved"


def test_rows_without_groups_agree_with_scipys_bootstrap() -> None:
    rng = np.random.default_rng(2)
    old = rng.gamma(2, 3, 300)
    new = old * 0.9 + rng.normal(0, 1, 300)
    found = interval(new, old, np.arange(300))
    expected = bootstrap(
        (new, old),
        lambda one, two, axis: one.mean(axis) - two.mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(9),
    ).confidence_interval
    assert found.interval == pytest.approx(expected, abs=0.06 * (expected.high - expected.low))


def test_the_error_of_squares_is_their_root() -> None:
    rng = np.random.default_rng(4)
    new, old = rng.gamma(2, 3, 200), rng.gamma(2, 3, 200)
    found = interval(new, old, np.arange(200), "rmse")
    assert found.difference == pytest.approx(new.mean() ** 0.5 - old.mean() ** 0.5)
    expected = bootstrap(
        (new, old),
        lambda one, two, axis: np.sqrt(one.mean(axis)) - np.sqrt(two.mean(axis)),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(9),
    ).confidence_interval
    assert found.interval == pytest.approx(expected, abs=0.06 * (expected.high - expected.low))


def _grouped(rng: np.random.Generator, groups: int, rows: int) -> tuple[Floats, np.ndarray]:
    """Differences of losses, true mean 0.3, most of whose spread is common to a whole group."""
    of_group = rng.normal(0.3, 1, groups)
    return np.repeat(of_group, rows) + rng.normal(0, 0.3, groups * rows), np.repeat(
        np.arange(groups), rows
    )


def _holds(found: Comparison) -> bool:
    return found.interval[0] <= 0.3 <= found.interval[1]


def test_the_interval_covers_the_truth_where_rows_of_a_group_depend_on_each_other() -> None:
    """And that of rows taken for independent ones does not."""
    rng = np.random.default_rng(11)
    by_group, by_row = 0, 0
    for _ in range(200):
        differences, groups = _grouped(rng, groups=40, rows=8)
        old = np.full(len(differences), 5.0)
        by_group += _holds(interval(old + differences, old, groups))
        by_row += _holds(interval(old + differences, old, np.arange(len(groups))))
    assert 180 <= by_group <= 199, "95 % of 200 are 190, with a standard deviation of 3"
    assert by_row < 130


def test_the_interval_covers_the_truth_with_few_groups_too() -> None:
    """The plain percentile interval of five groups holds it 86 times in a hundred."""
    rng = np.random.default_rng(12)
    covered = 0
    for _ in range(400):
        differences, groups = _grouped(rng, groups=5, rows=6)
        old = np.full(len(differences), 9.0)
        covered += _holds(interval(old + differences, old, groups))
    assert 362 <= covered <= 396, "95 % of 400 are 380, with a standard deviation of 4"


def test_what_is_hard_for_both_models_leaves_no_doubt_about_their_difference() -> None:
    rng = np.random.default_rng(3)
    old = rng.gamma(1, 50, 400)
    found = interval(old - 0.5 + rng.normal(0, 0.1, 400), old, np.arange(400))
    assert found.interval[1] < 0
    assert found.interval[1] - found.interval[0] < 0.1, "the losses themselves spread by 50"


def test_a_higher_confidence_has_a_wider_interval() -> None:
    rng = np.random.default_rng(5)
    new, old = rng.gamma(2, 3, 100), rng.gamma(2, 3, 100)
    narrow, wide = (interval(new, old, np.arange(100), confidence=share) for share in (0.8, 0.99))
    assert wide.interval[0] < narrow.interval[0] < narrow.interval[1] < wide.interval[1]


def test_models_that_are_never_wrong_do_not_differ() -> None:
    found = interval(np.zeros(4), np.zeros(4), np.arange(4))
    assert (found.difference, found.relative_difference) == (0, 0)
    assert found.relative_interval == found.interval == (0, 0)


def test_any_error_is_worse_than_none_by_a_finite_share() -> None:
    found = interval(np.array([0.0, 0.2, 0.1]), np.zeros(3), np.arange(3))
    assert found.relative_difference == 1
    assert found.relative_interval[1] == 1


def test_errors_that_differ_in_the_last_digits_are_equal() -> None:
    """Neither better nor worse, whatever the policy asks for."""
    old = np.array([0.3, 0.1, 0.2, 0.7])
    found = interval(old - 1e-17, old * (1 + 1e-15), np.arange(4))
    assert (found.difference, found.relative_difference) == (0, 0)
    assert found.relative_interval == found.interval == (0, 0)


def test_a_perfect_champion_is_not_beaten_by_the_last_digits_of_a_challenger() -> None:
    shares = relative(np.array([1e-9, 1e-3, 0.0]), np.zeros(3), negligible=1e-8)
    assert shares.tolist() == [0.0, 1.0, 0.0]
    assert relative(np.zeros(1), np.array([1e-9]), negligible=1e-8).tolist() == [0.0]


ERRORS = st.just(0.0) | st.floats(1e-9, 1e9)


@given(ERRORS, ERRORS, ERRORS)
def test_a_larger_error_is_never_smaller_as_a_share(one: float, two: float, old: float) -> None:
    less, more = sorted((one, two))
    found = relative(np.array([less, more]), np.array([old, old]))
    assert np.isfinite(found).all()
    assert found[0] <= found[1]
    assert found[0] <= 0 if less <= old else found[0] >= 0


def test_one_group_has_an_interval_without_width() -> None:
    """So it says nothing, and the gate asks for a number of groups."""
    found = interval(np.array([1.0, 2.0]), np.array([2.0, 4.0]), np.array([0, 0]))
    assert found.interval == pytest.approx((-1.5, -1.5))
    assert found.groups == 1


def test_the_same_losses_have_the_same_interval_in_whatever_pieces_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(6)
    new, old = rng.gamma(2, 3, 50), rng.gamma(2, 3, 50)
    at_once = interval(new, old, np.arange(50))
    monkeypatch.setattr("services.trainer.evaluation._PIECE", 50)
    one_by_one = interval(new, old, np.arange(50))
    assert one_by_one.interval == pytest.approx(at_once.interval, rel=1e-12)


# Segments.


def segmented(**gate: object) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "segmented",
            "source": {"kind": "manual"},
            "schema": {
                "columns": {
                    "kind": {"type": "category"},
                    "place": {"type": "category"},
                    "x": {"type": "number"},
                    "y": {"type": "number"},
                }
            },
            "training": {
                "target": "y",
                "task": "regression",
                "features": ["x"],
                "group": ["place"],
            },
            "gate": {"segment": "kind", "min_segment_rows": 6, "min_groups": 3} | gate,
        }
    )


SEGMENTED = pd.DataFrame(
    {
        "kind": pd.Series(["b"] * 8 + ["a"] * 8 + [None] * 5 + ["c"], dtype="str"),
        "place": pd.Series(
            [*"pqrspqrs", *"pqpqpqpq", *"pqrst", "p"],
            dtype="str",
        ),
        "y": [10.0] * 22,
    }
)


def judged_with(error: np.ndarray | float) -> Judged:
    pipeline = segmented()
    said = SEGMENTED["y"].to_numpy() + error
    return judge_predictions(said, SEGMENTED, pipeline.training)


def segments_of(champion: Judged | None, **gate: object) -> dict[str, SegmentComparison]:
    error = SEGMENTED["kind"].map({"a": 1.0, "b": 2.0, "c": 3.0}).fillna(4.0).to_numpy()
    found = by_segment(judged_with(error), champion, judged_with(9.0), SEGMENTED, segmented(**gate))
    return {each.segment: each for each in found}


def test_segments_have_their_own_figures_those_with_most_rows_first() -> None:
    found = segments_of(judged_with(4.0))
    assert list(found) == ["a", "b", "(missing)", "c"]
    assert [each.rows for each in found.values()] == [8, 8, 5, 1]
    assert [each.groups for each in found.values()] == [2, 4, 5, 1]
    assert [each.challenger["mae"] for each in found.values()] == [1, 2, 4, 3]
    for each in found.values():
        assert (each.champion or {})["mae"] == 4
        assert each.baseline["mae"] == 9
    differences = [
        each.comparison.relative_difference for each in found.values() if each.comparison
    ]
    assert differences == pytest.approx([-0.75, -0.5, 0, -0.25])


def test_few_are_a_segments_rows_or_its_groups() -> None:
    few = {name: each.few for name, each in segments_of(judged_with(4.0)).items()}
    assert few == {"b": False, "a": True, "(missing)": True, "c": True}
    assert not segments_of(None, min_segment_rows=5)["(missing)"].few
    assert not segments_of(None, min_groups=2)["a"].few


def test_without_a_champion_a_segment_is_not_compared() -> None:
    for each in segments_of(None).values():
        assert each.champion is None
        assert each.comparison is None


def test_the_rows_of_the_segments_are_all_rows() -> None:
    assert sum(each.rows for each in segments_of(None).values()) == len(SEGMENTED)


def test_without_a_segment_column_there_are_no_segments() -> None:
    assert (
        by_segment(judged_with(1.0), None, judged_with(1.0), SEGMENTED, segmented(segment=None))
        == []
    )


# Importance.


@pytest.fixture(scope="module")
def air_rows(air_quality: Pipeline) -> pd.DataFrame:
    return batch_rows(raw_rows(40), air_quality).dropna(ignore_index=True)


def fitted(pipeline: Pipeline, rows: pd.DataFrame) -> Steps:
    model = build_model(pipeline)
    return model.fit(rows[input_columns(pipeline)], rows["pollutant_avg"].to_numpy())


def test_a_forests_own_importances_are_added_up_by_feature(
    air_quality: Pipeline, air_rows: pd.DataFrame
) -> None:
    small = with_training(air_quality, parameters={"n_estimators": 5})
    found = feature_importance(fitted(small, air_rows), air_rows, small.training)
    assert list(found) == [
        *("latitude", "longitude", "pollutant_min", "pollutant_max", "pollutant_id"),
        *("hour", "day", "month"),
    ]
    assert sum(found.values()) == pytest.approx(1)
    assert found["pollutant_max"] > 0.3
    assert found["hour"] == 0, "all rows are of one hour"


@pytest.mark.parametrize(
    ("estimator", "parameters"), [("elastic_net", {}), ("hist_gradient_boosting", {"max_iter": 5})]
)
def test_other_models_importances_are_measured_by_shuffling_raw_columns(
    estimator: str, parameters: dict[str, int], air_quality: Pipeline, air_rows: pd.DataFrame
) -> None:
    other = with_training(air_quality, estimator=estimator, parameters=parameters)
    model = fitted(other, air_rows)
    found = feature_importance(model, air_rows, other.training)
    assert list(found) == input_columns(other)
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= 0
    assert found["pollutant_max"] + found["pollutant_min"] > 0.8
    assert found == feature_importance(model, air_rows, other.training)


def raw_columns(*names: str) -> ColumnTransformer:
    return ColumnTransformer([("numbers", "passthrough", list(names))])


def test_a_model_that_learnt_nothing_rests_on_nothing() -> None:
    training = Training(target="y", task="regression", features=("x",))
    steps = Steps([("features", raw_columns("x")), ("estimator", DummyRegressor())])
    model = steps.fit(ROWS[["x"]], ROWS["y"])
    assert feature_importance(model, ROWS, training) == {"x": 0}


class CountsSplits(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Says how often it used each column, as some libraries' estimators do."""

    def fit(self, x: np.ndarray, _y: np.ndarray) -> "CountsSplits":
        self.feature_importances_ = np.arange(x.shape[1]) * 7
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


def test_importances_that_are_counts_become_shares(
    air_quality: Pipeline, air_rows: pd.DataFrame
) -> None:
    model = build_model(air_quality)
    model.set_params(estimator=CountsSplits())
    columns = input_columns(air_quality)
    model.fit(air_rows[columns], air_rows["pollutant_avg"].to_numpy())
    found = feature_importance(model, air_rows, air_quality.training)
    assert sum(found.values()) == pytest.approx(1)


class Product(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts the product of two columns."""

    def fit(self, _x: np.ndarray, _y: np.ndarray) -> "Product":
        self.is_fitted_ = True
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.prod(x, axis=1))


def test_rows_in_a_regular_order_are_sampled_without_their_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every second row is of the kind for which x says nothing."""
    monkeypatch.setattr("services.trainer.evaluation._IMPORTANCE_ROWS", 200)
    x = np.random.default_rng(7).normal(size=400)
    rows = pd.DataFrame({"kind": np.tile([0.0, 1.0], 200), "x": x})
    rows["y"] = rows["kind"] * rows["x"]
    training = Training(target="y", task="regression", features=("kind", "x"))
    model = Steps([("features", raw_columns("kind", "x")), ("estimator", Product())])
    model.fit(rows[["kind", "x"]], rows["y"])
    assert feature_importance(model, rows, training)["x"] > 0.3
