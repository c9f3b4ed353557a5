"""Switches one remedy off in every process of a system that has this folder on PYTHONPATH.

Python imports a module of this name by itself at its start. `FAULTS_WITHOUT` names the remedy.
"""

import os
from collections.abc import Iterable
from typing import Any
from uuid import uuid4


def no_outbox() -> None:
    """Events are sent, and not kept."""
    from shared.store import Store

    record = Store.record

    def without_events(
        self: Store, record_: Any, _: Iterable[Any] = (), handling: Any = None
    ) -> bool:
        return record(self, record_, handling=handling)

    Store.record = without_events  # type: ignore[method-assign,assignment]


def no_sweep() -> None:
    """Nothing is sent again."""
    import shared.sweep

    shared.sweep.sweep = lambda stage, resources: 0  # noqa: ARG005


def no_unique_ids() -> None:
    """The effect of a stage on an event has another id each time."""
    import shared.outcome

    def fields(event: Any, stage: Any) -> dict[str, Any]:
        return kept(event, stage) | {"id": f"{stage}:{uuid4().hex}"}

    kept = shared.outcome.record_fields
    shared.outcome.record_fields = fields


def no_lease() -> None:
    """Everybody who asks may begin, also while another is at it."""
    from shared.work import Lease, Work

    begin = Work.begin

    def begin_anyway(self: Work, effect: str, stage: Any, event: Any) -> Lease:
        return begin(self, effect, stage, event) or Lease(effect, uuid4().hex, 1)

    Work.begin = begin_anyway  # type: ignore[method-assign]


def no_trailer_check() -> None:
    """The branch is not asked whether it has the model's commit."""
    from services.publisher.repository import PublishedModel

    PublishedModel.is_of = lambda *_: False  # type: ignore[method-assign]


SWITCHES = {
    "outbox": no_outbox,
    "sweep": no_sweep,
    "unique ids": no_unique_ids,
    "lease": no_lease,
    "trailer check": no_trailer_check,
}

if _remedy := os.environ.get("FAULTS_WITHOUT"):
    SWITCHES[_remedy]()
