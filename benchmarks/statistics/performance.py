"""The test of a champion's error on simulated losses: false alarms and power, beside Welch's t."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from services.drift.calibration.rise import rise_p_value
from shared.scoring import GroupLosses

LEVELS = (0.05, 0.01, 0.001)
HELD_OUT_GROUPS = (100, 600)
BATCH_GROUPS = (10, 50, 460)
RISES = (1.25, 1.5)
SPREADS = (0.6, 0.9)
"""Of the logarithm of a group's level; the mean is the same."""


def by_group(before: GroupLosses, now: GroupLosses, seed: int) -> float:
    return rise_p_value(before, now, seed)


def welch_on_group_means(before: GroupLosses, now: GroupLosses, _: int) -> float:
    means = [side.sums / side.rows for side in (now, before)]
    return float(stats.ttest_ind(*means, equal_var=False, alternative="greater").pvalue)


TESTS: dict[str, Callable[[GroupLosses, GroupLosses, int], float]] = {
    "permuted groups": by_group,
    "Welch on group means": welch_on_group_means,
}


def losses(
    generator: np.random.Generator, groups: int, rise: float = 1.0, spread: float = SPREADS[0]
) -> GroupLosses:
    """Skewed losses in groups of 1 to 11 rows, of which those of one group resemble each other."""
    rows = generator.integers(1, 12, groups)
    level = rise * generator.lognormal(-(spread**2) / 2, spread, groups)
    return GroupLosses(generator.gamma(rows, level), rows.astype(float))


def false_alarms(
    draws: int, seed: int, spread: float = SPREADS[0]
) -> Iterator[tuple[str, int, int, list[float]]]:
    """By test and groups of the two sides: the share of p at or below each level.

    Args:
        spread: of the groups' levels in the batch; another than at promotion changes the
            distribution and not the mean.
    """
    for held_out in HELD_OUT_GROUPS:
        for groups in BATCH_GROUPS:
            for name, p in _p_values(held_out, groups, draws, seed, 1.0, spread).items():
                yield name, held_out, groups, [float((p <= level).mean()) for level in LEVELS]


def power(draws: int, seed: int) -> Iterator[tuple[str, int, int, list[float]]]:
    """By test and groups: the share of p at or below 0.001, for each rise of the mean."""
    for held_out in HELD_OUT_GROUPS:
        for groups in BATCH_GROUPS:
            found = [_p_values(held_out, groups, draws, seed, rise, SPREADS[0]) for rise in RISES]
            for name in TESTS:
                yield name, held_out, groups, [float((p[name] <= 0.001).mean()) for p in found]


def _p_values(
    held_out: int, groups: int, draws: int, seed: int, rise: float, spread: float
) -> dict[str, np.ndarray]:
    generator = np.random.default_rng([seed, held_out, groups])
    found = np.empty((len(TESTS), draws))
    for draw in range(draws):
        before = losses(generator, held_out)
        now = losses(generator, groups, rise, spread)
        found[:, draw] = [test(before, now, draw) for test in TESTS.values()]
    return dict(zip(TESTS, found, strict=True))
