"""The drift worker: `celery -A services.drift.tasks worker -Q drift`."""

from services.drift.counting import count_chunk
from services.drift.ingested import check_batch
from services.drift.reference import adopt_reference
from shared.celery_app import app as app
from shared.events import BatchIngested, ChunkIngested, ModelPromoted
from shared.outcome import Outcome
from shared.stage import Resources
from shared.worker import StageTasks

tasks = StageTasks("drift")


@tasks.handles(BatchIngested)
def on_batch_ingested(event: BatchIngested, resources: Resources) -> Outcome:
    return check_batch(event, resources.pipeline(event), resources.store)


@tasks.handles(ChunkIngested)
def on_chunk_ingested(event: ChunkIngested, resources: Resources) -> Outcome:
    return count_chunk(event, resources.pipeline(event), resources.store)


@tasks.handles(ModelPromoted)
def on_model_promoted(event: ModelPromoted, resources: Resources) -> Outcome:
    return adopt_reference(event, resources.pipeline(event), resources.store)
