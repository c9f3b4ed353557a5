"""The gate: whether a challenger becomes the champion."""

from dataclasses import dataclass
from typing import Final, Literal

from services.trainer.evaluation import DECIDING_METRIC, Metrics, Task
from shared.events import RetrainRequested

_NAMES: Final = {"mae": "mean absolute error", "log_loss": "log loss"}


@dataclass(frozen=True)
class Judged:
    """The champion's version, and its metrics on the rows that are held out now.

    They are empty where a person decided and nothing was compared.
    """

    version: int
    metrics: Metrics


@dataclass(frozen=True)
class Verdict:
    """The decision, and the figures that it rests on in words."""

    decision: Literal["promoted", "rejected"]
    reason: str


def decide(
    asked_for: RetrainRequested, task: Task, challenger: Metrics, champion: Judged | None, rows: int
) -> Verdict:
    """Promote a challenger that is not worse than the champion on the same held-out rows.

    The first model, and one on a reference that a person set, is promoted whatever its error.

    Args:
        challenger: its metrics on the held-out rows, of which there are `rows`.
        champion: none before the first promotion.
    """
    metric = DECIDING_METRIC[task]
    new = challenger[metric]
    if champion is None or asked_for.reason == "reference_set":
        why = "a person set the reference" if champion else "first model"
        return Verdict("promoted", f"{why}: {_NAMES[metric]} {new:.5g} on {rows:,} rows")
    old = champion.metrics[metric]
    digits = next(n for n in (5, 8, 17) if new == old or f"{new:.{n}g}" != f"{old:.{n}g}")
    figure = f"{_NAMES[metric]} {new:.{digits}g}"
    against = f"v{champion.version} with {old:.{digits}g} on the same {rows:,} rows"
    if new <= old:
        return Verdict("promoted", f"{figure}, not worse than {against}")
    return Verdict("rejected", f"{figure}, worse than {against}")
