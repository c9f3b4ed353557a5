"""The records that the stages leave in the store, and that other stages read.

A record is one document in the collection that `events.ROUTES` names. Its `_id` is the effect's id.
The stage runtime adds the outbox to the document; these models are what the stages mean.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.drift import CellFinding, FeatureStats, PerformanceFinding, Verdict
from shared.events import Identifier, Name, Sha256, Stage
from shared.wording import moment


class Record(BaseModel):
    """What every record carries."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: str = Field(alias="_id")
    pipeline: Name
    trace_id: Identifier
    recorded_at: AwareDatetime
    handled_seconds: float | None = None
    """How long the handler took; written by the stage runtime."""

    def facts(self) -> dict[str, Any]:
        """What came of the event, in short: for the log, and for `trimtab history show --json`."""
        return {}


class SetAside(BaseModel):
    """Rows that the schema refused: how many, for what reasons, and where they are kept."""

    model_config = ConfigDict(frozen=True)

    rows: int = 0
    reasons: dict[str, int] = {}
    data: Sha256 | None = None


class KnownRows(BaseModel):
    """Valid rows of an answer that are no new rows, by the reason."""

    model_config = ConfigDict(frozen=True)

    taken_in_before: int = 0
    """An earlier batch holds the row, with the same values."""
    repeated: int = 0
    """The answer holds the row a second time, with the same values."""
    changed: int = 0
    """An earlier batch or the answer itself holds a row with the same key and other values.
    The row that came first is kept."""

    def in_words(self) -> list[str]:
        """Each reason that concerns some rows, with their number."""
        said = {
            "taken in before": self.taken_in_before,
            "twice in the answer": self.repeated,
            "known with other values": self.changed,
        }
        return [f"{rows:,} {words}" for words, rows in said.items() if rows]


class WaitingFile(BaseModel):
    """A file of a watched folder that the machine does not let us read now."""

    model_config = ConfigDict(frozen=True)

    reason: str
    since: AwareDatetime
    tries: int
    next_try_at: AwareDatetime
    """At the first reading after this time it is tried again."""


class Batch(Record):
    """A reading of a source. If it brought nothing, it has no `sequence`; if no rows, no `data`."""

    outcome: Literal["ingested", "nothing new"]
    sequence: int | None = None
    """1, 2, 3, … within the pipeline: the order in which batches are checked."""
    data: Sha256 | None = None
    """The rows as Parquet."""
    rows: int = 0
    labels: Sha256 | None = None
    """Targets that came later for rows of earlier batches, with the rows' identity, as Parquet."""
    labelled_rows: int = 0
    labels_first_event_at: AwareDatetime | None = None
    labels_last_event_at: AwareDatetime | None = None
    rows_received: int
    rows_missing: int = 0
    """Rows that the source says it has, and that no page of its answer held."""
    rows_known: int = 0
    """Rows of the answer that an earlier batch holds, or that the answer itself repeats."""
    known: KnownRows | None = None
    """Why they are no new rows; None in records of before."""
    set_aside: SetAside = SetAside()
    first_event_at: AwareDatetime | None = None
    last_event_at: AwareDatetime | None = None
    source: str
    """What was read, in words, without credentials."""
    files: list[str] = []
    """Marks (name, size, time of change) of the files read, so that none is read twice."""
    files_set_aside: dict[str, str] = {}
    """Files whose content is no table of the schema: mark -> reason."""
    files_waiting: dict[str, WaitingFile] | None = None
    """Files that could not be read and are tried again, by their marks. None: not a folder."""
    as_reference: bool = False
    request: int | None = None
    """The entry of the audit log with which an operator took it in by hand."""

    def beside_new_rows(self) -> list[str]:
        """What became of the rows that are no new ones, each reason in words with its number."""
        known = self.known.in_words() if self.known else []
        if self.known is None and self.rows_known:
            known = [f"{self.rows_known:,} known"]
        aside = [f"{self.set_aside.rows:,} set aside"] if self.set_aside.rows else []
        missing = [f"{self.rows_missing:,} not answered by the source"] if self.rows_missing else []
        return [*known, *aside, *missing]

    def facts(self) -> dict[str, Any]:
        number = {"batch": self.sequence} if self.sequence else {}
        known = self.known or KnownRows()
        counted = known.model_dump() | {"missing": self.rows_missing}
        return {
            "outcome": self.outcome,
            **number,
            "rows": self.rows,
            "set_aside": self.set_aside.rows,
            **{name: rows for name, rows in counted.items() if rows},
            **({"files_waiting": sorted(self.files_waiting)} if self.files_waiting else {}),
            "source": self.source,
        }


class TargetsAwaited(BaseModel):
    """A pipeline has rows, and too few of them have a target for a first model."""

    model_config = ConfigDict(frozen=True)

    since: AwareDatetime
    """When the batch came that made the rows enough."""
    rows: int
    rows_with_target: int
    needed: int
    """Rows with a target that a first model needs."""

    def __str__(self) -> str:
        return (
            f"waiting for targets since {moment(self.since)}: {self.rows_with_target:,} "
            f"of {self.rows:,} rows have one, and a first model needs at least {self.needed:,}"
        )


class DriftReport(Record):
    """What the comparison of one batch with the reference found, in short.

    The whole report, with every cell and chart, is a blob (`details`).
    """

    verdict: Verdict
    needs_retraining: bool
    reason: str = ""
    """The verdict's reason in one sentence."""
    policy: str
    p: float | None = None
    threshold: float
    drift_score: float | None
    feature_drifts: dict[str, float]
    """The most drifted first: under the policy `columns` a small p-value is much drift."""
    feature_stats: dict[str, FeatureStats]
    cells: list[CellFinding] = []
    """The cells that speak, the most telling ones first."""
    window_batches: int = 1
    """The batches whose sum decided."""
    performance: PerformanceFinding | None = None
    """None: there was no champion, or the trigger does not ask for its error."""
    incident: int | None = None
    """The sequence of the batch with which the drift that is still open began."""
    awaited: TargetsAwaited | None = None
    """The targets that a first model waits for, if it does."""
    timestamp: AwareDatetime
    sequence: int
    batch_id: str
    batch_rows: int
    reference_version: int | None
    reference_rows: int | None
    profile: Sha256 | None = None
    """The profile that the batch was compared with."""
    counts: Sha256 | None = None
    """The batch's counts in the bins of that profile."""
    details: Sha256 | None = None
    """`drift_report.json`, compressed with gzip."""
    chart: Sha256 | None = None
    """A picture of the cells that speak, as PNG."""

    def facts(self) -> dict[str, Any]:
        names = ("verdict", "p", "threshold", "drift_score", "needs_retraining", "reason")
        return self.model_dump(include=set(names))


class ChunkCounts(Record):
    """The counts of one row group of a large batch. None: there was no reference."""

    sequence: int
    row_group: int
    profile: Sha256 | None = None
    counts: Sha256 | None = None

    def facts(self) -> dict[str, Any]:
        return {"row_group": self.row_group}


class Reference(Record):
    """The rows that the champion was trained on, with which batches are compared."""

    version: int
    data: Sha256
    profile: Sha256 | None = None
    """What a check needs to know of the rows; None: not fitted when the reference was adopted."""
    rows: int
    up_to_sequence: int
    """The newest batch that the reference takes into account."""
    model_version: int

    def facts(self) -> dict[str, Any]:
        return {"reference": self.version, "model": self.model_version, "rows": self.rows}


class RetiredReference(Record):
    """A reference that was replaced (`reference_data_history`)."""

    version: int
    data: Sha256
    rows: int
    timestamp: AwareDatetime
    """When it was replaced."""
    drift_score: float | None
    feature_drifts: dict[str, float]
    """The drift that ended it; empty where a person set its successor."""


class ModelVersion(Record):
    """A trained model: promoted or rejected, why, and all that it takes to train it again."""

    version: int
    decision: Literal["promoted", "rejected"]
    reason: str
    model: Sha256
    seal: str
    """HMAC-SHA-256 of this record under the signing key (`shared.artifacts`)."""
    model_bytes: int
    metrics: dict[str, Any]
    """`metrics.json` as published."""
    champion_version: int | None
    """The champion at the time of the decision."""
    window: Sha256
    sequence: int
    drift_report: str
    """The id of the report that asked for the model."""
    lineage: dict[str, Any]
    """Batch numbers, reference version, settings, recipe, library and code versions."""
    held_out_losses: Sha256 | None = None
    """The model's losses on the held-out rows, by group (`shared.scoring.GroupLosses`)."""
    held_out: Sha256 | None = None
    """Which rows of the window were held out, a bit a row. None: an earlier version of Trimtab made
    the record, and `lineage.held_out_rows` says how many of the newest rows these are."""
    plots: dict[str, Sha256] = {}
    """File name -> PNG, for the model card."""
    restores: int | None = None
    """The earlier version that a rollback made the champion again as this one."""
    request: int | None = None
    """The entry of the audit log with which an operator asked for this model: a rollback, or the
    first model on a reference that was set."""
    request_digest: Sha256 | None = None
    """The hash of that entry."""

    def facts(self) -> dict[str, Any]:
        return {"model": self.version, "decision": self.decision, "reason": self.reason}


class AuditHead(BaseModel):
    """The newest entry of the audit log at some time: with it, all entries before are known."""

    model_config = ConfigDict(frozen=True)

    number: int
    """0: there was none."""
    digest: Sha256

    def in_words(self) -> str:
        """As the trailer of a tag has it."""
        return f"{self.number} {self.digest}"


class Publication(Record):
    """One commit on the model repository."""

    model_version: int
    commit: str
    branch: str
    tag: str
    tag_object: str | None = None
    """The tag's own object; None: the tag was there before, or an earlier version made it."""
    audit: AuditHead | None = None
    """What the tag says of the audit log; None if the tag was there before."""
    repository: str
    url: str | None
    already_there: bool = False
    """The branch held the model's commit before; nothing was committed again."""

    def facts(self) -> dict[str, Any]:
        return {
            "model": self.model_version,
            "commit": self.commit,
            "branch": self.branch,
            "already_there": self.already_there,
        }


class Alteration(Record):
    """Somebody else changed what was published."""

    model_version: int
    changes: list[str]
    """What is there in place of what was published, each in a sentence."""

    def facts(self) -> dict[str, Any]:
        return {"model": self.model_version, "changes": self.changes}


class Notification(Record):
    """One message, and what each channel said to it."""

    title: str
    text: str
    channels: dict[str, str]
    """Channel -> 'sent', 'printed', or why it was refused."""

    def facts(self) -> dict[str, Any]:
        return {"title": self.title, "channels": self.channels}


class DeadLetter(Record):
    """A message or event that a stage gave up on, for a person to replay or to dismiss."""

    stage: Stage
    kind: str
    reason: str
    message: Any
    """The event, or whatever came in its place."""
    attempts: int
    state: Literal["open", "replayed", "dismissed"] = "open"
    request: int | None = None
    """The entry of the audit log with which an operator replayed or dismissed it."""

    def facts(self) -> dict[str, Any]:
        return {"reason": self.reason, "state": self.state}


LONGEST_BECAUSE: Final = 500
Action = Literal["rollback", "reference set", "ingest", "replay", "dismiss", "upgrade"]


class AuditEntry(Record):
    """What an operator asked for: one entry of the audit log (`shared.audit`)."""

    number: Annotated[int, Field(ge=1, strict=True)]
    """1, 2, 3, … over all pipelines."""
    previous: Sha256
    """The hash of the entry before."""
    installation: Sha256
    """The system for which the request was signed (`Authenticator.installations`)."""
    operator: Annotated[str, Field(max_length=200)]
    """The name under which OPERATORS listed the key when the entry was written."""
    key: Annotated[str, Field(max_length=100)]
    """The fingerprint of the key, `SHA256:…`."""
    action: Action
    subject: dict[str, Annotated[str, Field(max_length=2_000)]] = Field(max_length=20)
    """What the request is about. The entry is valid for nothing else."""
    because: Annotated[str, Field(max_length=LONGEST_BECAUSE)]
    """Why, in the operator's words; may be empty where the action says enough."""
    signature: Annotated[str, Field(max_length=200)] = ""
    """Ed25519, base64, over everything above."""
