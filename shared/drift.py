"""What all parts say about drift: a pipeline's settings of it, and what a check found.

This module imports nothing but Pydantic, so that a check from the command line starts at once.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.training import Metric

PolicyName = Literal["calibrated", "columns", "mean_std_change", "mean_change"]

Verdict = Literal[
    "no drift", "drift", "insufficient data", "no data", "no reference", "reference set"
]

CellKind = Literal["number", "category", "missing", "pair"]


P_VALUES: Final = ("ks", "chi2")
"""Tests of the policy `columns` that give a p-value: small ones are drift."""


class ColumnTest(BaseModel):
    """How the policy `columns` compares one column, and how many may differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Literal["wasserstein", "ks", "psi", "jensen_shannon"] = "wasserstein"
    """Distances; `ks` gives a p-value."""
    number_threshold: float = Field(0.1, ge=0)
    """A distance from here on, or a p-value below, is drift of the column."""
    category: Literal["jensen_shannon", "psi", "chi2"] = "jensen_shannon"
    """Distances; `chi2` gives a p-value."""
    category_threshold: float = Field(0.1, ge=0)
    drifted_share: float = Field(0.5, gt=0, le=1)
    """The batch has drifted when at least this share of its columns has."""


class Drift(BaseModel):
    """When a batch has drifted from the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: PolicyName = "calibrated"
    alpha: float = Field(1.0, gt=0, le=100)
    """The false alarms accepted per 1,000 checks (policy `calibrated`), whatever the trigger."""
    min_effect: float = Field(0.05, ge=0, lt=1)
    """A change smaller than this, on a scale from 0 to 1, is no drift however certain it is."""
    segment: str | None = None
    """A category column: every column is also compared within each of its values."""
    cluster: tuple[str, ...] = ()
    """Rows equal in these columns at one event time are not independent; none: all rows are."""
    windows: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 6, 24, 168), min_length=1)
    """Sums of so many batches are checked as well, each when so many have come."""
    columns: tuple[str, ...] = ()
    """Columns to compare; none: the target and all features."""
    trigger: Literal["data", "performance", "either", "both"] = "either"
    """What asks for a new model: drift of the data, or a champion that has become worse."""
    threshold: float = Field(0.1, ge=0)
    """The score above which `mean_std_change` and `mean_change` see drift."""
    column_test: ColumnTest = ColumnTest()
    """The settings of the policy `columns`."""
    min_rows: int = Field(5, ge=1)
    """With fewer rows there is no verdict; they count in a longer window."""
    chunk_rows: int = Field(1_000_000, ge=1)
    """A batch of more rows is counted in chunks of so many, by all drift workers that are free."""

    @property
    def alpha_of_each(self) -> float:
        """The false alarms per 1,000 checks of the data alone, and of the champion's error alone.

        If each of the two can ask for a model, each has half of the accepted false alarms.
        """
        return self.alpha / 2 if self.trigger == "either" else self.alpha

    @model_validator(mode="after")
    def _windows_differ(self) -> Self:
        if len(set(self.windows)) < len(self.windows):
            raise ValueError("windows: a length stands twice")
        return self


class FeatureStats(BaseModel):
    """Mean and standard deviation of one feature, in its own unit. None: no finite value there."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ref_mean: float | None
    curr_mean: float | None
    ref_std: float | None
    curr_std: float | None
    mean_change: float | None = None
    """|Δmean| / |reference mean|."""
    std_change: float | None = None
    """|Δstd| / reference std."""
    wasserstein: float | None = None
    """Wasserstein distance in reference standard deviations, from binned counts."""
    ref_rows: int
    curr_rows: int
    """Rows with a finite value."""
    note: str | None = None
    """Why the feature has no score, or how an undefined ratio was settled."""


class PerformanceFinding(BaseModel):
    """The champion's error on a batch's rows with a target, against its error at its promotion."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model_version: int
    metric: Metric
    error: float | None
    """On the rows that have a target; None without such rows."""
    error_at_promotion: float | None
    """On the rows that were held out; None if they were not kept."""
    interval_at_promotion: tuple[float, float] | None = None
    """The 95 % interval of `error_at_promotion`; None where its rows fall into too few groups."""
    rows: int
    groups: int
    """Of the rows with a target, by the pipeline's group."""
    p: float | None = None
    """How probable at least as large a rise is when nothing has changed; None: not tested."""
    threshold: float
    drift: bool = False
    reason: str
    """In one sentence."""


class CellFinding(BaseModel):
    """What was found in one cell: one thing tested, over all rows or within one segment."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    kind: CellKind
    column: str
    other_column: str | None = None
    """The second column of a pair."""
    segment: str | None = None
    """The segment's value; None: all rows."""
    p: float | None
    """The p-value, as if this cell alone had been looked at; None: the policy has none."""
    effect: float
    """The size of the change, from 0 (none) to 1."""
    speaks: bool = False
    """The cell carries the verdict of drift, alone or with others."""
    direction: str
    """What changed, in plain words: 'median 84 → 131'."""
    reference_rows: int
    current_rows: int
