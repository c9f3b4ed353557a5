"""The policies that a replay compares: the pipeline's own, and what else one might do."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from shared.drift import Drift
from shared.pipeline import Pipeline, PipelineError, load_pipeline
from shared.training import Gate, Window

When = Literal["drift", "never", "always"]


@dataclass(frozen=True)
class Policy:
    """A pipeline's definition, and when it retrains."""

    name: str
    pipeline: Pipeline
    retrains: When = "drift"


NAMES: Final = ("never", "always", "original", "original-all", "default")
"""Those that a replay knows by name; anything else is a pipeline file."""

_NO_GATE: Final = Gate(
    policy="always",
    segment_margin=float("inf"),
    min_rows=1,
    min_groups=2,
    cooldown=timedelta(),
)
_ALL: Final = Window(policy="all")
_THE_BATCH_ALONE: Final = Window(policy="last", batches=1)
_ORIGINAL_RULE: Final = Drift(policy="mean_std_change", trigger="data")


def chosen_policy(name: str, pipeline: Pipeline) -> Policy:
    """A policy by its name, or that of another pipeline's file.

    Raises:
        PipelineError: the file is not usable, or there is no such name.
    """
    if name in NAMES:
        return named_policy(name, pipeline)
    if name.endswith((".yaml", ".yml")):
        return Policy(Path(name).stem, load_pipeline(Path(name)))
    known = ", ".join(NAMES)
    raise PipelineError(f"no policy {name!r}; there are {known}, or name a pipeline's file (.yaml)")


def named_policy(name: str, pipeline: Pipeline) -> Policy:
    """A policy for the pipeline's data, features and estimator.

    - never: the first model stays.
    - always: once there is a model, each batch retrains, on all rows so far, and every model is
      promoted.
    - original: when the mean or the standard deviation of a column has moved by more than 10 %, on
      average over the columns, a model is trained on that batch alone and promoted.
    - original-all: the same rule, with a model on all rows so far.
    - default: the pipeline as it is defined.
    """
    match name:
        case "never":
            return Policy(name, _ungated(pipeline, _ALL), "never")
        case "always":
            return Policy(name, _ungated(pipeline, _ALL), "always")
        case "original":
            return Policy(name, _original(pipeline, _THE_BATCH_ALONE))
        case "original-all":
            return Policy(name, _original(pipeline, _ALL))
        case _:
            return Policy(name, pipeline)


def _ungated(pipeline: Pipeline, window: Window) -> Pipeline:
    training = pipeline.training.model_copy(update={"window": window})
    return pipeline.model_copy(update={"training": training, "gate": _NO_GATE})


def _original(pipeline: Pipeline, window: Window) -> Pipeline:
    drift = _ORIGINAL_RULE.model_copy(update={"columns": pipeline.drift.columns})
    return _ungated(pipeline, window).model_copy(update={"drift": drift})
