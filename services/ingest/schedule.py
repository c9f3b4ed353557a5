"""Beat's schedule: every pipeline's ingestion, the watch, and the daily removal.

`celery -A shared.celery_app beat -S services.ingest.schedule:PipelineScheduler`

Beat sends tasks by their names, and needs nothing of what handles them.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from celery.beat import BeatLazyFunc, Scheduler
from celery.schedules import crontab

from shared.broker import Broker
from shared.events import IngestionDue, dump_event, first_event_fields, task_name
from shared.heartbeat import note_progress
from shared.installation import settle_in
from shared.logs import refuse_to_start
from shared.pipeline import (
    ManualSource,
    Pipeline,
    PipelineError,
    load_pipelines,
    parse_schedule,
)
from shared.settings import SettingsError, settings
from shared.stage import BROKER_ERRORS
from shared.tasks import RETENTION_TASK, WATCH_TASK

log = structlog.get_logger(__name__)

_CRON_EXPIRES_SECONDS: Final = 3600
_MADE_GOOD: Final = timedelta(days=1)
"""A slot that passed this recently is made good when beat starts; known rows are no news."""

_ALIVE_EVERY: Final = timedelta(seconds=2)


def beat_schedule(pipelines: dict[str, Pipeline], watch_seconds: float) -> dict[str, Any]:
    """Beat's entries: one a pipeline that has a source to read, and the housekeeping."""
    entries = {
        f"ingest {pipeline.name}": _ingestion(pipeline)
        for pipeline in pipelines.values()
        if not isinstance(pipeline.source, ManualSource)
    }
    entries["watch"] = {
        "task": WATCH_TASK,
        "schedule": watch_seconds,
        "options": {"queue": "publisher", "expires": watch_seconds},
    }
    entries["retention"] = {
        "task": RETENTION_TASK,
        "schedule": crontab(minute="30", hour="3"),
        "options": {"queue": "ingest", "expires": _CRON_EXPIRES_SECONDS},
    }
    return entries


def _ingestion(pipeline: Pipeline) -> dict[str, Any]:
    schedule = parse_schedule(pipeline.schedule)
    return {
        "task": task_name("ingest", IngestionDue.__name__),
        "schedule": schedule,
        "last_run_at": datetime.now(UTC) - _MADE_GOOD,
        "kwargs": {"event": BeatLazyFunc(due_event, pipeline.name, schedule)},
        "options": {
            "queue": "ingest",
            "expires": _CRON_EXPIRES_SECONDS if isinstance(schedule, crontab) else schedule,
            "kwargsrepr": f"pipeline={pipeline.name}",
        },
    }


def due_event(pipeline: str, schedule: crontab | float) -> dict[str, Any]:
    """The event for the slot that is due now: the minute for cron, else the multiple of seconds.

    Two beats that tick for the same slot make the same event, which is handled once.
    """
    width = 60.0 if isinstance(schedule, crontab) else schedule
    now = datetime.now(UTC).timestamp()
    slot = datetime.fromtimestamp(now - now % width, UTC)
    fields = first_event_fields(pipeline, "slot", slot.isoformat())
    return dump_event(IngestionDue(**fields, slot=slot))


class PipelineScheduler(Scheduler):
    """Celery's scheduler with the pipelines' entries, in memory: nothing goes stale on disk."""

    def setup_schedule(self) -> None:
        """Fill the schedule at start. A wrong setting or pipeline file ends beat here."""
        current = settings()
        if current.event_key is None:
            refuse_to_start(SettingsError("EVENT_KEY is not set; beat needs it"))
        self._broker = Broker(self.app)
        self._noted_at = datetime.min.replace(tzinfo=UTC)
        try:
            pipelines = load_pipelines(current.pipelines)
            settle_in(current, self._broker)
        except (PipelineError, SettingsError) as error:
            refuse_to_start(error)
        self.merge_inplace(beat_schedule(pipelines, current.watch_seconds))

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, and note that beat is alive."""
        pause = super().tick(*args, **kwargs)
        self._note_alive()
        return min(pause, _ALIVE_EVERY.total_seconds())

    def _note_alive(self) -> None:
        now = datetime.now(UTC)
        if now - self._noted_at < _ALIVE_EVERY:
            return
        self._noted_at = now
        try:
            note_progress(self._broker, "beat", settings().heartbeat_file)
        except BROKER_ERRORS as error:
            log.warning("heartbeat not noted", error=type(error).__name__)
