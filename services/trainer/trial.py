"""The trial: challenger, champion and baseline on the same held-out rows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline as Steps

from services.trainer.evaluation import (
    Comparison,
    Judged,
    SegmentComparison,
    baseline,
    by_segment,
    compare,
    judge,
)
from shared.pipeline import Pipeline
from shared.scoring import GroupLosses, groups_of, negligible_error


@dataclass(frozen=True)
class Trial:
    """What each of them made of the held-out rows."""

    challenger: Judged
    losses: GroupLosses
    """The challenger's, by group."""
    champion: Judged | None
    baseline: Judged
    baseline_kind: str
    """What the baseline predicts, in words."""
    comparison: Comparison | None
    negligible: float
    """The largest error that may come of rounding alone."""
    segments: list[SegmentComparison]


def hold_trial(
    challenger: Steps,
    champion: Judged | None,
    learnt: pd.DataFrame,
    held_out: pd.DataFrame,
    pipeline: Pipeline,
) -> Trial:
    """Judge a challenger.

    Args:
        champion: on the same held-out rows; none if there is nothing to compare with.
        learnt: the rows that the challenger was trained on.
    """
    training = pipeline.training
    groups = groups_of(held_out, training.group)
    judged = judge(challenger, held_out, training)
    negligible = negligible_error(held_out[training.target], training.deciding_metric)
    kind, naive = baseline(learnt, held_out, training, pipeline.judged_segment)
    return Trial(
        challenger=judged,
        losses=GroupLosses.of(judged.losses, groups),
        champion=champion,
        baseline=naive,
        baseline_kind=kind,
        comparison=_comparison(judged, champion, groups, pipeline, negligible),
        negligible=negligible,
        segments=by_segment(judged, champion, naive, held_out, pipeline),
    )


def _comparison(
    challenger: Judged,
    champion: Judged | None,
    groups: NDArray[np.intp],
    pipeline: Pipeline,
    negligible: float,
) -> Comparison | None:
    if champion is None:
        return None
    return compare(
        challenger.losses,
        champion.losses,
        groups,
        pipeline.training.deciding_metric,
        pipeline.gate.confidence,
        pipeline.training.seed,
        negligible,
    )
