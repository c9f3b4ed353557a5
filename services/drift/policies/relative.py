"""What the original workflow's two rules share: a mean of relative changes, and a threshold."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.drift.calibration.profile import Profile
from services.drift.policies.finding import Finding, Window, largest_first, without_verdict
from services.drift.report.cell_findings import cells_by_effect
from services.drift.report.column_statistics import feature_stats
from services.drift.report.wording import figure
from shared.drift import Drift, FeatureStats


def relative(change: float | None, stats: FeatureStats) -> float:
    """A relative change; 1 where one side has no value, 0 where neither has."""
    if change is not None:
        return change
    return 1.0 if stats.ref_rows or stats.curr_rows else 0.0


def judged_by(
    change: Callable[[FeatureStats], float], profile: Profile, batch: Window, settings: Drift
) -> Finding:
    """Compare the mean of the number columns' changes with the threshold."""
    stats = feature_stats(profile, batch.counts)
    if batch.counts.rows < settings.min_rows or not stats:
        return without_verdict(batch, settings.min_rows, settings.threshold)
    drifts = {name: change(figures) for name, figures in stats.items()}
    score = sum(drifts.values()) / len(drifts)
    drift = score > settings.threshold
    largest = max(drifts, key=drifts.__getitem__)
    sign = ">" if drift else "≤"
    return Finding(
        verdict="drift" if drift else "no drift",
        reason=(
            f"the columns' mean change {figure(score)} {sign} {figure(settings.threshold)}; "
            f"the largest is {largest}'s, {figure(drifts[largest])}"
        ),
        threshold=settings.threshold,
        counts=batch.counts,
        score=score,
        drifts=largest_first(drifts),
        cells=cells_by_effect(profile, batch.counts, _silent(profile)),
    )


def _silent(profile: Profile) -> NDArray[np.bool_]:
    """These rules judge all columns together: no cell speaks."""
    return np.zeros(len(profile.tests.weights), bool)
