"""The mean of |Δmean| / |mean| and |Δstd| / std: the original workflow's rule."""

from collections.abc import Sequence

from services.drift.calibration.profile import Profile
from services.drift.policies.finding import Finding, Window
from services.drift.policies.relative import judged_by, relative
from shared.drift import Drift, FeatureStats


def mean_std_change(profile: Profile, windows: Sequence[Window], settings: Drift) -> Finding:
    """Judge the batch alone by its means and standard deviations."""
    return judged_by(_change, profile, windows[0], settings)


def _change(stats: FeatureStats) -> float:
    return (relative(stats.mean_change, stats) + relative(stats.std_change, stats)) / 2
