"""Ends a worker that is connected to the broker and deaf, so that it is started again.

A read that never returns, in the loop that consumes messages, leaves a process that exists and does
nothing. No restart policy sees that, so the worker itself has to end.
"""

import os
import signal
import threading
from typing import Any, Final

import structlog
from billiard import active_children
from celery import bootsteps, signals

log = structlog.get_logger(__name__)

SILENT_SECONDS: Final = 120
"""Longer than any time-out of the broker's connections."""

ENDING_SECONDS: Final = 5
"""After soft shutdown (10 s) and end of the pool, within the grace that containers give (30 s)."""


class Watchdog(bootsteps.StartStopStep):
    """Watches the loop while it is connected; a worker that reconnects is not deaf."""

    requires = ("celery.worker.consumer.heart:Heart",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._missed = 0
        self._disconnected = threading.Event()

    def start(self, consumer: Any) -> None:
        """Begin to watch."""
        self._missed, self._disconnected = 0, threading.Event()
        consumer.timer.call_repeatedly(1, self._turned)
        threading.Thread(
            target=self._watch, args=(self._disconnected,), name="watchdog", daemon=True
        ).start()

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop watching: the connection is gone, or the worker ends."""
        self._disconnected.set()

    def _turned(self) -> None:
        self._missed = 0

    def _watch(self, disconnected: threading.Event) -> None:
        """Counts seconds instead of reading a clock: a process that was stopped has missed none."""
        while not disconnected.wait(1):
            self._missed += 1
            if self._missed >= SILENT_SECONDS:
                log.critical("the worker has heard nothing and ends", seconds=self._missed)
                _end_at_once()


@signals.worker_shutting_down.connect
def _end_in_time(how: str, **_: object) -> None:
    """Taking leave of a broker that is connected and silent takes a time-out for each word.

    A warm shutdown waits for what is in hand, however long that takes.
    """
    if how == "Cold":
        end = threading.Timer(ENDING_SECONDS, _end_although_not_done)
        end.daemon = True
        end.start()


def _end_although_not_done() -> None:
    log.warning("the worker cannot take leave of its broker and ends", seconds=ENDING_SECONDS)
    _end_at_once()


def _end_at_once() -> None:
    """What was under way is kept by its lease and its unacknowledged message."""
    for pid in filter(None, [child.pid for child in active_children()]):
        os.kill(pid, signal.SIGKILL)
    os._exit(1)
