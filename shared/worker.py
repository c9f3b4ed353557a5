"""What makes a Celery process a worker of one stage: its tasks, its start, its signs of life."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import structlog
from celery import signals

from shared.broker import Broker
from shared.celery_app import app
from shared.events import EventBase, Stage, task_name
from shared.heartbeat import note_progress
from shared.installation import claim, settle_in
from shared.logs import refuse_to_start
from shared.operators import Operators
from shared.pipeline import Pipeline, PipelineError, load_pipelines
from shared.refusals import refusal
from shared.settings import Settings, SettingsError, settings
from shared.stage import BROKER_ERRORS, CutShort, Handler, Resources, StageRuntime
from shared.sweep import SWEEP, is_due, sweep
from shared.tasks import bury_task, sweep_task
from shared.transport import unacknowledged

log = structlog.get_logger(__name__)
H = TypeVar("H", bound=Handler)


@cache
def resources(stage: Stage) -> Resources:
    """The connections of this process, which serves one stage.

    First called in a pool's child, so after the fork. Celery ends a child by an exception in the
    middle of whatever it does. An import that meets it stays half done, and every later event would
    fail. The kernel's way leaves no such process.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return Resources.connect(stage, settings(), app)


class StageTasks:
    """Registers the handlers of one stage as Celery tasks.

    `requires` names the settings without which the stage's worker does not start, `requires_for`
    those that it needs on account of a pipeline. `check` raises SettingsError for a setting that
    the stage cannot work with, or not with these pipelines.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        requires: tuple[str, ...] = (),
        requires_for: Callable[[Pipeline], tuple[str, ...]] = lambda _: (),
        check: Callable[[Settings, Iterable[Pipeline]], object] = lambda *_: None,
    ) -> None:
        self._stage = stage
        self._requires = requires
        self._requires_for = requires_for
        self._check = check
        self._installation: str | None = None
        self._sweep_asked_at: datetime | None = None
        signals.celeryd_init.connect(self._check_settings, weak=False)
        signals.heartbeat_sent.connect(self._on_heartbeat, weak=False)
        app.task(name=sweep_task(stage))(self._sweep)
        app.task(name=bury_task(stage))(self._bury)

    def handles(self, kind: type[EventBase]) -> Callable[[H], H]:
        """Make a function the stage's handler for events of a kind."""

        def register(handler: H) -> H:
            def run(event: object) -> None:
                try:
                    StageRuntime(self._stage, resources(self._stage)).handle(event, handler)
                except CutShort:
                    os._exit(os.EX_SOFTWARE)  # the message comes again, and its event is settled

            app.task(name=task_name(self._stage, kind.__name__))(run)
            return handler

        return register

    def _sweep(self) -> None:
        """Send again what was lost."""
        connected = resources(self._stage)
        sweep(self._stage, connected)
        connected.broker.note_alive(self._sweeps_sign)

    def _bury(self, received: str, reason: str) -> None:
        StageRuntime(self._stage, resources(self._stage)).bury_foreign(received, reason)

    def _check_settings(self, **_: object) -> None:
        app.conf.broker_transport_options |= unacknowledged(self._stage)
        current = settings()
        try:
            pipelines = load_pipelines(current.pipelines)
        except PipelineError as error:
            refuse_to_start(error)
        for name, for_what in self._required(pipelines.values()):
            if not getattr(current, name):
                refuse_to_start(
                    f"{name.upper()} is not set; the {self._stage} worker needs it{for_what}"
                )
        try:
            Operators(current.operators or "")
            self._check(current, pipelines.values())
            self._installation = settle_in(current, _broker())
        except SettingsError as error:
            refuse_to_start(error)
        except Exception as error:  # Celery would only log it, and let the worker work
            log.exception("the settings could not be checked")
            refuse_to_start(f"{type(error).__name__}: {error}")

    def _on_heartbeat(self, sender: Any, **_: object) -> None:
        """Sent from the loop that consumes messages, so a worker that hangs there falls silent."""
        try:
            if self._installation:
                claim(self._installation, _broker(), settings())
            note_progress(_broker(), sender.eventer.hostname, settings().heartbeat_file)
            self._ask_for_sweep()
        except BROKER_ERRORS as error:
            said = refusal(error, settings())
            log.warning("heartbeat not noted", error=said or type(error).__name__)
        except SettingsError as error:  # its own signs did not come through for a while
            log.critical(str(error))
            os.kill(os.getpid(), signal.SIGTERM)

    @property
    def _sweeps_sign(self) -> str:
        return f"{SWEEP}@{self._stage}"

    def _ask_for_sweep(self) -> None:
        """Put a request into the stage's own queue, if one is due."""
        current, stage = settings(), self._stage
        done_at = _broker().last_alive().get(self._sweeps_sign)
        queued = _broker().queue_length(stage)
        if is_due(
            self._sweep_asked_at,
            done_at,
            queued,
            current.sweep_seconds,
            current.task_time_limit_seconds,
        ):
            self._sweep_asked_at = datetime.now(UTC)
            app.send_task(sweep_task(stage), queue=stage)

    def _required(self, pipelines: Iterable[Pipeline]) -> Iterator[tuple[str, str]]:
        """Each setting that has to be there, and what for."""
        yield from ((name, "") for name in ("mongodb_uri", "event_key", *self._requires))
        for pipeline in pipelines:
            for_what = f" for pipeline {pipeline.name}"
            yield from ((name, for_what) for name in self._requires_for(pipeline))


@cache
def _broker() -> Broker:
    return Broker(app)


@signals.worker_ready.connect
def _warn_of_the_broker(**_: object) -> None:
    """Messages that a full broker throws away are sent again, but only when the sweep sees it."""
    try:
        policy = _broker().eviction_policy()
        if _broker().has_keys_without_prefix():
            log.warning(
                "a version before REDIS_KEY_PREFIX has left keys on the broker, which nobody reads "
                "any more; docs/operations.md, Upgrade, says how to remove them"
            )
    except BROKER_ERRORS:  # gone again already; nothing depends on this
        return
    if policy != "noeviction":
        log.warning(
            "the broker throws messages away when it is full; set its maxmemory-policy to "
            "noeviction",
            maxmemory_policy=policy,
        )
