"""One chain of events: what each stage has made of each event, and what is still to be done."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

from shared.documents import Document
from shared.events import (
    ROUTES,
    Event,
    IngestionDue,
    RollbackRequested,
    Stage,
    dump_event,
    effect_id,
    parse_event,
)
from shared.outcome import Handling
from shared.records import AuditEntry, Batch, DeadLetter, Record, RetiredReference
from shared.stage import Resources
from shared.store import COLLECTIONS
from shared.wording import moment
from shared.work import state_of

State = Literal[
    "done",
    "given up",
    "in hand",
    "waits",
    "tried later",
    "left",
    "queued",
    "not queued",
    "not sent",
    "not kept",
]

KINDS: Final = tuple(kind for kind in COLLECTIONS if kind not in (RetiredReference, AuditEntry))
"""What a chain is made of. A replaced reference has the id of the record with which it came."""


@dataclass(frozen=True)
class Step:
    """One event at one stage."""

    stage: Stage
    effect: str
    event: Event | None
    """None: what came was no event of ours, or its record does not name it."""
    state: State
    record: Record | None = None
    """What is left of it: its record, or the dead letter of what was given up."""
    handling: Handling | None = None
    """None: nothing has come of it yet, or the record does not say how."""
    attempts: int | None = None
    remark: str = ""
    """What it waits for, why it failed the last time, or what became of its dead letter."""
    caused_by: str | None = None
    """The effect that led to the event."""
    led_to: list["Step"] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The event's kind, or what came in its place."""
        if self.event:
            return self.event.type
        return self.record.kind if isinstance(self.record, DeadLetter) else "event not kept"

    @property
    def waited_seconds(self) -> float | None:
        """From the event to the try that came to the record."""
        if self.handling is None:
            return None
        waited = self.handling.begun_at - self.handling.event.occurred_at
        return max(0.0, waited.total_seconds())  # hosts' clocks differ

    @property
    def at(self) -> datetime:
        """Its place in the order of time."""
        if self.handling:
            return self.handling.begun_at
        if self.record:
            return self.record.recorded_at
        return self.event.occurred_at if self.event else datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Chain:
    """All that has one trace id."""

    trace_id: str
    begins: list[Step]
    """The steps that none of the others led to, with those that they led to."""

    @property
    def steps(self) -> list[Step]:
        """All steps in the order of time."""
        return sorted(_all_of(self.begins), key=lambda step: step.at)

    @property
    def pipeline(self) -> str:
        """The pipeline that it belongs to."""
        first = self.begins[0]
        found = first.event or first.record
        assert found  # noqa: S101 - one of them is what led to the step
        return found.pipeline

    @property
    def origin(self) -> str:
        """What it began with, in words."""
        first = self.begins[0]
        match first.event:
            case IngestionDue(slot=slot):
                due = f"due {moment(slot, seconds=True)}"
                return f"{first.record.source}, {due}" if isinstance(first.record, Batch) else due
            case RollbackRequested(model_version=version):
                return f"a person wants v{version} back"
        return first.kind


def _all_of(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _all_of(step.led_to)


@dataclass(frozen=True)
class _Sent:
    """An event of an outbox, for one stage."""

    event: Event
    by: str
    """The effect whose outbox it is in."""
    is_sent: bool
    is_settled: bool
    """By everyone for whom the outbox has an event."""


def chain_of(resources: Resources, trace_id: str) -> Chain:
    """Everything with a trace id that is in the store, each step below the one that led to it."""
    return Chain(trace_id, _Assembly(resources, trace_id).begins())


class _Assembly:
    """The documents of one chain by their effects, and the steps that they make."""

    def __init__(self, resources: Resources, trace_id: str) -> None:
        store, query = resources.store, {"trace_id": trace_id}
        self._store, self._broker = store, resources.broker
        self._now = datetime.now(UTC)
        # First what is under way: what is done in between is then found as done.
        self._work: dict[str, Document] = {
            document["_id"]: document
            for document in resources.work.all()
            if document["event"]["trace_id"] == trace_id
        }
        self._records: dict[str, tuple[type[Record], Document]] = {
            document["_id"]: (kind, document)
            for kind in KINDS
            if kind is not DeadLetter
            for document in store.collection(kind).find(query)
        }
        self._letters: dict[str, Document] = {
            document["_id"]: document for document in store.collection(DeadLetter).find(query)
        }
        self._sent = dict(self._outboxes())
        self._queued: dict[Stage, set[str]] = {}
        """What waits in the queues that were looked at."""

    def _outboxes(self) -> Iterator[tuple[str, _Sent]]:
        records = (document for _, document in self._records.values())
        for document in (*records, *self._letters.values()):
            for event in map(parse_event, document["outbox"]):
                is_sent = document["outbox_sent_at"] is not None
                for stage in ROUTES[event.type]:
                    effect = effect_id(stage, event.event_id)
                    is_settled = is_sent and not document["outbox_open"]
                    yield effect, _Sent(event, document["_id"], is_sent, is_settled)

    def begins(self) -> list[Step]:
        """The steps that no other led to, with those below them."""
        effects = {**self._sent, **self._records, **self._letters, **self._work}
        steps = {effect: self._step(effect) for effect in effects}
        begins: list[Step] = []
        for step in sorted(steps.values(), key=lambda step: step.at):
            cause = steps.get(step.caused_by or "")
            (cause.led_to if cause else begins).append(step)
        return begins

    def _step(self, effect: str) -> Step:
        sent, letter = self._sent.get(effect), self._letters.get(effect)
        known: dict[str, Any] = {
            "stage": cast("Stage", effect.partition(":")[0]),
            "effect": effect,
            "event": self._event(effect),
            "caused_by": sent.by if sent else None,
        }
        if effect in self._records:
            kind, document = self._records[effect]
            record = kind.model_validate(document)
            return Step(
                **known,
                state="done",
                record=record,
                handling=(handling := _handling(document)),
                attempts=handling.attempt if handling else None,
                remark="its dead letter was replayed" if letter else "",
            )
        if letter and letter["state"] != "replayed":
            return Step(
                **known,
                state="given up",
                record=DeadLetter.model_validate(letter),
                attempts=letter["attempts"],
                remark="dismissed" if letter["state"] == "dismissed" else "",
            )
        if work := self._work.get(effect):
            state, remark = self._outstanding(work)
            return Step(**known, state=state, attempts=work["attempts"], remark=remark)
        return Step(**known, state=self._whereabouts(effect))

    def _event(self, effect: str) -> Event | None:
        if effect in self._sent:
            return self._sent[effect].event
        if effect in self._work:
            return parse_event(self._work[effect]["event"])
        if effect in self._records:
            handling = _handling(self._records[effect][1])
            return handling.event if handling else None
        try:
            return parse_event(self._letters[effect]["message"])
        except ValueError:  # a foreign message
            return None

    def _outstanding(self, work: Document) -> tuple[State, str]:
        after = f"after {work['last_error']}" if "last_error" in work else ""
        match state_of(work, self._now):
            case "leases":
                return "in hand", after
            case "waiting" if not self._store.is_settled(work["waiting_for"]):
                return "waits", f"for {work['waiting_for']}"
            case "later":
                return "tried later", f"at {moment(work['next_attempt_at'], seconds=True)}, {after}"
        return "queued" if self._is_queued(work["_id"]) else "left", after

    def _whereabouts(self, effect: str) -> State:
        """Of the message about an event that no worker has begun."""
        sent = self._sent.get(effect)
        if sent and sent.is_settled:
            return "not kept"
        if sent and not sent.is_sent:
            return "not sent"
        return "queued" if self._is_queued(effect) else "not queued"

    def _is_queued(self, effect: str) -> bool:
        stage = cast("Stage", effect.partition(":")[0])
        if stage not in self._queued:
            events = self._broker.events(stage)
            self._queued[stage] = {effect_id(stage, event.event_id) for event in events}
        return effect in self._queued[stage]


def _handling(document: Document) -> Handling | None:
    kept = document.get("handling")
    return Handling.model_validate(kept) if kept else None


def as_json(chain: Chain) -> dict[str, Any]:
    """The chain as plain JSON types: its steps in the order of time."""
    return {
        "trace_id": chain.trace_id,
        "pipeline": chain.pipeline,
        "origin": chain.origin,
        "steps": [_step_as_json(step) for step in chain.steps],
    }


def _step_as_json(step: Step) -> dict[str, Any]:
    record = step.record
    return {
        "id": step.effect,
        "stage": step.stage,
        "kind": step.kind,
        "caused_by": step.caused_by,
        "state": step.state,
        "remark": step.remark,
        "waited_seconds": step.waited_seconds,
        "handled_seconds": record.handled_seconds if record else None,
        "recorded_at": record.recorded_at.isoformat() if record else None,
        "attempts": step.attempts,
        "facts": record.facts() if record else {},
        "event": dump_event(step.event) if step.event else None,
    }
