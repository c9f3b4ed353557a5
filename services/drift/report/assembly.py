"""From windows of counts to the drift report."""

from collections.abc import Sequence
from datetime import UTC, datetime

from services.drift.calibration.binning import Counts
from services.drift.calibration.fitting import MIN_SEGMENT_ROWS
from services.drift.calibration.profile import Profile
from services.drift.clusters import too_few_clusters
from services.drift.policies import POLICIES
from services.drift.policies.finding import (
    SMALLEST_COMPARED,
    Finding,
    Window,
    against_small_reference,
    with_few_clusters,
)
from services.drift.report.charts import charts
from services.drift.report.column_statistics import feature_stats
from services.drift.report.model import DriftReport, MissingRate
from services.drift.report.unmatched import unmatched
from shared.drift import Drift


def report(
    profile: Profile,
    windows: Sequence[Window],
    settings: Drift,
    *,
    name: str,
    rows_set_aside: int = 0,
    is_promoted: bool = False,
    clusters: int | None = None,
) -> DriftReport:
    """Judge the windows due, of which the first is the batch itself, under the settings' policy.

    Args:
        is_promoted: the reference is what a promoted model was trained on: it is compared with
            however small it is, since no larger one can be had.
        clusters: of the batch's rows; None: not known.
    """
    finding = POLICIES[settings.policy](profile, windows, settings)
    if profile.rows < SMALLEST_COMPARED and not is_promoted:
        finding = against_small_reference(finding, profile.rows)
    calibrated = settings.policy == "calibrated"
    if calibrated:
        finding = _if_clusters_allow(finding, profile, clusters)
    return DriftReport(
        name=name,
        verdict=finding.verdict,
        needs_retraining=finding.verdict == "drift",
        reason=finding.reason,
        policy=settings.policy,
        p=finding.p,
        threshold=finding.threshold,
        min_effect=settings.min_effect if calibrated else None,
        expected_false_alarms=settings.alpha if calibrated else None,
        window=finding.window,
        windows=finding.windows,
        drift_score=finding.score,
        feature_drifts=finding.drifts,
        feature_stats=feature_stats(profile, finding.counts),
        cells=finding.cells,
        rows=windows[0].counts.rows,
        reference_rows=profile.rows,
        rows_set_aside=rows_set_aside,
        new_categories=finding.counts.new_categories,
        missing_rates=_missing_rates(profile, finding.counts),
        columns=list(profile.roles.columns),
        questionable_columns=unmatched(profile, windows[0].counts),
        assumptions=_assumptions(profile, settings),
        charts=charts(profile, finding.counts, finding.cells),
        timestamp=datetime.now(UTC),
    )


def _if_clusters_allow(finding: Finding, profile: Profile, batch: int | None) -> Finding:
    """The finding, if the clusters are enough for it.

    Drift in a batch of one cluster is drift: the reference says by how much clusters differ.
    """
    asked = {"drift": None, "no drift": batch}
    if finding.verdict not in asked:
        return finding
    reason = too_few_clusters(profile.roles.cluster, profile.clusters, asked[finding.verdict])
    return with_few_clusters(finding, reason) if reason else finding


def _missing_rates(profile: Profile, counts: Counts) -> dict[str, MissingRate]:
    before, after = (_missing(profile, side) for side in (profile.reference, counts))
    return {
        name: MissingRate(reference=before[name], current=after[name])
        for name in before
        if before[name] or after[name]
    }


def _missing(profile: Profile, counts: Counts) -> dict[str, float]:
    binning = profile.binning
    layout, flat, rows = binning.layout, counts.stacked.flat, max(counts.rows, 1)
    numbers = layout.missing_of(flat)[0, :: binning.groups]
    categories = layout.categories_of(flat)[0]
    rates = dict(zip(binning.numbers, (numbers / rows).tolist(), strict=True))
    for column, name in enumerate(binning.categories):
        missing = binning.level_names(column).index("missing", len(binning.labels[column]))
        rates[name] = float(categories[column, missing]) / rows
    return rates


def _assumptions(profile: Profile, settings: Drift) -> list[str]:
    """What the figures rest on."""
    if settings.policy != "calibrated":
        return ["This policy does not hold any rate of false alarms."]
    roles, binning = profile.roles, profile.binning
    said = [
        "When nothing changes, a batch is a sample of what the reference was sampled from: the "
        "same places, hours and seasons."
    ]
    if roles.cluster:
        said.append(
            f"Rows that agree in {', '.join(roles.cluster)} may depend on each other; "
            "others do not."
        )
    else:
        said.append(
            "No cluster column is given, so all rows count as independent. If rows come in groups "
            "that resemble each other, such as rows of one sensor in one hour, name the columns "
            "that make the group, or there will be more false alarms than stated."
        )
    columns, pairs = len(binning.numbers), len(binning.pairs[0])
    if pairs < columns * (columns - 1) // 2:
        target = "the target with each column, then " if roles.target in binning.numbers else ""
        said.append(
            f"The correlations of {pairs:,} of {columns * (columns - 1) // 2:,} pairs of number "
            f"columns are compared: {target}columns that stand next to each other."
        )
    if roles.segment and not binning.segments:
        said.append(
            f"No value of {roles.segment} has the {MIN_SEGMENT_ROWS} rows in the reference that "
            "cells of its own take."
        )
    elif roles.segment:
        said.append(
            f"Compared within {len(binning.segments)} values of {roles.segment}; values with fewer "
            f"than {MIN_SEGMENT_ROWS} rows in the reference have no cells of their own."
        )
    return said
