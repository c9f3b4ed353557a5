"""The handler: one event, one message, at most once on each channel."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from services.notifier import message as messages
from services.notifier.channels import Channel, Receipt, channels
from services.notifier.message import Message, as_text
from shared.events import (
    DriftFound,
    ModelPromoted,
    ModelPublished,
    ModelRejected,
    PublicationAltered,
    ReviewNeeded,
    WorkFailed,
    effect_id,
)
from shared.failures import WillNotPass, WillPass
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.plain_text import without_addresses
from shared.records import DeadLetter, DriftReport, ModelVersion, Notification
from shared.settings import Settings
from shared.store import Store

log = structlog.get_logger(__name__)

AboutModel = ModelPromoted | ModelRejected | ReviewNeeded | ModelPublished
Announced = DriftFound | AboutModel | PublicationAltered | WorkFailed


@dataclass(frozen=True)
class Answer:
    """What a channel said to a message: 'sent', 'printed', or why it was refused."""

    text: str
    accepted: bool


class Deliveries:
    """The answers of the channels to the message of one event, kept as they come in.

    A further try asks only the channels that have not answered. An acceptance holds for good; a
    refusal holds until a person replays the event's dead letter.
    """

    def __init__(self, store: Store, effect: str) -> None:
        self._store = store
        self._effect = effect
        self._documents = store.database["deliveries"]

    def answers(self) -> dict[str, Answer]:
        """Channel -> its answer, for the channels that need not be asked again."""
        document = self._documents.find_one({"_id": self._effect})
        if document is None:
            return {}
        letter = self._store.get(DeadLetter, self._effect)
        return {
            channel: Answer(entry["answer"], entry["accepted"])
            for channel, entry in document["channels"].items()
            if entry["accepted"] or letter is None or entry["at"] > letter.recorded_at
        }

    def accepted(self, channel: str, receipt: Receipt) -> None:
        """Keep that a channel has the message."""
        entry = {"answer": receipt.answer, "message_id": receipt.message_id, "accepted": True}
        self._keep(channel, entry)

    def refused(self, channel: str, reason: str) -> None:
        """Keep that a channel will not take the message."""
        self._keep(channel, {"answer": reason, "accepted": False})

    def _keep(self, channel: str, entry: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        self._documents.update_one(
            {"_id": self._effect},
            {"$set": {f"channels.{channel}": entry | {"at": now}, "recorded_at": now}},
            upsert=True,
        )


def notify(
    event: Announced, pipeline: Pipeline | None, store: Store, settings: Settings
) -> Outcome:
    """Tell people about an event, if the pipeline asks for it.

    Args:
        pipeline: None if the event is of none; people hear of it then.

    Raises:
        WillPass: a channel may take the message at another try; those that have it are not asked
            again.
        WillNotPass: every channel refused the message, or the event's model is not in the store.
    """
    made = _message(event, store)
    # A failure's reason may name an address that a person is to look at; other reasons quote data.
    text = made.text if isinstance(event, WorkFailed) else without_addresses(made.text)
    message = replace(made, text=text, trace_id=event.trace_id)
    answers: dict[str, str] = {}
    if pipeline is None or event.type in pipeline.notify.events:
        deliveries = Deliveries(store, effect_id("notifier", event.event_id))
        answers = deliver(message, channels(settings), deliveries)
    return Outcome(
        Notification(
            **record_fields(event, "notifier"),
            title=message.title,
            text=as_text(message),
            channels=answers,
        )
    )


def deliver(message: Message, to: tuple[Channel, ...], deliveries: Deliveries) -> dict[str, str]:
    """Send the message to every channel that has not answered yet: channel -> its answer.

    Raises:
        WillPass: at least one channel may take it at another try.
        WillNotPass: all refused.
    """
    known = deliveries.answers()
    failures = {}
    for channel in [channel for channel in to if channel.name not in known]:
        try:
            receipt = channel.send(message)
        except WillPass as failure:
            failures[channel.name] = failure
        except WillNotPass as refusal:
            deliveries.refused(channel.name, str(refusal))
            log.warning("message refused", channel=channel.name, reason=str(refusal))
        else:
            deliveries.accepted(channel.name, receipt)
            log.info("message accepted", channel=channel.name, message_id=receipt.message_id)
    if failures:
        raise _another_try(failures)
    answers = deliveries.answers()
    said = {channel: answer.text for channel, answer in answers.items()}
    if not any(answer.accepted for answer in answers.values()):
        raise WillNotPass(f"no channel took the message: {_listed(said)}")
    return said


def _another_try(failures: dict[str, WillPass]) -> WillPass:
    reasons = {channel: str(failure) for channel, failure in failures.items()}
    waits = [failure.retry_after for failure in failures.values() if failure.retry_after]
    return WillPass(_listed(reasons), retry_after=max(waits, default=None))


def _listed(said: dict[str, str]) -> str:
    return "; ".join(f"{channel}: {words}" for channel, words in said.items())


def _message(event: Announced, store: Store) -> Message:
    if isinstance(event, WorkFailed):
        return messages.failed(event)
    if isinstance(event, PublicationAltered):
        return messages.altered(event)
    if isinstance(event, DriftFound):
        found = store.get(DriftReport, event.report)
        return messages.drifted(event, found, _picture(found, store))
    model = _model(event, store)
    report = store.get(DriftReport, model.drift_report)
    match event:
        case ModelPromoted():
            return messages.promoted(event, model, report)
        case ModelRejected():
            return messages.rejected(event, model, report)
        case ReviewNeeded():
            return messages.review_needed(event, model)
        case ModelPublished():
            return messages.published(event, model, report)


def _picture(report: DriftReport | None, store: Store) -> bytes | None:
    if report is None or report.chart is None:
        return None
    try:
        return store.picture(report.chart)
    except WillNotPass:  # its retention is over; the message says enough without it
        return None


def _model(event: AboutModel, store: Store) -> ModelVersion:
    query = {"pipeline": event.pipeline, "version": event.model_version}
    model = next(store.find(ModelVersion, query, limit=1), None)
    if model is None:
        raise WillNotPass(f"the store holds no model v{event.model_version} of {event.pipeline}")
    return model
