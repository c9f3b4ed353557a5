"""The permutation test of a risen mean loss, against SciPy and under what it assumes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from services.drift.calibration import rise
from services.drift.calibration.rise import (
    PERMUTATIONS,
    RESOLUTION,
    mean_interval,
    rise_p_value,
)
from shared.scoring import GroupLosses


def losses(generator: np.random.Generator, groups: int, scale: float = 1.0) -> GroupLosses:
    """Skewed losses in groups of unequal size, those of one group alike."""
    rows = generator.integers(1, 12, groups)
    level = scale * generator.lognormal(0, 0.6, groups)
    sums = np.array([generator.exponential(level[i], rows[i]).sum() for i in range(groups)])
    return GroupLosses(sums, rows.astype(float))


def single(values: list[float]) -> GroupLosses:
    """One row a group."""
    return GroupLosses(np.asarray(values, float), np.ones(len(values)))


def scipy_p(before: GroupLosses, now: GroupLosses) -> float:
    """SciPy's permutation test over all ways to split the groups, of a statistic in plain words."""
    sums = np.concatenate([before.sums, now.sums])
    rows = np.concatenate([before.rows, now.rows])

    def mean_and_variance(chosen: np.ndarray) -> tuple[float, float]:
        s, r = sums[chosen.astype(int)], rows[chosen.astype(int)]
        mean = s.sum() / r.sum()
        variance = len(s) * np.var(s - mean * r, ddof=1) / r.sum() ** 2
        return mean, variance

    def statistic(first: np.ndarray, second: np.ndarray) -> float:
        (then, spread), (after, other) = mean_and_variance(first), mean_and_variance(second)
        return float((after - then) / np.sqrt(spread + other))

    numbers = np.arange(len(sums))
    found = stats.permutation_test(
        (numbers[: len(before.rows)], numbers[len(before.rows) :]),
        statistic,
        permutation_type="independent",
        n_resamples=np.inf,
        alternative="greater",
        vectorized=False,
    )
    return float(found.pvalue)


@pytest.mark.parametrize(("then", "now", "scale"), [(6, 5, 1.0), (5, 7, 1.6), (7, 5, 2.2)])
def test_p_is_scipys(then: int, now: int, scale: float) -> None:
    generator = np.random.default_rng([then, now])
    before, after = losses(generator, then), losses(generator, now, scale)
    exact = scipy_p(before, after)
    found = rise_p_value(before, after, seed=1)
    # 100 or more permutations at least as large, or all of them drawn
    assert found == pytest.approx(exact, rel=0.3, abs=4 * RESOLUTION)


def test_statistic_of_single_rows_is_welchs() -> None:
    generator = np.random.default_rng(4)
    before, now = generator.exponential(1, 30), generator.exponential(1.5, 12)
    table = rise._moments(single(before.tolist()), single(now.tolist()))
    total, first = table.sum(axis=0), table[:30].sum(axis=0)
    welch = stats.ttest_ind(now, before, equal_var=False).statistic
    assert rise._statistic(total, first[None])[0] == pytest.approx(welch)


@given(
    st.lists(st.floats(0, 1e6), min_size=5, max_size=12),
    st.lists(st.floats(0, 1e6), min_size=5, max_size=12),
)
@settings(max_examples=40, deadline=None)
def test_p_is_a_share_that_does_not_depend_on_the_unit(
    before: list[float], now: list[float]
) -> None:
    p = rise_p_value(single(before), single(now), seed=7)
    assert RESOLUTION <= p <= 1
    scaled = [single([1024 * value for value in side]) for side in (before, now)]
    assert rise_p_value(*scaled, seed=7) == p


def test_level_is_held_for_skewed_losses_in_unequal_groups() -> None:
    generator = np.random.default_rng(5)
    p = np.array([rise_p_value(losses(generator, 40), losses(generator, 9), i) for i in range(600)])
    for level in (0.5, 0.1, 0.02):
        assert stats.binomtest(int((p <= level).sum()), 600, level, "greater").pvalue > 0.001
    assert (p <= 0.1).mean() > 0.05


def test_power_on_both_sides() -> None:
    generator = np.random.default_rng(6)
    before = losses(generator, 100)
    assert rise_p_value(before, losses(generator, 60, scale=2), 1) == RESOLUTION
    assert rise_p_value(before, losses(generator, 60, scale=0.5), 1) > 0.99


def test_same_losses_and_seed_give_the_same_p() -> None:
    generator = np.random.default_rng(8)
    before, now = losses(generator, 50), losses(generator, 20, 1.3)
    assert rise_p_value(before, now, 3) == rise_p_value(before, now, 3)


def test_a_small_p_takes_all_permutations() -> None:
    generator = np.random.default_rng(9)
    p = rise_p_value(losses(generator, 60), losses(generator, 30, 1.7), 1)
    assert RESOLUTION <= p < 0.01
    assert (p / RESOLUTION) == pytest.approx(round(p * (PERMUTATIONS + 1)))


def test_many_groups_use_the_normal_limit_and_agree_with_permutations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(10)
    before, now = losses(generator, 900), losses(generator, 700, 1.12)
    permuted = rise_p_value(before, now, 1)
    monkeypatch.setattr(rise, "MOST_PERMUTED", 699)
    assert rise_p_value(before, now, 1) == pytest.approx(permuted, rel=0.4)
    assert 0.0005 < permuted < 0.2


@pytest.mark.parametrize(
    ("before", "now", "p"),
    [
        (single([0.0] * 9), single([0.0] * 9), 1.0),
        (single([2.0] * 9), single([2.0] * 9), 1.0),
        (single([1.0] * 20), single([0.0] * 20), 1.0),
        (single([0.0] * 20), single([1.0] * 20), RESOLUTION),
        # the same loss in every row, the groups of different sizes
        (GroupLosses(0.1 * np.arange(1, 9), np.arange(1.0, 9)), single([0.1] * 9), 1.0),
    ],
)
def test_losses_without_spread(before: GroupLosses, now: GroupLosses, p: float) -> None:
    assert rise_p_value(before, now, 1) == p


def test_interval_of_single_rows_is_students() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    student = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(single(values)) == pytest.approx((student.low, student.high))


def test_interval_holds_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    truth = losses(generator, 200_000).mean
    intervals = [mean_interval(losses(generator, 60)) for _ in range(1000)]
    held = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.90 < held < 0.97  # the losses are skewed: a little less than 95 %


def test_interval_does_not_reach_below_zero() -> None:
    low, high = mean_interval(single([0.0, 0.0, 0.0, 0.0, 10.0]))
    assert low == 0 < high
