"""Foreign messages in the queues of real workers: each is a dead letter, and work goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.cli.embedded.process import Process
from services.cli.embedded.servers import Valkey
from shared.events import (
    STAGES,
    BatchIngested,
    Event,
    IngestionDue,
    ModelPromoted,
    RetrainRequested,
    Stage,
    WorkFailed,
    dump_event,
    effect_id,
    first_event_fields,
)
from shared.records import DeadLetter
from shared.stage import Resources
from tests.e2e.conftest import wait_for
from tests.keys import EVENT_KEY
from tests.security.foreign_messages import Harmful, foreign, message
from tests.worker_processes import place, started

EVENT_FIELDS = first_event_fields("no_such_pipeline", "a test")
UNKNOWN_PIPELINE: dict[Stage, Event] = {
    "ingest": IngestionDue(**EVENT_FIELDS, slot=EVENT_FIELDS["occurred_at"]),
    "drift": BatchIngested(**EVENT_FIELDS, sequence=1, rows=3, data=None),
    "trainer": RetrainRequested(**EVENT_FIELDS, reason="drift", sequence=1),
    "publisher": ModelPromoted(
        **EVENT_FIELDS, model_version=1, sequence=1, window="0" * 64, window_rows=5
    ),
    "notifier": WorkFailed(
        **EVENT_FIELDS,
        stage="drift",
        failed_event="BatchIngested",
        dead_letter="drift:1",
        reason="a test",
    ),
}
"""Stage -> an event of our form that it handles, of a pipeline that nobody has defined."""


@pytest.fixture
def workers(resources: Resources, tmp_path: Path) -> Iterator[dict[Stage, Process]]:
    """A worker of every stage, on a broker and a store of their own."""
    settings = {
        **place(resources.settings),
        "EVENT_KEY": EVENT_KEY,
        "MODEL_SIGNING_KEY": "a signing key for tests only",
        "MODEL_REPOSITORY": str(tmp_path / "models.git"),
        "GIT_CACHE": str(tmp_path / "git"),
    }
    processes = {stage: started(stage, settings, tmp_path / f"{stage}.log") for stage in STAGES}
    yield processes
    for process in processes.values():
        process.ask_to_stop()
    for process in processes.values():
        process.stop()


@pytest.mark.timeout(150)
def test_each_is_a_dead_letter_and_the_next_event_is_handled(
    workers: dict[Stage, Process], resources: Resources, valkey: Valkey, tmp_path: Path
) -> None:
    cases = {
        stage: foreign(stage, event.type, dump_event(event))
        for stage, event in UNKNOWN_PIPELINE.items()
    }
    harm = tmp_path / "harm"
    with Redis.from_url(valkey.url) as broker:
        for stage, messages in cases.items():
            harmful = Harmful(f"touch {harm}")
            again = foreign(stage, "X", {}, harmful)["pickled"]
            queue = f"{resources.settings.key_prefix}{stage}"
            broker.lpush(queue, *messages.values(), again)
            last = UNKNOWN_PIPELINE[stage]
            broker.lpush(queue, message(stage, last.type, dump_event(last)))
    for stage, event in UNKNOWN_PIPELINE.items():
        wanted = effect_id(stage, event.event_id)
        assert wait_for(lambda w=wanted: letter(resources, w), 100), (  # type: ignore[misc]
            stage,
            workers[stage].last_words(),
        )
        found = letter(resources, wanted)
        assert found
        assert "no pipeline 'no_such_pipeline'" in found.reason
    for stage, messages in cases.items():
        query: dict[str, Any] = {"stage": stage, "kind": "foreign message"}
        kept = list(resources.store.find(DeadLetter, query))
        assert len(kept) == len({*messages.values()}) + 1
        assert all(each.reason for each in kept)
        assert workers[stage].exit_status is None
    assert not harm.exists()


def letter(resources: Resources, wanted: str) -> DeadLetter | None:
    return resources.store.get(DeadLetter, wanted)
