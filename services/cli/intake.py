"""What became of a file that was taken in by hand: its batch, its check and its model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from services.cli.journal import decision, remark
from services.cli.waiting import Pending, wait_until_settled
from shared.events import ROUTES, Stage
from shared.records import Batch, DeadLetter, DriftReport, ModelVersion, Publication, Reference
from shared.stage import Resources

_FOLLOWED: Final[frozenset[Stage]] = frozenset({"drift", "trainer", "publisher"})


@dataclass(frozen=True)
class Intake:
    """A batch taken in by hand, and what has followed from it so far."""

    batch: Batch
    pending: Pending | None = None
    """What is not done; None if all is done, or if nobody waited."""
    check: DriftReport | None = None
    model: ModelVersion | None = None
    """The model that the check asked for."""
    reference: Reference | None = None
    """The reference that came with the model."""
    publication: Publication | None = None
    given_up: tuple[DeadLetter, ...] = ()

    @property
    def is_reached(self) -> bool:
        """Whether the command did what it was called for: a reference needs a promoted model."""
        promoted = self.model is not None and self.model.decision == "promoted"
        return not self.given_up and (promoted or not self.batch.as_reference)

    def as_json(self) -> dict[str, Any]:
        """The batch's record, and beside its fields what followed from it."""
        followed = (self.check, self.model, self.reference, self.publication)
        check, model, reference, publication = (
            record and record.model_dump(mode="json") for record in followed
        )
        return self.batch.model_dump(mode="json") | {
            "pending": self.pending and {"stage": self.pending.stage, "why": self.pending.why},
            "check": check,
            "model": model,
            "reference": reference,
            "publication": publication,
            "given_up": [letter.model_dump(mode="json") for letter in self.given_up],
        }


def follow(batch: Batch, resources: Resources, seconds: float) -> Intake:
    """Wait for the batch's check, for the model that it asks for, and for the model's commit."""
    store = resources.store
    roots = [
        (stage, event)
        for event in store.events_of(batch)
        for stage in ROUTES[event.type]
        if stage in _FOLLOWED
    ]
    pending = wait_until_settled(roots, resources, _FOLLOWED, seconds)
    chain = {"pipeline": batch.pipeline, "trace_id": batch.trace_id}
    stages = {"state": "open", "stage": {"$in": sorted(_FOLLOWED)}}
    return Intake(
        batch=batch,
        pending=pending,
        check=store.newest(DriftReport, chain, "recorded_at"),
        model=store.newest(ModelVersion, chain, "recorded_at"),
        reference=store.newest(Reference, chain, "recorded_at"),
        publication=store.newest(Publication, chain, "recorded_at"),
        given_up=tuple(store.find(DeadLetter, chain | stages, oldest_by="recorded_at")),
    )


def in_words(intake: Intake) -> list[str]:
    """What became of the file, one line each."""
    return list(_lines(intake))


def _lines(intake: Intake) -> Iterator[str]:
    yield from _rows(intake.batch)
    if intake.check:
        yield f"check: {decision(intake.check)}"
        if reason := remark(intake.check):
            yield f"  {reason}"
    if model := intake.model:
        yield f"model v{model.version} {model.decision}: {model.reason}"
    if intake.reference:
        yield f"reference v{intake.reference.version}: {intake.reference.rows:,} rows"
    if published := intake.publication:
        where = published.url or published.commit[:10]
        yield f"published: {where} on branch {published.branch}, tag {published.tag}"
    for letter in intake.given_up:
        yield f"The {letter.stage} stage gave up: {letter.reason}"
        yield f"  To look at it: trimtab dead-letters show {letter.id}"
    if intake.pending:
        yield from _not_done(intake, intake.pending)


def _rows(batch: Batch) -> Iterator[str]:
    shown = ", ".join([f"{batch.rows:,} new", *batch.beside_new_rows()])
    number = f"batch {batch.sequence}" if batch.sequence else "nothing new"
    yield f"{number}: {batch.rows_received:,} rows received: {shown}"
    if batch.labelled_rows:
        yield f"  {batch.labelled_rows:,} targets of rows that were taken in before"
    for reason, rows in batch.set_aside.reasons.items():
        yield f"  {rows:,} set aside: {reason}"


def _not_done(intake: Intake, pending: Pending) -> Iterator[str]:
    batch = intake.batch
    yield (
        f"Not done yet: {pending.why} Batch {batch.sequence} is stored, and its events are handled "
        "as soon as a worker of the stage is free."
    )
    yield (
        "  `trimtab status` shows who is running; `trimtab history show batch:"
        f"{batch.sequence} --pipeline {batch.pipeline}` shows how far it is."
    )
