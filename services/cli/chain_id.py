"""Which chain of events a person means, by what they have of it."""

import re
from typing import Final

from services.cli.chain import KINDS
from services.cli.terminal import choose_pipeline
from shared.documents import Document
from shared.events import STAGES
from shared.failures import WillNotPass
from shared.records import Batch, ModelVersion, Publication, Record
from shared.stage import Resources
from shared.store import Store

FEWEST_DIGITS: Final = 6
_DIGITS: Final = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")
_RECORD: Final = re.compile(rf"({'|'.join(STAGES)}):(foreign:)?[0-9a-f]{{{FEWEST_DIGITS},32}}")
_NUMBER: Final = re.compile(r"(batch|model):([0-9]{1,9})")
_WHAT_IT_MAY_BE: Final = (
    f"give at least {FEWEST_DIGITS} hexadecimal digits, with which a trace id, an event id or a "
    "commit begins, or those behind a stage (drift:0123ab), or batch:N, or model:N"
)
_SHOWN: Final = 5


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
        _in_an_outbox(begins),
    ]
    store = resources.store
    found = _traces(store, Publication, {"commit": begins})
    for kind in KINDS:
        found |= _traces(store, kind, {"$or": places})
    return found | {
        work["event"]["trace_id"]
        for work in resources.work.all()
        if any(work["event"][name].startswith(digits) for name in ("trace_id", "event_id"))
    }


def _in_an_outbox(event_id: Document) -> Document:
    # The index of open outboxes is by the time of sending; without a word of it all are read.
    return {"outbox_open": True, "outbox_sent_at": {"$exists": True}, "outbox.event_id": event_id}


def _of_effect(resources: Resources, beginning: str) -> set[str]:
    digits = beginning.rpartition(":")[2]
    places = [{"_id": {"$regex": f"^{beginning}"}}, _in_an_outbox({"$regex": f"^{digits}"})]
    found: set[str] = set()
    for kind in KINDS:
        found |= _traces(resources.store, kind, {"$or": places})
    return found | {
        work["event"]["trace_id"]
        for work in resources.work.all()
        if work["_id"].startswith(beginning)
    }


def _traces(store: Store, kind: type[Record], query: Document) -> set[str]:
    return set(store.collection(kind).distinct("trace_id", query))
