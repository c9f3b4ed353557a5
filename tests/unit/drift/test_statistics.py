"""The figures of one column, against numpy, scipy and values worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from services.drift import Profile
from services.drift.policies.finding import Window
from services.drift.report.assembly import report
from services.drift.report.column_statistics import LARGEST_CHANGE, feature_stats, relative_change
from shared.drift import Drift, FeatureStats, PolicyName

any_floats = hnp.arrays(
    np.float64,
    st.integers(0, 40),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
)


Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def compare_feature(reference: Values, current: Values) -> FeatureStats:
    """The figures, by way of a profile and counts as in every check."""
    profile = Profile.fit(_table(reference), columns=("x",))
    return feature_stats(profile, profile.count(_table(current)))["x"]


def score(policy: PolicyName, reference: Values, current: Values) -> float:
    """The rule's score of a batch with one column."""
    profile = Profile.fit(_table(reference), columns=("x",))
    windows = [Window(profile.count(_table(current)))]
    rule = Drift(policy=policy, min_rows=1)
    found = report(profile, windows, rule, name="by hand", is_promoted=True)
    assert found.drift_score is not None
    return found.drift_score


def _table(values: Values) -> pd.DataFrame:
    """A row is added on which both sides agree, since a table without rows is no reference."""
    return pd.DataFrame({"x": [*values, np.nan], "same": "a"})


def test_figures_agree_with_numpy_and_scipy() -> None:
    rng = np.random.default_rng(1)
    reference, current = rng.normal(50, 10, 500), rng.normal(60, 20, 300)
    found = compare_feature(reference, current)
    assert found.ref_mean == pytest.approx(reference.mean())
    assert found.curr_mean == pytest.approx(current.mean())
    assert found.ref_std == pytest.approx(reference.std(ddof=1))
    assert found.curr_std == pytest.approx(current.std(ddof=1))
    distance = stats.wasserstein_distance(reference, current)
    assert found.wasserstein == pytest.approx(distance / reference.std(ddof=1), rel=0.03)


def test_changes_by_hand() -> None:
    reference, current = np.array([9.0, 10.0, 11.0]), np.array([10.0, 12.0, 14.0])
    found = compare_feature(reference, current)
    assert found.mean_change == pytest.approx(0.2)
    assert found.std_change == pytest.approx(1.0)
    assert score("mean_std_change", reference, current) == pytest.approx(0.6)
    assert score("mean_change", reference, current) == pytest.approx(0.2)


def test_missing_values_do_not_count() -> None:
    found = compare_feature(np.array([1.0, np.nan, 3.0]), np.array([np.inf, 2.0]))
    assert (found.ref_rows, found.curr_rows) == (2, 1)
    assert found.mean_change == 0.0


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        ([], [], 0.0),
        ([np.nan], [1.0, 2.0], 1.0),
        ([1.0, 2.0], [np.nan], 1.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [3.0, 3.0], 0.5),
        ([-1.0, 1.0], [-1.0, 1.0], 0.0),
        ([5.0, 5.0], [4.0, 6.0], 0.5),
        ([5.0], [5.0], 0.0),
    ],
)
def test_score_is_defined_at_the_edges(
    reference: list[float], current: list[float], expected: float
) -> None:
    assert score("mean_std_change", np.array(reference), np.array(current)) == pytest.approx(
        expected
    )


def test_edge_cases_say_why() -> None:
    empty = np.array([np.nan])
    some = np.array([1.0, 2.0])
    assert compare_feature(empty, some).note == "no value in the reference"
    assert compare_feature(some, empty).note == "no value in the batch"
    assert compare_feature(empty, empty).note == "no value in the reference, none in the batch"
    constant = compare_feature(np.zeros(3), some)
    assert constant.note == "reference mean and std zero: any change counts as 1"


def test_huge_values_do_not_overflow() -> None:
    huge = np.array([1e308, -1e308, 1.7e308])
    found = compare_feature(huge, huge / 2)
    assert found.std_change == pytest.approx(0.5)
    assert found.mean_change == pytest.approx(0.5)


@given(any_floats, any_floats)
@settings(max_examples=60, deadline=None)
def test_no_input_gives_nan_or_infinity(reference: Values, current: Values) -> None:
    found = compare_feature(reference, current)
    for value in found.model_dump().values():
        assert not isinstance(value, float) or np.isfinite(value)
    for policy in ("mean_std_change", "mean_change"):
        assert 0 <= score(policy, reference, current) <= LARGEST_CHANGE


@given(any_floats)
@settings(max_examples=60, deadline=None)
def test_a_sample_has_not_drifted_from_itself(values: Values) -> None:
    assert score("mean_change", values, values) == 0
    assert score("mean_std_change", values, values) == 0


@given(any_floats)
@settings(max_examples=60, deadline=None)
def test_order_of_rows_hardly_matters(values: Values) -> None:
    assert score("mean_std_change", values, values[::-1]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "current", "unit", "size", "change"),
    [
        (1e-17, 3e-17, 1e-17, 1.0, 0.0),
        (0.0, 7e-10, 0.0, 0.1, 0.0),
        (0.0, 0.01, 0.0, 0.1, 1.0),
        (0.1, 0.2, 0.1, 0.2, 1.0),
        (0.0, 0.0, 0.0, 0.0, 0.0),
    ],
    ids=["means near zero", "a spread in single precision", "a spread", "twice", "nothing"],
)
def test_last_digits_are_no_change(
    reference: float, current: float, unit: float, size: float, change: float
) -> None:
    assert relative_change(reference, current, unit=unit, size=size) == change


def test_relative_change_is_bounded() -> None:
    assert relative_change(0.0, 1.0, unit=1e-300) == LARGEST_CHANGE
    assert relative_change(0.0, 1e-300, unit=0.0) == 1.0
