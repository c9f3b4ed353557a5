"""A day without one kind of worker: what piled up is worked off by nobody's hand."""

import pytest

from shared.events import RetrainRequested, Stage
from shared.records import Batch, DeadLetter, DriftReport, ModelVersion
from shared.stage import Resources
from tests.integration.workers import (
    Workers,
    content,
    differences,
    settled_once,
    undisturbed,
    workers_of,
)

HOURS_BEFORE = 2
DAY = 24
HOURS = HOURS_BEFORE + DAY
DRIFT_AT = 6


@pytest.fixture
def workers(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Workers:
    return workers_of(resources, DRIFT_AT, monkeypatch)


def a_day_without(stage: Stage, workers: Workers) -> None:
    """Two hours with everybody, and a day without a stage's workers."""
    for hour in range(HOURS):
        if hour == HOURS_BEFORE:
            workers.down = {stage}
        workers.tick()
        workers.work()
        if hour % 6 == 5:
            workers.come_to_rest()


def retrainings(workers: Workers) -> list[RetrainRequested]:
    """All requests so far, oldest first."""
    return [
        event
        for report in workers.store.find(DriftReport, {}, oldest_by="sequence")
        for event in workers.store.events_of(report)
        if isinstance(event, RetrainRequested)
    ]


@pytest.mark.parametrize("stage", ["drift", "trainer", "publisher", "notifier"])
def test_the_store_is_that_of_a_day_with_everybody(workers: Workers, stage: Stage) -> None:
    expected = undisturbed(workers, HOURS)
    a_day_without(stage, workers)
    assert workers.queued[stage] > 0
    if stage == "trainer":
        assert [event.sequence for event in retrainings(workers)] == [1, DRIFT_AT]
        assert workers.queued["trainer"] == 1  # and no copy, however often was swept
    assert differences(content(workers.store), expected) != []
    workers.down = set()
    workers.come_to_rest()
    assert differences(content(workers.store), expected) == []
    models = workers.store.find(ModelVersion, {}, oldest_by="version")
    assert [(model.version, model.sequence) for model in models] == [(1, 1), (2, DRIFT_AT)]
    assert settled_once(workers.store)
    assert set(workers.queued.values()) == {0}


def test_ticks_that_piled_up_read_the_feed_once(workers: Workers) -> None:
    """The feed shows the present hour alone: what it showed while nobody read it is gone."""
    a_day_without("ingest", workers)
    assert workers.queued["ingest"] == DAY
    workers.down = set()
    workers.come_to_rest()
    batches = list(workers.store.find(Batch, {}, oldest_by="recorded_at"))
    assert [batch.outcome for batch in batches].count("ingested") == HOURS_BEFORE + 1
    assert len(batches) == HOURS
    assert workers.store.collection(DeadLetter).count_documents({}) == 0
    assert settled_once(workers.store)
    assert set(workers.queued.values()) == {0}
