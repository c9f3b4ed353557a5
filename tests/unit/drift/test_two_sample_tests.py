"""The tests within a cell, against scipy and against what is worked out by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import legendre
from scipy import stats
from scipy.spatial.distance import jensenshannon

from services.drift.calibration.cells import (
    CategoryTest,
    MissingTest,
    NumberTest,
    _chi_square_tail,
    bounded,
    middle_tail,
    upper_tail,
)
from services.drift.calibration.dependence import ClusteredRows, whitened
from services.drift.calibration.scores import normal_scores, smooth_scores
from services.drift.policies.columns import (
    chi_square,
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability,
)
from services.drift.report.column_statistics import wasserstein

counts = st.integers(0, 200)


def floats(*values: float) -> np.ndarray:
    return np.array(values, float)


@given(current=counts, reference=counts, n=st.integers(1, 500), m=st.integers(1, 5000))
def test_upper_tail_is_the_exact_conditional_binomial_tail(
    current: int, reference: int, n: int, m: int
) -> None:
    found = upper_tail(floats(current), floats(reference), floats(n), floats(m))
    expected = stats.binom.sf(current - 1, current + reference, n / (n + m))
    assert found[0] == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(current=counts, reference=counts, n=st.integers(1, 500), m=st.integers(1, 5000))
def test_middle_tail_counts_the_point_itself_half(
    current: int, reference: int, n: int, m: int
) -> None:
    found = middle_tail(floats(current), floats(reference), floats(n), floats(m))
    tail = stats.binom(current + reference, n / (n + m))
    half = tail.pmf(current) / 2
    smaller = min(tail.sf(current) + half, tail.cdf(current - 1) + half)
    assert found[0] == pytest.approx(smaller, rel=1e-6, abs=1e-290)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4])
def test_chi_square_tail_in_closed_form(degrees: int) -> None:
    statistic = np.linspace(0, 100, 400)
    found = _chi_square_tail(np.array(degrees), statistic)
    assert found == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-10)


def test_bounded_statistic_never_exceeds_what_few_rows_can_bear() -> None:
    huge = bounded(floats(1e9), 0.14, floats(10))
    assert huge[0] == pytest.approx(10 / 0.14, rel=1e-6)
    assert bounded(floats(5), 0.0, floats(10))[0] == 5


def test_smooth_scores_of_equal_bins_are_legendre_polynomials() -> None:
    bins = 2000
    scores, degrees = smooth_scores(np.full(bins, 1 / bins))
    assert degrees == 4
    ranks = 2 * (np.arange(bins) + 0.5) / bins - 1
    for degree in range(1, 4):  # the fourth is cut off at the ends
        expected = np.sqrt(2 * degree + 1) * legendre.Legendre.basis(degree)(ranks)
        own = scores[:, degree - 1] * np.sign(scores[-1, degree - 1])
        assert own == pytest.approx(expected, abs=0.01)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80))
@settings(deadline=None)
def test_smooth_scores_have_mean_zero_and_finite_values(rows: list[int]) -> None:
    total = sum(rows)
    shares = np.array(rows, float) / max(total, 1)
    scores, degrees = smooth_scores(shares)
    assert degrees == max(min(4, sum(count > 0 for count in rows) - 1), 0)
    assert np.isfinite(scores).all()
    assert shares @ scores == pytest.approx(np.zeros(4), abs=1e-6)


def test_normal_scores_are_standard_normal_quantiles() -> None:
    shares = np.full(400, 1 / 400)
    found = normal_scores(shares, 400)
    expected = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    inner = np.abs(expected) < 2
    assert found[inner] == pytest.approx(expected[inner], abs=0.02)
    assert np.abs(found).max() <= 2.5
    assert (found * 1024 == np.round(found * 1024)).all()


def two_way(first: np.ndarray, second: np.ndarray) -> float:
    return float(stats.chi2_contingency(np.stack([first, second]), correction=False).pvalue)


def test_category_test_is_chi_square_where_no_value_stands_out() -> None:
    reference, current = floats(400, 300, 200, 100), floats(50, 30, 15, 5)
    test = CategoryTest(design_effect=floats(1))
    found = test._chi_square(reference[None, None], current[None, None], *map(floats, (100, 1000)))
    assert found[0, 0] == pytest.approx(two_way(reference, current), rel=1e-9)


def test_rare_categories_are_merged() -> None:
    reference = floats(5000, 4990, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
    test = CategoryTest(design_effect=floats(1))
    current = floats(50, 49, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    p = test._chi_square(reference[None, None], current[None, None], *map(floats, (100, 10_000)))
    assert p[0, 0] > 0.0005  # each alone, the value seen once would weigh a hundredfold


def test_one_row_in_a_bucket_that_expects_less_is_no_chi_square() -> None:
    reference, current = floats(6000, 4000, 0), floats(59, 40, 1)
    test = CategoryTest(design_effect=floats(1))
    p = test.p_values(reference[None, None], current[None, None])[0, 0]
    exact = stats.binom.sf(0, 1, 100 / 10_100)
    assert p == pytest.approx(2 * exact, rel=1e-6)  # (3 filled buckets + 1) / 2 tries


def effect_of(reference: np.ndarray, current: np.ndarray) -> float:
    test = CategoryTest(design_effect=floats(1))
    return float(test.effects(reference[None, None], current[None, None])[0, 0])


@pytest.mark.parametrize("values", [5, 40, 400])
@pytest.mark.parametrize("rows", [30, 300, 3000])
def test_no_change_has_no_effect_on_average_however_many_values(values: int, rows: int) -> None:
    generator = np.random.default_rng(values + rows)
    shares = np.arange(1, values + 1) ** -1.2
    shares /= shares.sum()
    effects = []
    for _ in range(200):
        sides = (generator.multinomial(number, shares).astype(float) for number in (2000, rows))
        effects.append(effect_of(*sides))
    assert np.mean(effects) < 0.04
    assert np.mean(np.array(effects) >= 0.05) < (0.3 if rows == 30 else 0.05)


def test_effects_of_large_changes_are_near_their_total_variation() -> None:
    generator = np.random.default_rng(1)
    shares = np.full(50, 1 / 50)
    reference = generator.multinomial(5000, shares).astype(float)
    moved = np.r_[np.full(25, 1.4 / 50), np.full(25, 0.6 / 50)]
    assert 0.1 < effect_of(reference, generator.multinomial(3000, moved).astype(float)) < 0.21
    twenty = generator.multinomial(5000, np.full(20, 1 / 20)).astype(float)
    one = np.r_[0.3, np.full(19, 0.7 / 19)]
    found = effect_of(twenty, generator.multinomial(3000, one).astype(float))
    assert found == pytest.approx(0.25, abs=0.05)
    apart = np.r_[reference, np.zeros(50)], np.r_[np.zeros(50), reference]
    assert effect_of(*apart) == pytest.approx(1.0)
    assert effect_of(reference, 3 * reference) == 0


def test_a_new_value_in_two_of_a_hundred_rows_matters() -> None:
    assert effect_of(floats(6000, 4000, 0), floats(1760, 1180, 60)) > 0.08
    assert effect_of(floats(6000, 4000, 0), floats(1799, 1200, 1)) < 0.001


def test_missing_test_sees_more_and_fewer_missing_values() -> None:
    test = MissingTest(design_effect=floats(1))
    reference = (floats(980)[None], floats(20)[None])

    def p(missing: float) -> float:
        current = (floats(300 - missing)[None], floats(missing)[None])
        return float(test.p_values(reference, current)[0, 0])

    assert p(6) > 0.5
    assert p(21) < 1e-3
    tail = stats.binom(41, 300 / 1300)
    assert p(21) == pytest.approx(2 * (tail.sf(21) + tail.pmf(21) / 2))
    assert p(0) == pytest.approx((1000 / 1300) ** 20)


def test_missing_test_looks_at_the_rarer_side() -> None:
    test = MissingTest(design_effect=floats(1))
    mostly_missing = (floats(20)[None], floats(980)[None])
    mostly_present = mostly_missing[::-1]
    for now in (0, 3, 21):
        sides = floats(now)[None], floats(300 - now)[None]
        assert test.p_values(mostly_missing, sides) == test.p_values(mostly_present, sides[::-1])


def test_number_test_sees_a_stuck_value() -> None:
    reference = np.full(64, 100.0)
    current = np.full(64, 1.0)
    current[20] += 30
    test = NumberTest(
        scores=np.zeros((1, 64, 4)),
        degrees=np.zeros(1, np.int64),
        low=np.zeros((1, 64)),
        high=np.zeros((1, 64)),
        bins=floats(64),
        design_effect=floats(1),
    )
    p = test.p_values(reference[None, None], current[None, None])[0, 0]
    exact = stats.binom.sf(30, 131, 94 / (94 + 6400))
    assert p == pytest.approx(4 * 16 * exact, rel=1e-6)


def test_design_effect_of_rows_that_stand_s_times_is_s() -> None:
    generator = np.random.default_rng(1)
    bins = generator.integers(0, 10, 4000)
    shares = np.bincount(bins, minlength=10)[None] / 4000
    for times in (1, 5):
        cluster = np.repeat(np.arange(4000), times)
        rows = ClusteredRows(cluster, np.zeros(4000 * times, int), np.repeat(bins, times))
        assert rows.design_effects(shares)[0] == pytest.approx(times, rel=1e-9)


def test_covariance_over_clusters_by_hand() -> None:
    generator = np.random.default_rng(2)
    bins, cluster = generator.integers(0, 6, 300), generator.integers(0, 40, 300)
    scores = generator.normal(size=(1, 6, 4))
    rows = ClusteredRows(cluster, np.zeros(300, int), bins)
    sums = np.stack([scores[0, bins[cluster == one]].sum(0) for one in range(40)])
    assert rows.covariances(scores)[0] == pytest.approx(sums.T @ sums / 300)


def test_whitened_scores_have_unit_covariance_over_clusters() -> None:
    generator = np.random.default_rng(3)
    bins, cluster = generator.integers(0, 6, 5000), np.repeat(np.arange(500), 10)
    bins = np.where(generator.random(5000) < 0.7, np.repeat(bins[::10], 10), bins)
    shares = np.bincount(bins, minlength=6) / 5000
    scores, degrees = smooth_scores(shares)
    rows = ClusteredRows(cluster, np.zeros(5000, int), bins)
    before = rows.covariances(scores[None])
    white = whitened(scores[None], np.array([degrees]), before)
    assert rows.covariances(white)[0] == pytest.approx(np.eye(4), abs=1e-9)


def test_distances_against_scipy() -> None:
    reference, current = floats(40, 30, 20, 10), floats(10, 20, 30, 40)
    assert chi_square(reference, current) == pytest.approx(two_way(reference, current))
    assert jensen_shannon(reference, current) == pytest.approx(
        jensenshannon(reference, current, base=2)
    )
    by_hand = sum((b - a) / 100 * np.log(b / a) for a, b in zip(reference, current, strict=True))
    assert population_stability(reference, current) == pytest.approx(by_hand)
    values = np.arange(4)
    samples = (np.repeat(values, side.astype(int)) for side in (reference, current))
    distance = stats.ks_2samp(*samples).statistic
    assert kolmogorov_smirnov(reference, current) == pytest.approx(
        stats.kstwobign.sf(distance * np.sqrt(50))
    )


@given(st.lists(st.tuples(counts, counts), min_size=2, max_size=20))
@settings(deadline=None)
def test_wasserstein_of_values_at_edges_against_scipy(rows: list[tuple[int, int]]) -> None:
    reference, current = (np.array(side, float) for side in zip(*rows, strict=True))
    if not reference.sum() or not current.sum():
        return
    edges = np.cumsum(np.arange(1.0, len(rows) + 2))
    # the rows of a bin are spread evenly between its edges: so are many points
    grid = [np.linspace(a, b, 201)[1:] for a, b in itertools.pairwise(edges)]
    values = np.concatenate(grid)
    expected = stats.wasserstein_distance(
        values, values, np.repeat(reference, 200), np.repeat(current, 200)
    )
    found = wasserstein(edges, floats(0, *reference, 0), floats(0, *current, 0))
    assert found == pytest.approx(expected, rel=0.02, abs=0.02)
