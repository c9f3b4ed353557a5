"""Drift policies: from the features' figures to one score each.

A policy is a function from the figures of one feature to its drift, 0 for none. The batch's score
is the mean over its features. `POLICIES` is the registry that a pipeline's `drift.policy` names.
"""

from collections.abc import Callable
from typing import Final

from shared.records import FeatureStats

Policy = Callable[[FeatureStats], float]


def mean_std_change(stats: FeatureStats) -> float:
    """The mean of |Δmean| / |mean| and |Δstd| / std: the original workflow's rule."""
    return (_change(stats.mean_change, stats) + _change(stats.std_change, stats)) / 2


def mean_change(stats: FeatureStats) -> float:
    """|Δmean| / |mean| alone."""
    return _change(stats.mean_change, stats)


def _change(change: float | None, stats: FeatureStats) -> float:
    """A relative change; 1 where one side has no value, 0 where neither has."""
    if change is not None:
        return change
    return 1.0 if stats.ref_rows or stats.curr_rows else 0.0


POLICIES: Final[dict[str, Policy]] = {
    "mean_std_change": mean_std_change,
    "mean_change": mean_change,
}
