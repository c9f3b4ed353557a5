"""The drift worker: `celery -A services.drift.tasks worker -Q drift`."""

from services.drift.counting import count_chunk
from services.drift.ingested import check_batch
from services.drift.performance import watches_performance
from services.drift.reference import adopt_reference
from shared.celery_app import app as app
from shared.events import BatchIngested, ChunkIngested, ModelPromoted
from shared.outcome import Outcome
from shared.pipeline import Pipeline
from shared.stage import Resources
from shared.worker import StageTasks


def _needs(pipeline: Pipeline) -> tuple[str, ...]:
    """To ask the champion its bytes have to be known as those that were sealed."""
    return ("model_signing_key",) if watches_performance(pipeline.drift) else ()


tasks = StageTasks("drift", requires=("operators",), requires_for=_needs)


@tasks.handles(BatchIngested)
def on_batch_ingested(event: BatchIngested, resources: Resources) -> Outcome:
    return check_batch(event, resources.pipeline(event), resources.store, resources.settings)


@tasks.handles(ChunkIngested)
def on_chunk_ingested(event: ChunkIngested, resources: Resources) -> Outcome:
    return count_chunk(event, resources.pipeline(event), resources.store)


@tasks.handles(ModelPromoted)
def on_model_promoted(event: ModelPromoted, resources: Resources) -> Outcome:
    return adopt_reference(event, resources.pipeline(event), resources.store)
