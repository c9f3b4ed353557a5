"""A notifier that holds an event for a minute when the event's reason asks for it."""

import time

from shared.celery_app import app as app  # the worker's command looks for it here
from shared.events import WorkFailed
from shared.outcome import Outcome, record_fields
from shared.records import Notification
from shared.stage import Resources
from shared.worker import StageTasks

HOLD = "hold this event"

tasks = StageTasks("notifier")


@tasks.handles(WorkFailed)
def on_work_failed(event: WorkFailed, _: Resources) -> Outcome:
    if event.reason == HOLD:
        time.sleep(60)
    return Outcome(
        Notification(
            **record_fields(event, "notifier"),
            title="not held",
            text=event.reason,
            channels={},
        )
    )
