"""What all parts say about training: a pipeline's settings of it and of the gate.

This module imports nothing but Pydantic.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Task = Literal["regression", "classification"]
Metric = Literal["mae", "rmse", "log_loss", "accuracy"]

METRICS_OF: Final[dict[Task, tuple[Metric, ...]]] = {
    "regression": ("mae", "rmse"),
    "classification": ("log_loss", "accuracy"),
}
"""The metrics that may decide between two models; the first is the default."""

ERROR_NAMES: Final[dict[Metric, str]] = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "log_loss": "log loss",
    "accuracy": "share of wrong classes",
}
"""What is measured by a deciding metric, in words; less of it is better."""

FEWEST_TRAINING_ROWS: Final = 10
"""No model is made of fewer rows with a target."""

_BATCHES: Final = re.compile(r"^([1-9][0-9]{0,5}) batch(?:es)?$")
_SPAN: Final = re.compile(r"^([1-9][0-9]{0,5})([hd])$")
_WINDOWS: Final = "all, auto, {last: 6 batches}, {last: 90d} or {half_life: 30d}"

Parameter = bool | int | float | str | None


class Window(BaseModel):
    """Which of the rows at hand a model learns from, and with what weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["all", "auto", "last", "half_life"]
    batches: int | None = None
    """`last`: the newest so many batches."""
    span: timedelta | None = None
    """`last`: the rows of so long before the newest; `half_life`: a row so old counts half."""

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        """From `all`, `auto`, `last: 6 batches`, `last: 90d` or `half_life: 30d`."""
        if isinstance(value, str) and value in ("all", "auto"):
            return {"policy": value}
        if isinstance(value, dict) and len(value) == 1:
            policy, length = next(iter(value.items()))
            if policy in ("last", "half_life"):
                return {"policy": policy, **_length(policy, length)}
        if isinstance(value, dict) and "policy" in value:
            return value
        raise ValueError(f"write {_WINDOWS}")

    @model_validator(mode="after")
    def _has_its_length(self) -> Self:
        lengths = {
            "last": (self.batches is None) != (self.span is None),
            "half_life": self.batches is None and self.span is not None,
        }
        if not lengths.get(self.policy, self.batches is None and self.span is None):
            raise ValueError(f"write {_WINDOWS}")
        return self

    def __str__(self) -> str:
        if self.batches is not None:
            return f"last: {self.batches} batch{'es' if self.batches > 1 else ''}"
        if self.span is None:
            return self.policy
        hours = round(self.span.total_seconds() / 3600)
        return f"{self.policy}: {hours // 24}d" if hours % 24 == 0 else f"{self.policy}: {hours}h"


def _length(policy: str, text: object) -> dict[str, Any]:
    if policy == "last" and isinstance(text, str) and (found := _BATCHES.match(text)):
        return {"batches": int(found[1])}
    try:
        return {"span": span_of(text)}
    except ValueError as error:
        batches = ", or 6 batches" if policy == "last" else ""
        raise ValueError(f"{error}{batches}") from None


def span_of(text: object) -> timedelta:
    """The length of time that `90d` or `12h` means.

    Raises:
        ValueError: the text is something else.
    """
    found = _SPAN.match(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is no length of time; write such as 30d or 12h")
    return timedelta(**{"hours" if found[2] == "h" else "days": int(found[1])})


class Search(BaseModel):
    """A search for better parameters before the fit, on time-ordered folds of the training rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: dict[str, Annotated[tuple[Parameter, ...], Field(min_length=1)]] = Field(min_length=1)
    """Parameter -> the values to try; all combinations, in a seeded order."""
    seconds: float = Field(300, gt=0)
    """No further combination is begun after this time."""
    folds: int = Field(3, ge=2, le=20)


class Training(BaseModel):
    """What is predicted from what, by which estimator, and how it is judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    task: Task
    features: tuple[str, ...] = Field(min_length=1)
    time_parts: tuple[
        Literal["minute", "hour", "day", "weekday", "dayofyear", "month", "year"], ...
    ] = ()
    """Further features made from the event time, in its column's time zone."""
    estimator: str = "random_forest"
    """A name of the trainer's, or the dotted name of a class in TRAINER_ALLOWED_ESTIMATORS."""
    parameters: dict[str, Parameter] = {}
    search: Search | None = None
    seed: int = Field(42, ge=0)
    metric: Metric | None = None
    """What decides between two models; none: mae, or log_loss."""
    test_share: float = Field(0.2, gt=0, lt=1)
    """The share of the window, of its newest batches, that is held out to judge models on."""
    group: tuple[str, ...] = ()
    """Rows equal in these columns stand on one side of the split at one event time."""
    window: Window = Window(policy="auto")
    max_window_rows: int = Field(200_000, ge=10)
    """Of a longer window the newest rows are used."""

    @property
    def deciding_metric(self) -> Metric:
        """The metric that decides between two models."""
        return self.metric or METRICS_OF[self.task][0]

    @model_validator(mode="after")
    def _metric_fits_task(self) -> Self:
        if self.deciding_metric not in METRICS_OF[self.task]:
            known = " or ".join(METRICS_OF[self.task])
            raise ValueError(f"metric: {self.metric} does not decide a {self.task}; {known} does")
        return self


class Gate(BaseModel):
    """When a challenger replaces the champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["not_worse", "better", "always"] = "not_worse"
    margin: float = Field(0.01, ge=0, lt=1)
    """`not_worse`: the share by which the challenger's error may exceed the champion's."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of the interval of the difference."""
    segment: str | None = None
    """A category column whose values are judged apart; none: `drift.segment`."""
    segment_margin: float = Field(0.25, gt=0)
    """A segment with enough rows may be worse by this share at most."""
    min_segment_rows: int = Field(30, ge=1)
    """Fewer rows of a segment are few: they are shown, and decide nothing."""
    min_rows: int = Field(20, ge=1)
    min_groups: int = Field(5, ge=2)
    """With fewer held-out rows or groups no challenger replaces a champion. If the newest batch has
    too few, rows of older batches are held out too."""
    cooldown: timedelta = Field(timedelta(hours=6), ge=timedelta())
    """For so long after a batch whose model was rejected, or after a rollback, no batch asks for a
    model. It is measured between the batches' newest event times, not by the clock."""
    review_after: int = Field(3, ge=1)
    """After this many rejections in a row a person is asked to look. Without a champion, a person
    is asked after the first one as well."""

    @field_validator("cooldown", mode="before")
    @classmethod
    def _as_written(cls, value: object) -> object:
        if value == 0:
            return timedelta()
        return span_of(value) if isinstance(value, str) and not value.startswith("P") else value


def fewest_held_out(gate: Gate) -> int:
    """At least this many rows are held out, from as many batches as needed."""
    return max(gate.min_rows, gate.min_groups)


def rows_for_a_model(gate: Gate) -> int:
    """How many rows with a target are needed to make and judge a model.

    At most half of the rows are held out, and the rest has to be enough to train on.
    """
    held_out = fewest_held_out(gate)
    return held_out + max(held_out, FEWEST_TRAINING_ROWS)


def why_never_promoted(training: Training, gate: Gate) -> str:
    """Why these settings let no challenger replace a champion, and what to do; empty if they do.

    At most half of the rows at hand are held out.
    """
    needed, at_most = fewest_held_out(gate), training.max_window_rows // 2
    if needed <= at_most:
        return ""
    key = "min_rows" if gate.min_rows == needed else "min_groups"
    return (
        f"no new model can ever be promoted: gate.{key} needs {needed:,} held-out rows, and "
        f"at most {at_most:,} can be held out, half of training.max_window_rows. Set gate.{key} to "
        f"at most {at_most:,}, or training.max_window_rows to at least {2 * needed:,}"
    )
