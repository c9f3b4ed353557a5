"""A worker whose loop stops turning a second after its start, as on a read that never returns."""

import time
from typing import Any

from celery import signals

import shared.watchdog
from shared.celery_app import app as app  # the worker's command looks for it here

shared.watchdog.SILENT_SECONDS = 3  # type: ignore[misc]


@signals.worker_ready.connect
def _go_deaf(sender: Any, **_: object) -> None:
    sender.timer.call_after(1, lambda: time.sleep(3600))
