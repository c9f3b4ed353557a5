"""What `benchmarks.load` compares with: workers that pass a message on and do nothing else."""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from celery import Celery
from kombu import Queue
from redis import Redis

from shared.celery_app import celery_app
from shared.settings import Settings, settings

QUEUES: Final = ("passing-0", "passing-1")
PASSED: Final = "passing:done"
_TASK: Final = "passing.pass_on"


def passing_app(read_settings: Callable[[], Settings]) -> Celery:
    """An application set up as the stages' is, with queues of its own."""
    application = celery_app(read_settings)
    application.conf.task_queues = [Queue(name, no_declare=True) for name in QUEUES]
    return application


def send(application: Celery, hop: int, event: dict[str, Any]) -> None:
    """Hand an event to the worker of a hop."""
    called_with = {"hop": hop, "event": event}
    application.send_task(_TASK, kwargs=called_with, queue=QUEUES[hop])


app = passing_app(settings)


@app.task(name=_TASK)
def pass_on(hop: int, event: dict[str, Any]) -> None:
    if hop + 1 < len(QUEUES):
        send(app, hop + 1, event)
    else:
        _redis().incr(PASSED)


@cache
def _redis() -> Redis:
    return Redis.from_url(app.conf.broker_url)
