"""What the stages have recorded, as it happens: one line a record, and what is in hand."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shared.records import (
    Batch,
    DeadLetter,
    DriftReport,
    ModelVersion,
    Notification,
    Publication,
    Record,
    Reference,
)
from shared.store import Store
from shared.wording import measured, moment, p_equals, probability

_FOLLOWED: Final[tuple[type[Record], ...]] = (
    Batch,
    DriftReport,
    ModelVersion,
    Reference,
    Publication,
    Notification,
    DeadLetter,
)
_OVERLAP: Final = timedelta(seconds=10)
"""Records are seen a little after their time; looking back this far finds all of them."""
_RESOLUTION: Final = timedelta(milliseconds=1)
"""The store cuts times to it, so a query also finds records from just before its time."""

_ACTIVITIES: Final = {
    "IngestionDue": "reads the source",
    "BatchIngested": "checks batch {sequence}",
    "ChunkIngested": "counts a part of batch {sequence}",
    "DriftFound": "tells of the drift in batch {sequence}",
    "RetrainRequested": "trains a model after batch {sequence}",
    "RollbackRequested": "brings back model v{model_version}",
    "ModelPromoted": "takes up model v{model_version}",
    "ModelRejected": "tells of model v{model_version}",
    "ReviewNeeded": "asks for a person's look at model v{model_version}",
    "ModelPublished": "tells of model v{model_version}",
    "PublicationAltered": "tells that the published model v{model_version} was changed",
    "WorkFailed": "tells of a failure",
}


@dataclass(frozen=True)
class Line:
    """One thing that happened, in words."""

    stage: str
    text: str
    style: str = ""
    detail: str = ""
    """What stands below it."""


class Journal:
    """Reads the records that were not there before."""

    def __init__(self, store: Store, since: datetime) -> None:
        self._store = store
        self._since = since
        self._seen: dict[str, datetime] = {}

    def new_records(self) -> list[Record]:
        """The records since the last call, in the order in which they were made."""
        records = [
            record
            for kind in _FOLLOWED
            for record in self._store.find(kind, {"recorded_at": {"$gte": self._since}})
            if f"{kind.__name__} {record.id}" not in self._seen
        ]
        records.sort(key=lambda record: record.recorded_at)
        for record in records:
            self._seen[f"{type(record).__name__} {record.id}"] = record.recorded_at
        self._forget(datetime.now(UTC) - _OVERLAP)
        return records

    def _forget(self, before: datetime) -> None:
        self._since = max(self._since, before)
        oldest = self._since - _RESOLUTION
        self._seen = {key: at for key, at in self._seen.items() if at >= oldest}


def activities(work: list[dict[str, Any]]) -> dict[str, str]:
    """What each stage has in hand, from the documents of work under way: effect -> words."""
    now = datetime.now(UTC)
    return {
        document["_id"]: _activity(document)
        for document in work
        if document.get("lease_until", now) > now
    }


def _activity(document: dict[str, Any]) -> str:
    event = document["event"]
    return f"{document['stage']} {_ACTIVITIES[event['type']].format(**event)}"


def line(record: Record) -> Line | None:
    """A record in one line; none for a reading that found nothing new."""
    match record:
        case Batch():
            return _batch(record)
        case DriftReport():
            return _report(record)
        case ModelVersion():
            return _model(record)
        case Reference():
            of_model = f"of model v{record.model_version}"
            return Line(
                "drift", f"reference v{record.version}: the {record.rows:,} rows {of_model}"
            )
        case Publication():
            text = (
                f"model v{record.model_version} is commit {record.commit[:10]} on {record.branch}"
            )
            return Line("publisher", text, "green")
        case Notification():
            return Line("notifier", f"{record.title} ({_delivered(record)})")
        case DeadLetter():
            return Line(record.stage or "?", f"given up: {record.reason}", "bold red")
    return None


def _batch(batch: Batch) -> Line | None:
    if batch.sequence is None:
        return None
    hour = f", {moment(batch.last_event_at)}" if batch.last_event_at else ""
    beside = "".join(f", {words}" for words in batch.beside_new_rows())
    late = f", {batch.labelled_rows:,} late targets" if batch.labelled_rows else ""
    return Line("ingest", f"batch {batch.sequence}: {batch.rows:,} new rows{late}{beside}{hour}")


def _report(report: DriftReport) -> Line:
    style = "yellow" if report.verdict == "drift" else ""
    return Line("drift", f"batch {report.sequence}: {decision(report)}", style, remark(report))


def decision(report: DriftReport) -> str:
    """The verdict and what decided it: 'drift: p = 3.2e-8, threshold 0.00025'."""
    figures = _deciding_figures(report)
    return f"{report.verdict}: {figures}" if figures else report.verdict


def remark(report: DriftReport) -> str:
    """The verdict's reason, where it says more than the figures that decided."""
    by_chance = report.p is None or report.p > report.threshold
    return "" if report.verdict == "no drift" and by_chance else report.reason


def _deciding_figures(report: DriftReport) -> str:
    found, threshold = deciding_pair(report)
    if report.p is not None:
        return f"{p_equals(report.p)}, threshold {threshold}"
    return f"score {found}, threshold {threshold}" if found else ""


def deciding_pair(report: DriftReport) -> tuple[str, str]:
    """The p-value or the drift score, and its threshold; empty where nothing was compared."""
    if report.p is not None:
        return probability(report.p), probability(report.threshold)
    if report.drift_score is None:
        return "", ""
    return f"{report.drift_score:.3f}", measured(report.threshold)


def _model(model: ModelVersion) -> Line:
    style = "green" if model.decision == "promoted" else "yellow"
    what = f"is v{model.restores} again" if model.restores else model.decision
    return Line("trainer", f"model v{model.version} {what}: {model.reason}", style)


def _delivered(notification: Notification) -> str:
    said = ", ".join(f"{channel}: {answer}" for channel, answer in notification.channels.items())
    return said or "not asked for"
