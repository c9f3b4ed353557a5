"""Column by column, as Evidently does it: a distance or a test each, and the share that drifted."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.drift.calibration.cells import Floats
from services.drift.calibration.profile import Profile
from services.drift.policies.finding import Finding, Window, without_verdict
from services.drift.report.cell_findings import cells_by_effect
from services.drift.report.column_statistics import feature_stats
from services.drift.report.wording import figure
from shared.drift import P_VALUES, ColumnTest, Drift

_BINS: Final = 10
_SMALLEST_SHARE: Final = 1e-4

Distance = Callable[[Floats, Floats], float]
"""From two vectors of counts over the same bins."""


def columns(profile: Profile, windows: Sequence[Window], settings: Drift) -> Finding:
    """Judge the batch alone by the share of its columns that drifted."""
    batch, test = windows[0], settings.column_test
    figures = _figures(profile, batch, test)
    if batch.counts.rows < settings.min_rows or not figures:
        return without_verdict(batch, settings.min_rows, test.drifted_share)
    drifted = [name for name, value in figures.items() if _drifted(profile, name, value, test)]
    share = len(drifted) / len(figures)
    drift = share >= test.drifted_share
    return Finding(
        verdict="drift" if drift else "no drift",
        reason=(
            f"{len(drifted)} of {len(figures)} columns drifted, and drift takes a share of "
            f"{figure(test.drifted_share)}" + (f": {', '.join(drifted)}" if drifted else "")
        ),
        threshold=test.drifted_share,
        counts=batch.counts,
        score=share,
        drifts=_most_drifted_first(profile, figures, test),
        cells=cells_by_effect(profile, batch.counts, _speaks(profile, drifted)),
    )


def _drifted(profile: Profile, name: str, value: float, test: ColumnTest) -> bool:
    method, threshold = _method_and_threshold(profile, name, test)
    return value < threshold if method in P_VALUES else value >= threshold


def _most_drifted_first(
    profile: Profile, figures: dict[str, float], test: ColumnTest
) -> dict[str, float]:
    rank = {name: _rank(profile, name, value, test) for name, value in figures.items()}
    return {name: figures[name] for name in sorted(figures, key=rank.__getitem__)}


def _rank(profile: Profile, name: str, value: float, test: ColumnTest) -> tuple[float, float, str]:
    """By a distance in multiples of its threshold, a threshold in multiples of its p-value."""
    method, threshold = _method_and_threshold(profile, name, test)
    much, little = (threshold, value) if method in P_VALUES else (value, threshold)
    return -much / little if little else -math.inf, little - much, name


def _method_and_threshold(profile: Profile, name: str, test: ColumnTest) -> tuple[str, float]:
    if name in profile.binning.numbers:
        return test.number, test.number_threshold
    return test.category, test.category_threshold


def _figures(profile: Profile, batch: Window, test: ColumnTest) -> dict[str, float]:
    """Each column's distance or p-value."""
    binning, layout = profile.binning, profile.binning.layout
    sides = (profile.reference.stacked.flat, batch.counts.stacked.flat)
    numbers = [layout.numbers_of(side)[0, :: binning.groups] for side in sides]
    categories = [layout.categories_of(side)[0] for side in sides]
    figures = {
        name: DISTANCES[test.category](*(side[column] for side in categories))
        for column, name in enumerate(binning.categories)
    }
    if test.number == "wasserstein":
        stats = feature_stats(profile, batch.counts)
        return {name: own.wasserstein or 0.0 for name, own in stats.items()} | figures
    return {
        name: DISTANCES[test.number](*(side[column] for side in numbers))
        for column, name in enumerate(binning.numbers)
    } | figures


def _speaks(profile: Profile, drifted: list[str]) -> NDArray[np.bool_]:
    """The drifted columns' cells over all rows."""
    binning = profile.binning
    speaks = np.zeros(len(profile.tests.weights), bool)
    for column, name in enumerate(binning.numbers):
        speaks[column * binning.groups] = name in drifted
    for column, name in enumerate(binning.categories):
        speaks[2 * binning.layout.numbers + column] = name in drifted
    return speaks


def kolmogorov_smirnov(reference: Floats, current: Floats) -> float:
    """The asymptotic two-sample p-value; the distance is taken at the bins' edges."""
    m, n = reference.sum(), current.sum()
    if not m or not n:
        return 1.0 if m == n else 0.0
    distance = np.abs(np.cumsum(current) / n - np.cumsum(reference) / m).max()
    return float(special.kolmogorov(distance * np.sqrt(n * m / (n + m))))


def chi_square(reference: Floats, current: Floats) -> float:
    """The p-value of homogeneity of two samples' categories (Pearson)."""
    m, n = reference.sum(), current.sum()
    if not m or not n:
        return 1.0 if m == n else 0.0
    present = reference + current > 0
    reference, current = reference[present], current[present]
    expected = np.outer([m, n], reference + current) / (m + n)
    statistic = ((np.stack([reference, current]) - expected) ** 2 / expected).sum()
    return float(special.chdtrc(len(reference) - 1, statistic)) if len(reference) > 1 else 1.0


def population_stability(reference: Floats, current: Floats) -> float:
    """Σ (a - p) log(a / p) over at most ten bins; shares are taken as 0.01 % at least."""
    before, after = (np.maximum(shares, _SMALLEST_SHARE) for shares in _shares(reference, current))
    return float(((after - before) * np.log(after / before)).sum())


def jensen_shannon(reference: Floats, current: Floats) -> float:
    """The Jensen-Shannon distance, to the base 2, over at most ten bins: from 0 to 1."""
    before, after = _shares(reference, current)
    middle = (before + after) / 2
    divergence = (special.rel_entr(before, middle) + special.rel_entr(after, middle)).sum() / 2
    return float(np.sqrt(max(divergence / np.log(2), 0.0)))


def _shares(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Shares over bins of about a tenth of the reference each, or its own if they are few."""
    filled = np.cumsum(reference) / max(reference.sum(), 1)
    if len(reference) > 2 * _BINS:
        group = np.minimum((filled - 1e-12) * _BINS, _BINS - 1).astype(int)
        reference = np.bincount(group, reference, _BINS).astype(float)
        current = np.bincount(group, current, _BINS).astype(float)
    return reference / max(reference.sum(), 1), current / max(current.sum(), 1)


DISTANCES: Final[dict[str, Distance]] = {
    "ks": kolmogorov_smirnov,
    "chi2": chi_square,
    "psi": population_stability,
    "jensen_shannon": jensen_shannon,
}
