"""One chain of events: what each stage has made of each event, and what is still to be done."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

from services.cli.terminal import choose_pipeline
from shared.events import (
    ROUTES,
    STAGES,
    Event,
    IngestionDue,
    RollbackRequested,
    Stage,
    dump_event,
    effect_id,
    parse_event,
)
from shared.failures import WillNotPass
from shared.outcome import Handling
from shared.records import Batch, DeadLetter, ModelVersion, Publication, Record, RetiredReference
from shared.stage import Resources
from shared.store import COLLECTIONS, Document, Store

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
]

FEWEST_DIGITS: Final = 6
_DIGITS: Final = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")
_RECORD: Final = re.compile(rf"({'|'.join(STAGES)}):(foreign:)?[0-9a-f]{{{FEWEST_DIGITS},32}}")
_NUMBER: Final = re.compile(r"(batch|model):([0-9]{1,9})")
_WHAT_IT_MAY_BE: Final = (
    f"give at least {FEWEST_DIGITS} hexadecimal digits, with which a trace id, an event id or a "
    "commit begins, or those behind a stage (drift:0123ab), or batch:N, or model:N"
)
_SHOWN: Final = 5
# A reference that was replaced has the id of the record with which it came.
_OF_A_CHAIN: Final = {
    kind: name for kind, name in COLLECTIONS.items() if kind is not RetiredReference
}


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
    """What it waits for, or why it failed the last time."""
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
        first = self.steps[0]
        found = first.event or first.record
        assert found  # noqa: S101 - one of them is what led to the step
        return found.pipeline

    @property
    def origin(self) -> str:
        """What it began with, in words."""
        first = self.steps[0]
        match first.event:
            case IngestionDue(slot=slot):
                due = f"due {slot:%Y-%m-%d %H:%M:%S} UTC"
                return f"{first.record.source}, {due}" if isinstance(first.record, Batch) else due
            case RollbackRequested(model_version=version):
                return f"a person wants v{version} back"
        return first.kind


def _all_of(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _all_of(step.led_to)


# Which chain is meant.


def find_trace(resources: Resources, wanted: str, pipeline: str | None) -> str:
    """The trace id of the one chain that an id leads to.

    Args:
        wanted: at least six digits with which a trace id, an event id or a commit begins; such
            digits behind a stage, as in a record's id; or batch:N or model:N of a pipeline.
        pipeline: whose batch or model, if there are several.

    Raises:
        WillNotPass: it can be no id, or nothing or more than one chain has it.
    """
    wanted = wanted.strip().lower()
    if number := _NUMBER.fullmatch(wanted):
        name = choose_pipeline(resources.pipelines, pipeline)
        found = _of_number(resources.store, name, number[1], int(number[2]))
    elif _DIGITS.fullmatch(wanted):
        found = _beginning_with(resources, wanted)
    elif _RECORD.fullmatch(wanted):
        found = _of_effect(resources, wanted)
    else:
        raise WillNotPass(f"{wanted!r} is no id: {_WHAT_IT_MAY_BE}")
    if not found:
        raise WillNotPass(
            f"the store has nothing with the id {wanted!r}; `trimtab history` lists the batches, "
            "and batch:N shows one. Records are kept for RETENTION_DAYS"
        )
    if len(found) > 1:
        listed = ", ".join(sorted(found)[:_SHOWN])
        raise WillNotPass(
            f"{len(found)} chains have an id that begins with {wanted!r}; give more of it, or one "
            f"of their trace ids: {listed}{', …' if len(found) > _SHOWN else ''}"
        )
    return found.pop()


def _of_number(store: Store, pipeline: str, what: str, number: int) -> set[str]:
    kind, name = (Batch, "sequence") if what == "batch" else (ModelVersion, "version")
    return _traces(store, kind, {"pipeline": pipeline, name: number})


def _beginning_with(resources: Resources, digits: str) -> set[str]:
    begins = {"$regex": f"^{digits}"}
    places = [
        {"trace_id": begins},
        *({"_id": {"$regex": f"^{stage}:{digits}"}} for stage in STAGES),
        {"outbox_open": True, "outbox.event_id": begins},
    ]
    store = resources.store
    found = _traces(store, Publication, {"commit": begins})
    for kind in _OF_A_CHAIN:
        found |= _traces(store, kind, {"$or": places})
    return found | {
        work["event"]["trace_id"]
        for work in resources.work.all()
        if any(work["event"][name].startswith(digits) for name in ("trace_id", "event_id"))
    }


def _of_effect(resources: Resources, beginning: str) -> set[str]:
    found: set[str] = set()
    for kind in _OF_A_CHAIN:
        found |= _traces(resources.store, kind, {"_id": {"$regex": f"^{beginning}"}})
    return found | {
        work["event"]["trace_id"]
        for work in resources.work.all()
        if work["_id"].startswith(beginning)
    }


def _traces(store: Store, kind: type[Record], query: Document) -> set[str]:
    return set(store.collection(kind).distinct("trace_id", query))


# What belongs to it.


@dataclass(frozen=True)
class _Sent:
    """An event of an outbox, for one stage."""

    event: Event
    by: str
    """The effect whose outbox it is in."""
    is_sent: bool


def chain_of(resources: Resources, trace_id: str) -> Chain:
    """Everything with a trace id that is in the store, each step below the one that led to it."""
    return Chain(trace_id, _Assembly(resources, trace_id).begins())


class _Assembly:
    """The documents of one chain by their effects, and the steps that they make."""

    def __init__(self, resources: Resources, trace_id: str) -> None:
        store, query = resources.store, {"trace_id": trace_id}
        self._broker = resources.broker
        self._now = datetime.now(UTC)
        # First what is under way: what is done in between is then found as done.
        self._work: dict[str, Document] = {
            document["_id"]: document
            for document in resources.work.all()
            if document["event"]["trace_id"] == trace_id
        }
        self._records: dict[str, tuple[type[Record], Document]] = {
            document["_id"]: (kind, document)
            for kind in _OF_A_CHAIN
            if kind is not DeadLetter
            for document in store.collection(kind).find(query)
        }
        self._letters: dict[str, Document] = {
            document["_id"]: document for document in store.collection(DeadLetter).find(query)
        }
        self._sent = dict(self._outboxes())

    def _outboxes(self) -> Iterator[tuple[str, _Sent]]:
        records = (document for _, document in self._records.values())
        for document in (*records, *self._letters.values()):
            for event in map(parse_event, document["outbox"]):
                is_sent = document["outbox_sent_at"] is not None
                for stage in ROUTES[event.type]:
                    effect = effect_id(stage, event.event_id)
                    yield effect, _Sent(event, document["_id"], is_sent)

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
            record = DeadLetter.model_validate(letter)
            return Step(**known, state="given up", record=record, attempts=letter["attempts"])
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
        error = work.get("last_error", "")
        if work.get("lease_until", self._now) > self._now:
            return "in hand", error
        if "waiting_for" in work:
            return "waits", f"for {work['waiting_for']}"
        if at := work.get("next_attempt_at"):
            return "tried later", f"at {at:%H:%M:%S} UTC, after {error}"
        return "queued" if self._is_queued(work["_id"]) else "left", error

    def _whereabouts(self, effect: str) -> State:
        """Of the message about an event that no worker has begun."""
        if effect in self._sent and not self._sent[effect].is_sent:
            return "not sent"
        return "queued" if self._is_queued(effect) else "not queued"

    def _is_queued(self, effect: str) -> bool:
        stage = cast("Stage", effect.partition(":")[0])
        return effect in {effect_id(stage, each.event_id) for each in self._broker.events(stage)}


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
