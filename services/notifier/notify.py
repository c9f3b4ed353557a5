"""The handler: one event, one message on every channel."""

from collections.abc import Mapping

from pymongo.database import Database

from services.notifier.channels import Channel, channels
from services.notifier.message import Message, Told, message_of
from shared.events import WorkFailed, effect_id
from shared.failures import WillNotPass
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import DriftReport, ModelVersion, Notification
from shared.settings import Settings
from shared.store import Document, Store


def notify(event: Told, pipeline: Pipeline, store: Store, settings: Settings) -> Outcome:
    """Tell people of an event, if the pipeline asks for it.

    Raises:
        WillPass: a channel may take the message later; those that took it are not told again.
        WillNotPass: no channel takes it.
    """
    message = _message(event, store)
    asked_for = event.type in pipeline.notify.events
    said = _deliver(message, event, channels(settings), store) if asked_for else {}
    record = Notification(
        **record_fields(event, "notifier"),
        title=message.title,
        text=message.as_text(),
        channels=said,
    )
    return Outcome(record)


def _message(event: Told, store: Store) -> Message:
    if isinstance(event, WorkFailed):
        return message_of(event, None, None)
    query = {"pipeline": event.pipeline, "version": event.model_version}
    model = store.newest(ModelVersion, query, "version")
    report = store.get(DriftReport, model.drift_report) if model else None
    return message_of(event, model, report)


def _deliver(
    message: Message, event: Told, targets: Mapping[str, Channel], store: Store
) -> dict[str, str]:
    """Send to every channel that has not answered yet, and keep each answer as it comes."""
    answers = Answers(store.database, effect_id("notifier", event.event_id))
    said = answers.so_far()
    refused: set[str] = set()
    for name, send in targets.items():
        if name in said:
            continue
        try:
            said[name] = send(message)
        except WillNotPass as error:
            said[name] = f"refused: {error}"
            refused.add(name)
        else:
            answers.keep(name, said[name])
    if refused == set(targets):
        raise WillNotPass("; ".join(f"{name} {said[name]}" for name in sorted(refused)))
    return said


class Answers:
    """What the channels have said to one message: a later try leaves out those that took it."""

    def __init__(self, database: Database[Document], effect: str) -> None:
        self._documents = database["deliveries"]
        self._effect = effect

    def so_far(self) -> dict[str, str]:
        """Channel -> answer, of earlier tries."""
        document = self._documents.find_one({"_id": self._effect}) or {}
        return dict(document.get("answers", []))

    def keep(self, channel: str, answer: str) -> None:
        """Note that a channel took the message."""
        self._documents.update_one(
            {"_id": self._effect}, {"$push": {"answers": [channel, answer]}}, upsert=True
        )
