"""A notifier that takes every exception for its own, as an import within a library of C does."""

import time

from shared.celery_app import app as app  # the worker's command looks for it here
from shared.events import WorkFailed
from shared.outcome import Outcome
from shared.stage import Resources
from shared.worker import StageTasks

tasks = StageTasks("notifier")


@tasks.handles(WorkFailed)
def on_work_failed(event: WorkFailed, resources: Resources) -> Outcome:
    try:
        time.sleep(60)
    except BaseException as exception:
        raise ImportError("initialization failed") from exception
    raise AssertionError("nobody has ended it")
