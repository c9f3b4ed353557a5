"""The gate: whether a challenger becomes the champion."""

from dataclasses import dataclass
from typing import Literal

from services.trainer.evaluation import DECIDING_METRIC, Metrics
from shared.events import RetrainRequested

_NAMES = {"mae": "mean absolute error", "log_loss": "log loss"}


@dataclass(frozen=True)
class Verdict:
    """The decision, with the figures that it rests on."""

    decision: Literal["promoted", "rejected"]
    reason: str


def decide(
    event: RetrainRequested,
    task: Literal["regression", "classification"],
    challenger: Metrics,
    champion: Metrics | None,
    champion_version: int | None,
    held_out: int,
) -> Verdict:
    """Promote a challenger that is not worse than the champion on the same held-out rows.

    The first model, and one on a reference that a person set, is promoted without comparison.
    """
    metric = DECIDING_METRIC[task]
    figure = f"{_NAMES[metric]} {challenger[metric]:.3f}"
    if champion is None:
        return Verdict("promoted", f"the first model: {figure} on {held_out:,} held-out rows")
    if event.reason == "reference_set":
        return Verdict("promoted", f"a person set the reference: {figure}")
    new, old = challenger[metric], champion[metric]
    against = f"v{champion_version}'s {old:.3f} on the same {held_out:,} held-out rows"
    if new is not None and old is not None and new <= old:
        return Verdict("promoted", f"{figure}, not worse than {against}")
    return Verdict("rejected", f"{figure}, worse than {against}")
