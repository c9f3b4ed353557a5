"""The trainer worker: `celery -A services.trainer.tasks worker -Q trainer -c 1`."""

from services.trainer.rollback import restore_model
from services.trainer.train import train_model
from shared.celery_app import app as app
from shared.events import RetrainRequested, RollbackRequested
from shared.outcome import Outcome
from shared.stage import Resources
from shared.worker import StageTasks

tasks = StageTasks("trainer", requires=("model_signing_key", "operators"))


@tasks.handles(RetrainRequested)
def on_retrain_requested(event: RetrainRequested, resources: Resources) -> Outcome:
    return train_model(event, resources.pipeline(event), resources.store, resources.settings)


@tasks.handles(RollbackRequested)
def on_rollback_requested(event: RollbackRequested, resources: Resources) -> Outcome:
    return restore_model(event, resources.store, resources.settings)
