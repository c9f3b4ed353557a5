"""The notifier worker: `celery -A services.notifier.tasks worker -Q notifier`."""

from services.notifier.notify import Announced, notify
from shared.celery_app import app as app
from shared.events import (
    NO_PIPELINE,
    DriftFound,
    ModelPromoted,
    ModelPublished,
    ModelRejected,
    PublicationAltered,
    ReviewNeeded,
    WorkFailed,
)
from shared.outcome import Outcome
from shared.stage import Resources
from shared.worker import StageTasks

tasks = StageTasks("notifier")


@tasks.handles(DriftFound)
@tasks.handles(ModelPromoted)
@tasks.handles(ModelRejected)
@tasks.handles(ReviewNeeded)
@tasks.handles(ModelPublished)
@tasks.handles(PublicationAltered)
@tasks.handles(WorkFailed)
def on_event(event: Announced, resources: Resources) -> Outcome:
    pipeline = None if event.pipeline == NO_PIPELINE else resources.pipeline(event)
    return notify(event, pipeline, resources.store, resources.settings)
