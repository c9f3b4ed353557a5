"""The notifier worker: `celery -A services.notifier.tasks worker -Q notifier`."""

from services.notifier.notify import Announced, notify
from shared.celery_app import app as app
from shared.events import (
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
    return notify(event, resources.pipeline(event), resources.store, resources.settings)
