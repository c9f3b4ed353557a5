"""How a pipeline's models are: drift, the champion's error, rejections, targets, the schedule."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from shared.drift import PerformanceFinding
from shared.pipeline import ManualSource, Pipeline, next_slot, parse_schedule, slots_between
from shared.records import Batch, DriftReport, ModelVersion, TargetsAwaited
from shared.store import MEASURED, NUMBERED, Store
from shared.training import ERROR_NAMES
from shared.wording import moment, p_equals, probability, rounded

_MISSED_SLOTS: Final = 2
"""A person should look if at least this many slots of a schedule brought no reading."""
_MOST_SLOTS: Final = 1000
_GRACE: Final = timedelta(minutes=1)
"""A reading that is due for less than this may be under way."""


@dataclass(frozen=True)
class Sentence:
    """One thing that is known of a pipeline."""

    text: str
    look: bool = False
    """Whether a person should look at it."""


@dataclass(frozen=True)
class OpenDrift:
    """A drift that no promotion has ended."""

    since_batch: int
    since: datetime
    """When its first batch was checked."""
    checks: int
    """How many batches were checked since, the first one included."""


@dataclass(frozen=True)
class ChampionError:
    """The champion's error on a batch, against its error at its promotion."""

    sequence: int
    finding: PerformanceFinding


@dataclass(frozen=True)
class PipelineHealth:
    """What `trimtab status` says of a pipeline's models."""

    pipeline: str
    drift: OpenDrift | None
    champion_error: ChampionError | None
    rejected: ModelVersion | None
    """The newest model, if it was rejected."""
    rejections: int
    """Rejected models since the last promotion."""
    waiting_for_targets: TargetsAwaited | None
    next_due: datetime | None
    """None: the pipeline is read by hand."""
    last_reading: datetime | None
    missed_slots: int
    """Slots of the schedule that have passed since the last reading; 0 by hand."""

    def sentences(self) -> Iterator[Sentence]:
        """Each fact in a sentence."""
        if waiting := self.waiting_for_targets:
            yield Sentence(
                f"The first model has waited for targets since {moment(waiting.since)}: "
                f"{waiting.rows_with_target:,} of {waiting.rows:,} rows have one; at least "
                f"{waiting.needed:,} are needed.",
                look=True,
            )
        if drift := self.drift:
            yield Sentence(
                f"Drift has been open since batch {drift.since_batch} ({moment(drift.since)}); "
                f"batches checked since then: {drift.checks:,}.",
                look=True,
            )
        if self.champion_error:
            yield _error_sentence(self.champion_error)
        if self.rejected:
            yield Sentence(
                f"Rejected models since the last promotion: {self.rejections:,}. The newest is "
                f"v{self.rejected.version}: {self.rejected.reason}",
                look=True,
            )
        if self.missed_slots >= _MISSED_SLOTS and self.last_reading:
            yield Sentence(
                f"The source was last read at {moment(self.last_reading)}; slots of the schedule "
                f"that have passed since then: {self.missed_slots:,}.",
                look=True,
            )
        if self.next_due:
            yield Sentence(f"The next reading is due at {moment(self.next_due, seconds=True)}.")

    def as_json(self) -> dict[str, Any]:
        """The same under named keys."""
        drift, error, waiting = self.drift, self.champion_error, self.waiting_for_targets
        return {
            "open_drift": drift
            and {
                "since_batch": drift.since_batch,
                "since": drift.since.isoformat(),
                "checks": drift.checks,
            },
            "champion_error": error
            and error.finding.model_dump(mode="json") | {"batch": error.sequence},
            "rejections": self.rejections,
            "rejected": self.rejected and self.rejected.version,
            "waiting_for_targets": waiting and waiting.model_dump(mode="json"),
            "next_due": self.next_due and self.next_due.isoformat(),
            "last_reading": self.last_reading and self.last_reading.isoformat(),
            "missed_slots": self.missed_slots,
            "sentences": [sentence.text for sentence in self.sentences()],
            "attention": [sentence.text for sentence in self.sentences() if sentence.look],
        }


def _error_sentence(found: ChampionError) -> Sentence:
    finding = found.finding
    champion = f"The champion v{finding.model_version}"
    if finding.error is None:
        text = f"{champion} was not measured on batch {found.sequence}: {finding.reason}."
        return Sentence(text, look=finding.rows > 0)
    then = finding.error_at_promotion
    before = "" if then is None else f", and {rounded(then, 3)} at its promotion"
    verdict = (
        "not tested"
        if finding.p is None
        else f"{'worse' if finding.drift else 'not worse'} ({p_equals(finding.p)}, threshold "
        f"{probability(finding.threshold)})"
    )
    return Sentence(
        f"{champion} has {ERROR_NAMES[finding.metric]} {rounded(finding.error, 3)} on batch "
        f"{found.sequence}{before}: {verdict}.",
        look=finding.drift,
    )


def pipeline_health(pipeline: Pipeline, store: Store, now: datetime) -> PipelineHealth:
    """Read it from the store."""
    champion = store.champion(pipeline.name)
    newest = store.newest(ModelVersion, {"pipeline": pipeline.name}, "version")
    reading = store.newest(Batch, {"pipeline": pipeline.name}, "recorded_at")
    last_reading = reading.recorded_at if reading else None
    return PipelineHealth(
        pipeline=pipeline.name,
        drift=_open_drift(pipeline.name, store),
        champion_error=_champion_error(champion, store) if champion else None,
        rejected=newest if newest and newest.decision == "rejected" else None,
        rejections=_rejections(pipeline.name, champion, store),
        waiting_for_targets=store.targets_awaited(pipeline.name),
        next_due=_next_due(pipeline, now),
        last_reading=last_reading,
        missed_slots=_missed_slots(pipeline, last_reading, now),
    )


def _open_drift(pipeline: str, store: Store) -> OpenDrift | None:
    """The drift against the reference in force; a promotion brings another reference."""
    reference = store.reference(pipeline)
    if reference is None:
        return None
    query: dict[str, Any] = {
        "pipeline": pipeline,
        "reference_version": reference.version,
        "incident": NUMBERED,
    }
    newest = store.newest(DriftReport, query, "sequence")
    if newest is None or newest.incident is None:
        return None
    first = store.newest(
        DriftReport, {"pipeline": pipeline, "sequence": newest.incident}, "sequence"
    )
    since = {"$gte": newest.incident}
    checks = store.collection(DriftReport).count_documents(query | {"sequence": since})
    return OpenDrift(newest.incident, (first or newest).timestamp, checks)


def _champion_error(champion: ModelVersion, store: Store) -> ChampionError | None:
    """The newest that was tested; one that could not be measured, if that is newer."""
    query = {"pipeline": champion.pipeline, "performance.model_version": champion.version}
    newest = store.newest(DriftReport, query, "sequence")
    tested = store.newest(DriftReport, query | {"performance.p": MEASURED}, "sequence")
    failed = newest is not None and newest.performance is not None and _failed(newest.performance)
    report = newest if failed else tested or newest
    if report is None or report.performance is None:
        return None
    return ChampionError(report.sequence, report.performance)


def _failed(finding: PerformanceFinding) -> bool:
    return finding.error is None and finding.rows > 0


def _rejections(pipeline: str, champion: ModelVersion | None, store: Store) -> int:
    query = {
        "pipeline": pipeline,
        "decision": "rejected",
        "version": {"$gt": champion.version if champion else 0},
    }
    return store.collection(ModelVersion).count_documents(query)


def _next_due(pipeline: Pipeline, now: datetime) -> datetime | None:
    if isinstance(pipeline.source, ManualSource):
        return None
    return next_slot(parse_schedule(pipeline.schedule), now)


def _missed_slots(pipeline: Pipeline, last_reading: datetime | None, now: datetime) -> int:
    if last_reading is None or isinstance(pipeline.source, ManualSource):
        return 0
    schedule = parse_schedule(pipeline.schedule)
    return slots_between(schedule, last_reading, now - _GRACE, _MOST_SLOTS)
