"""The calibrated policy: a stated number of false alarms, whatever the batch.

Each window of w batches is checked when w batches have come, against w α / (number of windows):
over many checks the false alarms of all windows add up to α at most, however the checks depend on
each other. An alarm also needs a cell that speaks: one that tells in that window, and whose effect
is not negligible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift.calibration.cells import Floats
from services.drift.calibration.profile import Profile
from services.drift.policies.finding import Finding, Window, largest_first, without_verdict
from services.drift.report.cell_findings import CellFigures, cell_findings, column_effects
from services.drift.report.model import WindowFinding
from services.drift.report.wording import cell_title, count, p_equals, probability, size
from shared.drift import Drift

LEAST_ROWS: Final = 5
"""With fewer rows there is no verdict, whatever the settings say."""

_LARGEST_THRESHOLD: Final = 0.05
_TELLING_SHARE: Final = 0.1
"""A cell tells from this share of what an alarm takes; the most telling one does in any case."""
_MISSING_FLOOR: Final = 0.4
"""Of missing values a change by less matters: 2 % of the rows where otherwise it is 5 %."""


@dataclass(frozen=True)
class _Judged:
    window: Window
    finding: WindowFinding
    figures: CellFigures


def calibrated(profile: Profile, windows: Sequence[Window], settings: Drift) -> Finding:
    """Check the windows due with the calibrated test of all cells."""
    least = max(settings.min_rows, LEAST_ROWS)
    due = [window for window in windows if window.batches in settings.windows]
    judged = [_judged(profile, window, settings) for window in due if window.counts.rows >= least]
    if not judged:
        return _without_verdict(windows[0], due, least, settings)
    decisive = min(judged, key=_rank)
    finding, counts = decisive.finding, decisive.window.counts
    cells = cell_findings(profile, counts, decisive.figures)
    return Finding(
        verdict="drift" if finding.drift else "no drift",
        reason=_reason(finding, f"{cell_title(cells[0])}: {cells[0].direction}"),
        threshold=finding.threshold,
        counts=counts,
        p=finding.p,
        score=finding.effect,
        window=finding,
        windows=[one.finding for one in judged],
        drifts=largest_first(column_effects(profile, decisive.figures)),
        cells=cells,
    )


def _without_verdict(batch: Window, due: Sequence[Window], least: int, settings: Drift) -> Finding:
    threshold = threshold_of(1, settings)
    if due or not batch.counts.rows:
        return without_verdict(batch, least, threshold)
    shortest = min(settings.windows)
    reason = f"the next check is of {count(shortest, 'batch', 'batches')} together"
    return Finding("insufficient data", reason, threshold, batch.counts)


def _rank(judged: _Judged) -> tuple[bool, float]:
    """Drift first, then the smallest p against its threshold."""
    finding = judged.finding
    return not finding.drift, (finding.p or 0.0) / finding.threshold


def threshold_of(batches: int, settings: Drift) -> float:
    """The p-value at which a window of so many batches alarms."""
    share = settings.alpha_of_each / 1000 * batches / len(settings.windows)
    return min(share, _LARGEST_THRESHOLD)


def _judged(profile: Profile, window: Window, settings: Drift) -> _Judged:
    tests, counts = profile.tests, window.counts
    reference, current = profile.reference.stacked, counts.stacked
    cell_p = tests.p_values(reference, current)
    effects = tests.effects(reference, current)[0]
    p = profile.p(float(tests.combined(cell_p)[0]), counts.rows)
    threshold = threshold_of(window.batches, settings)
    tells = telling(profile, p, cell_p[0], counts.rows, threshold)
    speaks = tells & (effects >= floors(profile, settings.min_effect))
    largest = effects[speaks] if speaks.any() else effects[tells] if tells.any() else effects
    finding = WindowFinding(
        batches=window.batches,
        first_sequence=window.first_sequence,
        last_sequence=window.last_sequence,
        rows=counts.rows,
        p=p,
        threshold=threshold,
        effect=float(largest.max(initial=0.0)),
        drift=bool(speaks.any()),
    )
    return _Judged(window, finding, CellFigures(cell_p[0], effects, speaks))


def telling(
    profile: Profile, p: float, cell_p: Floats, rows: int, threshold: float
) -> NDArray[np.bool_]:
    """The cells that make an alarm what it is, of shape (cells,); none if p is above."""
    if p > threshold:
        return np.zeros(len(cell_p), bool)
    weights = profile.tests.weights
    needed = np.exp(profile.statistic(threshold, rows)) * weights.sum()
    evidence = weights / cell_p
    return np.asarray(evidence >= min(_TELLING_SHARE * needed, evidence.max()))


def floors(profile: Profile, min_effect: float) -> Floats:
    """The least effect that matters, by cell."""
    numbers = profile.binning.layout.numbers
    floors = np.full(len(profile.tests.weights), min_effect)
    floors[numbers : 2 * numbers] *= _MISSING_FLOOR
    return floors


def _reason(finding: WindowFinding, most_telling: str) -> str:
    against = f"{p_equals(finding.p)}, threshold {probability(finding.threshold)}"
    if finding.drift:
        return f"{most_telling} ({against})"
    if (finding.p or 0.0) <= finding.threshold:
        return f"the rows differ ({against}), but by too little to matter ({size(finding.effect)})"
    return f"nothing beyond chance ({against})"
