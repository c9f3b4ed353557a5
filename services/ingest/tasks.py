"""The ingest worker: `celery -A services.ingest.tasks worker -Q ingest`."""

from datetime import UTC, datetime

from services.ingest.batch import ingest
from services.ingest.headers import require_secrets_over_tls
from shared.celery_app import app as app
from shared.events import IngestionDue
from shared.outcome import Outcome
from shared.retention import WORKERS_KEPT, remove_unnamed_blobs
from shared.stage import Resources
from shared.tasks import RETENTION_TASK
from shared.worker import StageTasks, resources

tasks = StageTasks("ingest", check=require_secrets_over_tls)


@tasks.handles(IngestionDue)
def on_ingestion_due(event: IngestionDue, resources: Resources) -> Outcome:
    return ingest(event, resources.pipeline(event), resources.store, resources.settings)


@app.task(name=RETENTION_TASK)
def run_retention() -> None:
    connected = resources("ingest")
    remove_unnamed_blobs(connected.store, connected.settings.retention_days)
    connected.broker.forget_workers(silent_since=datetime.now(UTC) - WORKERS_KEPT)
