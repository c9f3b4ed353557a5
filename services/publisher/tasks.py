"""The publisher worker: `celery -A services.publisher.tasks worker -Q publisher -c 1`."""

from collections.abc import Iterable

from services.publisher.publish import publish_model
from services.publisher.signing import signer_of
from services.publisher.watch import watch_publications
from shared.celery_app import app as app
from shared.events import ModelPromoted
from shared.outcome import Outcome
from shared.pipeline import Pipeline
from shared.settings import Settings
from shared.stage import Resources
from shared.tasks import WATCH_TASK
from shared.worker import StageTasks, resources


def _check(settings: Settings, _: Iterable[Pipeline]) -> None:
    signer_of(settings)


tasks = StageTasks("publisher", requires=("model_repository", "model_signing_key"), check=_check)


@tasks.handles(ModelPromoted)
def on_model_promoted(event: ModelPromoted, resources: Resources) -> Outcome:
    return publish_model(event, resources.pipeline(event), resources.store, resources.settings)


@app.task(name=WATCH_TASK)
def watch() -> None:
    watch_publications(resources("publisher"))
