"""What a policy is given and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.drift.calibration.binning import Counts
from services.drift.calibration.profile import Profile
from services.drift.report.model import WindowFinding
from shared.drift import CellFinding, Drift, Verdict

SMALLEST_COMPARED: Final = 50
"""Rows that a reference needs for a verdict. With fewer, no correlation is tested, and a column
with a value in one row of five has fewer values than a cell needs to be tested."""
SMALLEST_REFERENCE: Final = 100
"""Rows that a pipeline's first reference needs. With fewer, the standard error of a share of its
rows is larger than the smallest effect that matters by default, 0.05."""


@dataclass(frozen=True)
class Window:
    """The sum of the last so many batches."""

    counts: Counts
    batches: int = 1
    first_sequence: int | None = None
    last_sequence: int | None = None


@dataclass(frozen=True)
class Finding:
    """A policy's verdict on the windows due."""

    verdict: Verdict
    reason: str
    """In one sentence."""
    threshold: float
    counts: Counts
    """Of the window that decided."""
    p: float | None = None
    score: float | None = None
    window: WindowFinding | None = None
    windows: list[WindowFinding] = field(default_factory=list)
    drifts: dict[str, float] = field(default_factory=dict)
    """Column -> its drift under the policy, the most drifted first."""
    cells: list[CellFinding] = field(default_factory=list)


class Policy(Protocol):
    """Judges the windows due, of which the first is the batch itself."""

    def __call__(self, profile: Profile, windows: Sequence[Window], settings: Drift) -> Finding: ...


def largest_first(drifts: dict[str, float]) -> dict[str, float]:
    """The columns in the order of their drift, where a large figure is much drift."""
    return dict(sorted(drifts.items(), key=lambda drift: (-drift[1], drift[0])))


def without_verdict(batch: Window, least: int, threshold: float) -> Finding:
    """The finding on a batch that is empty or too small."""
    rows = batch.counts.rows
    if not rows:
        return Finding("no data", "the batch has no rows", threshold, batch.counts)
    reason = f"A verdict needs at least {least} rows; this batch has {rows}."
    return Finding("insufficient data", reason, threshold, batch.counts)


def with_few_clusters(finding: Finding, reason: str) -> Finding:
    """A finding on too few clusters, which is no verdict; the reason says how many there are."""
    return Finding("insufficient data", reason, finding.threshold, finding.counts)


def against_small_reference(finding: Finding, rows: int) -> Finding:
    """A finding against a reference of too few rows: no verdict, unless there is no data at all."""
    if finding.verdict == "no data":
        return finding
    return Finding(
        "insufficient data", too_small(rows, SMALLEST_COMPARED), finding.threshold, finding.counts
    )


def too_small(rows: int, least: int, what: str = "one") -> str:
    """'A reference needs at least 50 rows; this one has 5.'"""
    return f"A reference needs at least {least} rows; this {what} has {rows}."
