"""The gate: whether a challenger becomes the champion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from services.trainer.evaluation import Comparison, SegmentComparison, relative
from shared.events import RetrainRequested
from shared.training import ERROR_NAMES, Gate, Metric
from shared.wording import change, measured, percent


@dataclass(frozen=True)
class Guard:
    """A condition that no policy sets aside."""

    name: str
    passed: bool
    finding: str
    """The figures that it rests on."""


@dataclass(frozen=True)
class Evidence:
    """All that the gate looks at."""

    metric: Metric
    challenger: float
    """The challenger's error on the held-out rows."""
    baseline: float
    negligible: float
    """The largest error that may come of rounding alone."""
    rows: int
    groups: int
    new_to_both: bool
    """The champion has learnt from none of the held-out rows."""
    comparison: Comparison | None
    """None: there is no champion, or a person decided that it goes."""
    champion_version: int | None
    segments: Sequence[SegmentComparison]
    model_bytes: int
    max_file_bytes: int
    loads: str | None
    """Why the model's bytes do not load and predict the same elsewhere; None: they do."""
    note: str
    """What a person should know of the rows that the challenger has learnt from, if anything."""


@dataclass(frozen=True)
class Verdict:
    """The decision, and the figures that it rests on in words."""

    decision: Literal["promoted", "rejected"]
    reason: str
    guards: tuple[Guard, ...]


def decide(asked_for: RetrainRequested, evidence: Evidence, gate: Gate) -> Verdict:
    """Promote a challenger that passes all guards and the pipeline's policy.

    The first model is compared with the baseline alone. A model on a reference that a person set
    is promoted whatever its error, if its file can be used at all.
    """
    verdict = _decided(asked_for, evidence, gate)
    if not evidence.note:
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {evidence.note}")


def _decided(asked_for: RetrainRequested, evidence: Evidence, gate: Gate) -> Verdict:
    by_person = asked_for.reason == "reference_set"
    guards = tuple(_file_guards(evidence) if by_person else _guards(evidence, gate))
    failed = [guard for guard in guards if not guard.passed]
    if failed:
        reasons = "; ".join(f"not {guard.name} ({guard.finding})" for guard in failed)
        return Verdict("rejected", f"{_figure(evidence)}; {reasons}", guards)
    if evidence.comparison is None:
        why = "a person set the reference" if by_person else "first model"
        return Verdict("promoted", f"{why}: {_figure(evidence)}", guards)
    return _by_policy(evidence, evidence.comparison, gate, guards)


def _guards(evidence: Evidence, gate: Gate) -> Iterator[Guard]:
    yield Guard(
        "enough held-out rows",
        evidence.rows >= gate.min_rows and evidence.groups >= gate.min_groups,
        f"{evidence.rows:,} held-out rows in {evidence.groups:,} groups; at least "
        f"{gate.min_rows:,} rows in {gate.min_groups:,} groups are needed",
    )
    if not evidence.new_to_both:
        yield Guard(
            "new to both models",
            False,
            f"v{evidence.champion_version} has learnt from all rows that have a target; the next "
            "batch with targets can decide",
        )
    yield _baseline_guard(evidence)
    if evidence.comparison:
        yield _segment_guard(evidence.segments, gate)
    yield from _file_guards(evidence)


def _baseline_guard(evidence: Evidence) -> Guard:
    """As good as the baseline is good enough: of equal targets nothing better can be learnt."""
    error, against = np.asarray(evidence.challenger), np.asarray(evidence.baseline)
    passed = bool(relative(error, against, evidence.negligible) <= 0)
    finding = f"{measured(evidence.challenger)} against {measured(evidence.baseline)}"
    if not passed and evidence.baseline == 0:
        finding += (
            ": the baseline predicts all held-out rows exactly, because their targets are equal, "
            "or equal within a segment; ingest rows with other targets, or try another "
            "training.estimator"
        )
    return Guard("better than the baseline", passed, finding)


def _segment_guard(segments: Sequence[SegmentComparison], gate: Gate) -> Guard:
    """A segment is worse if the difference is large and its interval lies wholly above zero."""
    judged = [each for each in segments if each.comparison and not each.few]
    worse = [
        f"{each.segment} {change(each.comparison.relative_difference)} on {each.rows:,} rows"
        for each in judged
        if each.comparison
        and each.comparison.relative_difference > gate.segment_margin
        and each.comparison.relative_interval[0] > 0
    ]
    said = f"{len(judged)} segments with {gate.min_segment_rows:,} rows, limit "
    return Guard(
        "sound in every segment",
        not worse,
        ", ".join(worse) or f"{said}{change(gate.segment_margin)}",
    )


def _file_guards(evidence: Evidence) -> Iterator[Guard]:
    yield Guard(
        "usable in a fresh process",
        evidence.loads is None,
        evidence.loads or "loads and predicts the same",
    )
    yield Guard(
        "small enough for the repository",
        evidence.model_bytes <= evidence.max_file_bytes,
        f"{evidence.model_bytes:,} bytes; publish.max_file_bytes is {evidence.max_file_bytes:,}",
    )


def _by_policy(
    evidence: Evidence, found: Comparison, gate: Gate, guards: tuple[Guard, ...]
) -> Verdict:
    high = found.relative_interval[1]
    passed, wanted = {
        "better": (high < 0, "an interval wholly below zero"),
        "not_worse": (high <= gate.margin, f"an upper end of at most {change(gate.margin)}"),
        "always": (True, "any"),
    }[gate.policy]
    said = (
        f"{_figure(evidence)}, {change(found.relative_difference)} against v"
        f"{evidence.champion_version} ({percent(gate.confidence)} interval "
        f"{change(found.relative_interval[0])} to {change(high)})"
    )
    if passed:
        return Verdict("promoted", f"{said}: {gate.policy}", guards)
    return Verdict("rejected", f"{said}; gate.policy {gate.policy} needs {wanted}", guards)


def _figure(evidence: Evidence) -> str:
    return (
        f"{ERROR_NAMES[evidence.metric]} {measured(evidence.challenger)} on {evidence.rows:,} rows "
        f"in {evidence.groups:,} groups"
    )
