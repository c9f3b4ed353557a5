"""The search: folds in the order of time, the best of what was tried, and the time it may take."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import cross_val_score

from services.trainer.estimators import build_model
from services.trainer.search import MOST_COMBINATIONS, Found, search, time_ordered_folds
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from tests.air_quality_rows import with_training

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STATIONS = Pipeline.model_validate(
    {
        "name": "stations",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "station": {"type": "category"},
                "at": {"type": "time", "required": False},
                "x": {"type": "number"},
                "y": {"type": "number"},
                "kind": {"type": "category"},
            },
            "event_time": "at",
        },
        "training": {
            "target": "y",
            "task": "regression",
            "features": ["x"],
            "group": ["station"],
            "seed": 3,
        },
    }
)
KINDS = with_training(
    STATIONS, task="classification", target="kind", estimator="logistic_regression"
)


def table(hours: int = 8, stations: int = 30) -> pd.DataFrame:
    """A row a station and hour; y is |x| with noise, and the kind its sign in one case of ten."""
    rng = np.random.default_rng([hours, stations])
    size = hours * stations
    x = rng.normal(size=size)
    y = np.abs(x) + rng.normal(0, 0.3, size)
    return pd.DataFrame(
        {
            "station": np.tile([f"station {number}" for number in range(stations)], hours),
            "at": pd.to_datetime([BEGIN + timedelta(hours=row // stations) for row in range(size)]),
            "x": x,
            "y": y,
            "kind": np.where((x > 0) ^ (rng.random(size) < 0.1), "above", "below"),
        }
    )


def searching(
    pipeline: Pipeline, grid: dict[str, list[object]], seconds: float = 600, **changes: object
) -> Pipeline:
    return with_training(pipeline, search={"grid": grid, "seconds": seconds}, **changes)


def with_constants(
    shares: list[object], budget: float = 600, **parameters: object
) -> tuple[Pipeline, tuple[str]]:
    """A search among constant predictions; the best is low, as most of |x| is."""
    name = "tests.third_party_estimators.Constant"
    pipeline = searching(STATIONS, {"share": shares}, budget, estimator=name, parameters=parameters)
    return pipeline, (name,)


@st.composite
def any_rows(draw: st.DrawFn) -> pd.DataFrame:
    """Rows of few or many event times, some without one, of few or many stations."""
    size = draw(st.integers(1, 60))
    hours = st.integers(0, draw(st.integers(0, 40))) | st.none()
    at = [
        pd.NaT if hour is None else BEGIN + timedelta(hours=hour)
        for hour in draw(st.lists(hours, min_size=size, max_size=size))
    ]
    station = draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    rows = pd.DataFrame(
        {
            "station": [f"station {number}" for number in station],
            "at": pd.Series(at, dtype="datetime64[us, UTC]"),
            "x": 1.0,
            "y": 1.0,
            "kind": [str(number % 2) for number in station],
        }
    )
    return rows.sort_values("at", kind="stable", na_position="first").reset_index(drop=True)


@given(any_rows(), st.integers(2, 6))
def test_no_fold_predicts_from_newer_rows_than_it_validates_on(
    rows: pd.DataFrame, count: int
) -> None:
    folds = time_ordered_folds(rows, STATIONS, count)
    age = rows["at"].fillna(BEGIN - timedelta(days=1))  # rows without a time count as the oldest
    unit = rows["station"] + age.astype(str)
    assert len(folds) <= count
    for earlier, later in folds:
        assert len(earlier)
        assert len(later)
        assert age.iloc[earlier].max() <= age.iloc[later].min()
        assert not set(unit.iloc[earlier]) & set(unit.iloc[later])
    validated = np.concatenate([later for _, later in folds]) if folds else np.array([])
    learnt_first = folds[0][0] if folds else np.arange(len(rows))
    assert sorted([*learnt_first, *validated]) == list(range(len(rows)))


@pytest.mark.parametrize("hours", [4, 8, 100])
def test_with_times_enough_no_time_is_on_both_sides(hours: int) -> None:
    rows = table(hours)
    folds = time_ordered_folds(rows, STATIONS, 3)
    assert [len(later) for _, later in folds] == [hours // 4 * 30] * 3
    for earlier, later in folds:
        assert rows["at"].iloc[earlier].max() < rows["at"].iloc[later].min()


@pytest.mark.parametrize("hours", [1, 2])
def test_with_few_times_groups_are_the_unit(hours: int) -> None:
    rows = table(hours)
    rows = pd.concat([rows, rows]).sort_values("at", kind="stable").reset_index(drop=True)
    folds = time_ordered_folds(rows, STATIONS, 3)
    assert [len(later) for _, later in folds] == pytest.approx([hours * 15] * 3, abs=2)


def test_rows_without_event_time_are_folded_by_group() -> None:
    without = STATIONS.model_copy(
        update={"data": STATIONS.data.model_copy(update={"event_time": None})}
    )
    rows = table()
    folds = time_ordered_folds(rows, without, 3)
    assert len(folds) == 3
    for earlier, later in folds:
        assert not set(rows["station"].iloc[earlier]) & set(rows["station"].iloc[later])


def test_a_fold_whose_earlier_rows_are_of_one_class_is_left_out() -> None:
    rows = table().assign(kind=["above"] * 130 + ["below"] * 110)
    assert len(time_ordered_folds(rows, STATIONS, 3)) == 3
    assert [len(earlier) for earlier, _ in time_ordered_folds(rows, KINDS, 3)] == [180]


def own_scores(pipeline: Pipeline, rows: pd.DataFrame, found: Found, scoring: str) -> float:
    """scikit-learn's score of what was found, every predicted row counting the same."""
    assert pipeline.training.search
    folds = time_ordered_folds(rows, pipeline, pipeline.training.search.folds)
    parameters = {f"estimator__{name}": value for name, value in found.parameters.items()}
    model = build_model(pipeline).set_params(**parameters)
    target = rows[pipeline.training.target].to_numpy()
    scores = cross_val_score(model, rows, target, cv=folds, scoring=scoring)
    return float(np.average(scores, weights=[len(later) for _, later in folds]))


def test_the_better_parameter_is_found() -> None:
    own = {"max_depth": 1, "n_estimators": 20, "min_samples_leaf": 5}
    grid = {"max_depth": [1, 6], "n_estimators": [20]}
    pipeline, rows = searching(STATIONS, grid, parameters=own), table()
    found = search(pipeline, rows)
    assert found.parameters == {"max_depth": 6, "n_estimators": 20, "min_samples_leaf": 5}
    assert (found.tried, found.of, found.failed) == (2, 2, ())
    worse = own_scores(pipeline, rows, replace(found, parameters=own), "neg_mean_absolute_error")
    assert found.error is not None
    assert found.error < -0.8 * worse


@pytest.mark.parametrize(
    ("base", "metric", "scoring", "to_error"),
    [
        (STATIONS, "mae", "neg_mean_absolute_error", lambda score: -score),
        (STATIONS, "rmse", "neg_mean_squared_error", lambda score: (-score) ** 0.5),
        (KINDS, "log_loss", "neg_log_loss", lambda score: -score),
        (KINDS, "accuracy", "accuracy", lambda score: 1 - score),
    ],
)
def test_the_error_is_the_deciding_metrics_over_all_predicted_rows(
    base: Pipeline, metric: str, scoring: str, to_error: Callable[[float], float]
) -> None:
    grid: dict[str, list[object]] = {"C": [0.01]} if base is KINDS else {"max_depth": [3]}
    pipeline, rows = searching(base, grid, metric=metric), table(hours=7)
    found = search(pipeline, rows)
    expected = to_error(own_scores(pipeline, rows, found, scoring))
    assert found.error == pytest.approx(expected)


def test_a_class_that_only_later_rows_hold_has_a_large_and_finite_loss() -> None:
    rows = table()
    rows.loc[rows["at"] == rows["at"].max(), "kind"] = "beside"
    found = search(searching(KINDS, {"C": [0.1]}), rows)
    assert found.error is not None
    assert 5 < found.error < 40


def test_the_pipelines_own_parameters_come_first_and_stay_unless_others_are_better() -> None:
    pipeline, allowed = with_constants([0.2, 0.7, 0.9, 1.0], budget=1e-9, share=0.7)
    found = search(pipeline, table(), allowed)
    assert (found.tried, found.of) == (1, 4)
    assert found.parameters == pipeline.training.parameters


def test_equal_errors_change_nothing() -> None:
    grid = {"n_jobs": [None, 1], "warm_start": [False, True]}
    pipeline = searching(STATIONS, grid, parameters={"n_estimators": 3})
    found = search(pipeline, table())
    assert found.parameters == {"n_estimators": 3}
    assert (found.tried, found.of) == (4, 4)


def test_values_that_are_equal_and_not_the_same_are_both_tried() -> None:
    found = search(searching(STATIONS, {"max_features": [1, 1.0]}), table())
    assert (found.tried, found.of) == (2, 2)  # 1.0, all features, is the forest's default


def test_no_combination_is_begun_after_the_time() -> None:
    slow = {"share": 0.7, "seconds": 0.1}
    pipeline, allowed = with_constants([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], budget=0.5, **slow)
    found = search(pipeline, table(), allowed)
    # Three folds of a tenth of a second each: after two combinations the time is over.
    assert 1 <= found.tried <= 2
    assert found.of == 7
    assert found.seconds >= 0.3 * found.tried


def test_the_order_depends_on_the_seed_alone() -> None:
    pipeline, allowed = with_constants([1.5, 2.5, 3.5, 4.5, 5.5, 6.5], share=0.3)
    orders = [
        search(with_training(pipeline, seed=seed), table(), allowed).failed for seed in (1, 2, 3, 3)
    ]
    assert len(set(orders)) == 3
    assert len({frozenset(order) for order in orders}) == 1
    assert len(orders[0]) == 6


def test_a_combination_that_cannot_be_fitted_is_named_and_passed_over() -> None:
    pipeline, allowed = with_constants([0.1, 7.0], share=0.9)
    found = search(pipeline, table(), allowed)
    assert found.parameters == {"share": 0.1}
    assert found.failed == ("share=7.0: share is 7.0",)
    assert (found.tried, found.of) == (3, 3)


def test_own_parameters_that_cannot_be_fitted_are_replaced() -> None:
    pipeline, allowed = with_constants([0.1], share=9)
    found = search(pipeline, table(), allowed)
    assert found.parameters == {"share": 0.1}
    assert found.failed == ("the parameters as they are: share is 9",)


def test_if_nothing_can_be_fitted_the_error_says_why() -> None:
    pipeline, allowed = with_constants([7.0, 8.0], share=9)
    with pytest.raises(WillNotPass, match=r"training.search: none of the 3 .*; .*: share is 9"):
        search(pipeline, table(), allowed)


def test_predictions_that_are_not_finite_are_a_failure() -> None:
    pipeline, allowed = with_constants([0.1], offset=float("inf"))
    with pytest.raises(WillNotPass, match="what it predicts is not finite"):
        search(pipeline, table(), allowed)


def test_what_ends_a_fit_from_outside_ends_the_search() -> None:
    name = "tests.third_party_estimators.Endless"
    pipeline = searching(STATIONS, {"share": [0.1]}, estimator=name)
    with pytest.raises(SoftTimeLimitExceeded):
        search(pipeline, table(), (name,))


def test_rows_that_give_no_fold_leave_the_parameters_as_they_are() -> None:
    pipeline, allowed = with_constants([0.1, 0.2], share=0.3)
    found = search(pipeline, table(hours=1, stations=1), allowed)
    assert found.parameters == {"share": 0.3}
    assert (found.error, found.tried, found.of) == (None, 0, 3)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"max_dept": [1]}, "training.search.grid.max_dept: .* did you mean 'max_depth'"),
        ({"max_depth": [3, -1]}, "training.search.grid.max_depth: .* Got -1"),
        ({"random_state": [1, 2]}, "training.search.grid.random_state: set training.seed"),
    ],
)
def test_a_grid_that_cannot_be_used_is_an_error_before_any_fit(
    grid: dict[str, list[object]], words: str
) -> None:
    with pytest.raises(WillNotPass, match=words):
        search(searching(STATIONS, grid), table().iloc[:0])


def test_a_grid_without_a_value_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_depth"):
        searching(STATIONS, {"max_depth": []})


def test_of_a_huge_grid_some_combinations_are_drawn() -> None:
    grid: dict[str, list[object]] = {
        name: [value / 1001 for value in range(1, 1001)]
        for name in ("max_features", "max_samples", "min_samples_leaf", "min_impurity_decrease")
    }
    pipeline = searching(STATIONS, grid, seconds=1e-9, parameters={"n_estimators": 1})
    found = search(pipeline, table())
    assert (found.tried, found.of) == (1, MOST_COMBINATIONS + 1)
