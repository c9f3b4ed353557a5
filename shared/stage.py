"""The stage runtime: every event is handled once in effect, whatever dies on the way.

A handler is an ordinary function from an event to an `Outcome`. The runtime parses the message,
holds a lease while the handler runs, writes the record together with the events that follow, sends
them, and turns failures into later tries or dead letters. What gets lost between these steps is
repaired by the sweep.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from celery import Celery, current_task
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError
from pymongo.errors import AutoReconnect, PyMongoError
from redis.exceptions import RedisError

from shared.authentication import authenticator_of
from shared.broker import Broker
from shared.events import (
    Event,
    Stage,
    WorkFailed,
    deterministic_id,
    effect_id,
    parse_event,
)
from shared.failures import NotYet, WillNotPass, WillPass, shortened
from shared.foreign import bury_foreign
from shared.outcome import Handling, Outcome
from shared.pipeline import Pipeline, load_pipelines, next_slot, parse_schedule
from shared.records import DeadLetter, Record
from shared.refusals import refusal
from shared.settings import Settings
from shared.store import Conflict, Store
from shared.work import Lease, Work

log = structlog.get_logger(__name__)

Handler = Callable[[Any, "Resources"], Outcome]

BROKER_ERRORS: Final = (OperationalError, RedisError, ConnectionError)
_CAN_PASS: Final = (WillPass, Conflict, AutoReconnect, ConnectionError, TimeoutError)


@dataclass(frozen=True)
class Resources:
    """What handlers work with. One instance a process, made after the fork."""

    settings: Settings
    pipelines: dict[str, Pipeline]
    store: Store
    broker: Broker
    work: Work

    @classmethod
    def connect(cls, stage: Stage, settings: Settings, app: Celery) -> "Resources":
        """Read the pipelines, connect to store and broker, and prepare what a stage writes."""
        resources = cls.attach(settings, app)
        resources.store.prepare(stage, settings.retention_days)
        return resources

    @classmethod
    def attach(cls, settings: Settings, app: Celery) -> "Resources":
        """Read the pipelines; the connections are made at their first use, and nothing is written.

        Raises:
            PipelineError: a pipeline file is not usable.
        """
        store = Store.connect(settings)
        return cls(
            settings=settings,
            pipelines=load_pipelines(settings.pipelines),
            store=store,
            broker=Broker(app),
            work=Work(store.database, settings.lease_seconds, authenticator_of(settings)),
        )

    def close(self) -> None:
        """Close the connections."""
        self.store.close()
        self.broker.close()

    def send(self, record: Record, events: tuple[Event, ...]) -> None:
        """Send the events that a record in the store leads to. Without a broker the sweep does."""
        if not events:
            return
        try:
            for event in events:
                self.broker.send(event)
        except BROKER_ERRORS as error:
            self.tell_not_sent(error)
        else:
            self.store.mark_sent(record)

    def tell_not_sent(self, error: Exception) -> None:
        """Log that the broker did not take an event, and why if it is a right that is missing."""
        said = refusal(error, self.settings)
        log.warning("not sent; the sweep will send it", error=said or type(error).__name__)

    def pipeline(self, event: Event) -> Pipeline:
        """The definition of the event's pipeline.

        Raises:
            WillNotPass: there is none.
        """
        try:
            return self.pipelines[event.pipeline]
        except KeyError:
            known = ", ".join(sorted(self.pipelines))
            raise WillNotPass(
                f"no pipeline {event.pipeline!r} in PIPELINES ({self.settings.pipelines}), "
                f"which holds {known}"
            ) from None


class CutShort(Exception):
    """A handler was ended in the middle by the time limit, and its event was given up.

    What it was doing, an import or a lock, is half done, so the process is not to go on.
    """


class StageRuntime:
    """Handles the messages of one stage."""

    def __init__(self, stage: Stage, resources: Resources) -> None:
        self.stage = stage
        self._resources = resources
        self._store = resources.store
        self._work = resources.work

    def handle(self, message: object, handler: Handler) -> None:
        """Handle one message, unless its effect is settled or another worker has it in hand.

        Raises:
            CutShort: it took too long.
        """
        try:
            event = parse_event(message)
        except ValueError as error:
            self.bury_foreign(repr(message), str(error))
            return
        with structlog.contextvars.bound_contextvars(**self._identity(event)):
            try:
                self._take_up(event, handler)
            except PyMongoError as error:  # Celery's own line has no ids
                said = self._refusal(error)
                log.warning(said or "the store does not answer", error=type(error).__name__)
                raise

    def _take_up(self, event: Event, handler: Handler) -> None:
        effect = effect_id(self.stage, event.event_id)
        if self._store.is_settled(effect, event.type):
            self._work.finish(effect)
            return
        lease = self._work.begin(effect, self.stage, event)
        if lease:
            with structlog.contextvars.bound_contextvars(attempt=lease.attempt):
                self._attempt(event, lease, handler)

    def _identity(self, event: Event) -> dict[str, Any]:
        """What every log line carries that has to do with the event."""
        identity = {
            "stage": self.stage,
            "pipeline": event.pipeline,
            "batch": getattr(event, "sequence", None),
            "kind": event.type,
            "event_id": event.event_id,
            "trace_id": event.trace_id,
            "task_id": current_task.request.id if current_task else None,
        }
        return {name: value for name, value in identity.items() if value is not None}

    def _attempt(self, event: Event, lease: Lease, handler: Handler) -> None:
        limit = self._resources.settings.max_attempts
        if lease.attempt > limit:
            self._bury(event, lease, f"given up after {limit} tries that ended without an answer")
            return
        try:
            handling = Handling(event=event, attempt=lease.attempt, begun_at=datetime.now(UTC))
            started = time.perf_counter()
            with self._work.kept(lease):
                outcome = handler(event, self._resources)
            self._settle(lease, outcome, handling, time.perf_counter() - started)
        except NotYet as wait:
            self._put_off(event, lease, wait.effect)
        except _CAN_PASS as failure:
            self._try_later(event, lease, failure)
        except WillNotPass as failure:
            self._bury(event, lease, str(failure))
        except PyMongoError as failure:
            said = self._refusal(failure)
            if not said:
                raise
            self._try_later(event, lease, WillPass(said))
        except Exception as failure:  # a bug in a handler must not lose the event
            if _was_cut_short(failure):
                self._bury(event, lease, self._too_long())
                raise CutShort from failure
            log.exception("handler failed")
            self._bury(event, lease, shortened(f"{type(failure).__name__}: {failure}"))

    def _refusal(self, error: BaseException) -> str | None:
        return refusal(error, self._resources.settings)

    def _too_long(self) -> str:
        seconds = self._resources.settings.task_time_limit_seconds
        return (
            f"took longer than TASK_TIME_LIMIT_SECONDS ({seconds} s) allows. Raise it, or give "
            "the stage less to do: a training takes less time with a lower "
            "training.max_window_rows, fewer trees, or more TRAINER_CORES"
        )

    def _settle(self, lease: Lease, outcome: Outcome, handling: Handling, seconds: float) -> None:
        record = outcome.record.model_copy(update={"handled_seconds": seconds})
        if self._store.record(record, outcome.events, handling):
            log.info("handled", **record.facts(), seconds=round(seconds, 3))
            self._resources.send(record, outcome.events)
        self._wake(lease.effect)

    def _wake(self, effect: str) -> None:
        self._work.finish(effect)
        for stage, event in self._work.waiting_for(effect):
            self._send_to(stage, event)

    def _put_off(self, event: Event, lease: Lease, until: str) -> None:
        self._work.wait_for(lease, until)
        log.info("waits", waits_for=until)
        if self._store.is_settled(until):  # it was settled in between: nobody would wake this event
            self._send_to(self.stage, event)

    def _try_later(self, event: Event, lease: Lease, failure: BaseException) -> None:
        reason = shortened(f"{type(failure).__name__}: {failure}")
        if lease.attempt >= self._resources.settings.max_attempts:
            words = shortened(str(failure))
            self._bury(event, lease, f"{words} (the last of {lease.attempt} tries)")
            return
        asked = getattr(failure, "retry_after", None)
        pause = self._pause(lease.attempt, self._granted(event, asked))
        log.warning("will be tried again", reason=reason, seconds=round(pause, 1))
        self._work.try_again(lease, datetime.now(UTC) + timedelta(seconds=pause), reason)

    def _granted(self, event: Event, asked: float | None) -> float:
        """How much of the pause that the other side asked for it gets.

        A source is never left alone beyond the pipeline's next reading, which asks it anyway.
        """
        pipeline = self._resources.pipelines.get(event.pipeline)
        if not asked or self.stage != "ingest" or not pipeline:
            return asked or 0.0
        now = datetime.now(UTC)
        to_next = next_slot(parse_schedule(pipeline.schedule), now) - now
        return min(asked, to_next.total_seconds())

    def _pause(self, attempt: int, asked: float) -> float:
        """Seconds until the next try: exponential with full jitter, not less than was asked for."""
        settings = self._resources.settings
        longest = min(settings.retry_max_seconds, settings.retry_base_seconds * 2 ** (attempt - 1))
        return max(random.uniform(longest / 2, longest), asked)  # noqa: S311

    def _bury(self, event: Event, lease: Lease, reason: str) -> None:
        log.error("given up", reason=reason)
        letter = DeadLetter(
            id=lease.effect,
            pipeline=event.pipeline,
            trace_id=event.trace_id,
            recorded_at=datetime.now(UTC),
            stage=self.stage,
            kind=event.type,
            reason=reason,
            message=event.model_dump(mode="json"),
            attempts=lease.attempt,
        )
        alarms = () if self.stage == "notifier" else (_work_failed(event, letter),)
        self._store.bury(letter, alarms)
        self._resources.send(letter, alarms)
        self._wake(lease.effect)

    def bury_foreign(self, received: str, reason: str) -> None:
        """Keep the beginning of what came in place of a message of ours, and tell of it."""
        if buried := bury_foreign(self.stage, "foreign message", received, reason, self._store):
            letter, told = buried
            self._resources.send(letter, (told,))

    def _send_to(self, stage: Stage, event: Event) -> None:
        try:
            self._resources.broker.send_to(stage, event)
        except BROKER_ERRORS as error:
            self._resources.tell_not_sent(error)


def _was_cut_short(failure: BaseException | None) -> bool:
    """Whether the time limit is behind a failure, whatever the code that met it has made of it."""
    while failure:
        if isinstance(failure, SoftTimeLimitExceeded):
            return True
        failure = failure.__cause__ or failure.__context__
    return False


def _work_failed(event: Event, letter: DeadLetter) -> WorkFailed:
    return WorkFailed(
        event_id=deterministic_id(letter.id, "WorkFailed", letter.recorded_at.isoformat()),
        trace_id=event.trace_id,
        pipeline=event.pipeline,
        occurred_at=letter.recorded_at,
        stage=letter.stage,
        failed_event=event.type,
        dead_letter=letter.id,
        reason=letter.reason[:1000],
    )
