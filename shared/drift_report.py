"""All that a drift check found, as the store keeps it and a publication shows it.

It is kept as JSON that gzip has packed. `services.drift.report.model` adds its page.
"""

from typing import Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.drift import CellFinding, FeatureStats, PerformanceFinding, PolicyName, Verdict
from shared.failures import WillNotPass
from shared.gunzip import LARGEST_REPORT_BYTES, gunzip

MOST_VALUES: Final = 200_000
"""Of a report. For each that is wrong, Pydantic keeps a kilobyte."""

NumberStyle = Literal["decimal commas", "separated thousands"]
"""How texts spell numbers, if not plainly."""


class Part(BaseModel):
    """A part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class WindowFinding(Part):
    """The check of one window: the sum of the last so many batches."""

    batches: int
    first_sequence: int | None = None
    last_sequence: int | None = None
    """The batches' numbers in the pipeline; None in a one-shot check."""
    rows: int
    p: float | None
    """How probable at least as much difference is when nothing has changed."""
    threshold: float
    """`p` at or below it, with an effect of at least `min_effect`, is drift."""
    effect: float
    """The largest effect among the cells that speak; the largest of all if none does."""
    drift: bool


class ColumnRole(Part):
    """How a column was read and what it was used for."""

    name: str
    type: Literal["number", "category", "time", "text"]
    role: Literal["compared", "segment", "cluster", "left out"]
    inferred: bool
    """The type was read off the data and not stated."""
    note: str | None = None
    """Why it was left out, or what is special: 'the target', 'constant'."""
    questionable: bool = False
    """The type or the role is a guess from the data that a person may see otherwise."""
    flags: bool = False
    """Its values are true and false."""
    flag_words: tuple[str, str] | None = None
    """What the reference writes for true and for false, if its values were read as flags."""
    number_style: NumberStyle | None = None
    """How the reference's texts spell numbers, if not plainly."""


class QuestionableColumn(Part):
    """A column that was left out, or read in a way that a person may see otherwise."""

    name: str
    done: Literal["left out", "read as numbers", "read as categories", "missing in every row"]
    why: str


class MissingRate(Part):
    """The share of rows without a usable value in a column."""

    reference: float
    current: float


class Histogram(Part):
    """Shares of the rows with a value that fall between edges in the column's unit."""

    kind: Literal["histogram"] = "histogram"
    column: str
    segment: str | None = None
    edges: list[float]
    """Ascending; one more than there are shares."""
    reference: list[float]
    current: list[float]
    reference_outside: tuple[float, float]
    """The shares below the first and above the last edge."""
    current_outside: tuple[float, float]

    @model_validator(mode="after")
    def _shares_fit_edges(self) -> Self:
        if not len(self.edges) - 1 == len(self.reference) == len(self.current):
            raise ValueError("a histogram has one edge more than shares")
        return self


class Bars(Part):
    """Shares of the rows that have each category: the most frequent, then all others, new ones."""

    kind: Literal["bars"] = "bars"
    column: str
    segment: str | None = None
    labels: list[str]
    reference: list[float]
    current: list[float]


Chart = Histogram | Bars


class PastCheck(Part):
    """One point of the history of checks."""

    sequence: int
    timestamp: AwareDatetime
    verdict: Verdict
    p: float | None
    threshold: float
    effect: float | None


class FullReport(Part):
    """All that a check found."""

    format: Literal["trimtab-drift-report/1"] = "trimtab-drift-report/1"
    name: str
    """The pipeline, or what was compared: 'a.csv against b.csv'."""
    verdict: Verdict
    needs_retraining: bool
    reason: str
    """What speaks for a new model or against it, in one sentence."""
    policy: PolicyName
    p: float | None
    """Of the window that decided; None where the policy has no p-value or there is no verdict."""
    threshold: float
    """What decides: `calibrated` compares p with it, the other policies the drift score."""
    min_effect: float | None
    expected_false_alarms: float | None
    """Per 1,000 checks; None where the policy promises none."""
    window: WindowFinding | None
    """The window that decided: the one whose p is smallest against its threshold."""
    windows: list[WindowFinding]
    """All windows checked now."""
    drift_score: float | None
    """`calibrated`: the window's effect. Otherwise the rule's own score."""
    feature_drifts: dict[str, float]
    """Column -> its largest effect, or its drift under the rule, the most drifted first."""
    feature_stats: dict[str, FeatureStats]
    cells: list[CellFinding]
    """Of the window that decided, those that speak first, then by p."""
    rows: int
    """Rows of the batch."""
    reference_rows: int
    rows_set_aside: int = 0
    new_categories: dict[str, dict[str, int]]
    """Column -> value that the reference does not have -> rows, the most frequent ones."""
    missing_rates: dict[str, MissingRate]
    columns: list[ColumnRole]
    questionable_columns: list[QuestionableColumn] = Field(default_factory=list)
    """Empty if nothing was guessed, both tables have the same columns, and no category column
    differs in its spelling alone or has no value in common."""
    assumptions: list[str]
    """What the figures rest on, in sentences."""
    charts: list[Chart] = Field(default_factory=list)
    """Binned shares behind the most telling cells."""
    performance: PerformanceFinding | None = None
    """The champion's error; None without a champion, or where nobody asks for its error."""
    timestamp: AwareDatetime


def read_report(data: bytes) -> FullReport:
    """The report that was packed.

    Raises:
        WillNotPass: it is broken, too large, or no report of ours.
    """
    content = gunzip(data, LARGEST_REPORT_BYTES)
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise WillNotPass(f"not a drift report: it has more than {MOST_VALUES:,} values")
    try:
        return FullReport.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, fault["loc"][:3])) or "the whole"
        raise WillNotPass(f"not a drift report of this version: {where}: {fault['msg']}") from None
