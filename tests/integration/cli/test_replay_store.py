"""The replay's store in memory against the real one: the same batches, the same decisions."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.replay.memory_store import MemoryStore
from services.cli.replay.play import Played, play_batch, recorded_files, replay_resources
from services.cli.replay.policies import Policy
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion, Reference
from shared.store import Store
from tests.air_quality_rows import raw_rows, with_training


@pytest.fixture
def recorded(tmp_path: Path) -> list[Path]:
    """Three answers: a first one, one like it, and one that has drifted. The last repeats a row."""
    for hour, level in (("09:00", 50.0), ("10:00", 50.0), ("20:00", 95.0)):
        rows = raw_rows(40, hour=f"2026-01-05 {hour}", level=level)
        rows.to_csv(tmp_path / f"{hour[:2]}.csv", index=False)
    return recorded_files(tmp_path)


def play(files: list[Path], pipeline: Pipeline, store: Store) -> list[Played]:
    """The batches without the size of their files, which say when and how fast they were made."""
    resources = replay_resources(pipeline, store)
    policy = Policy("default", pipeline)
    return [replace(play_batch(file, policy, resources), published_bytes=0) for file in files]


def test_decisions_are_those_of_the_real_store(
    recorded: list[Path], air_quality: Pipeline, store: Store
) -> None:
    quick = with_training(air_quality, parameters={"n_estimators": 10})
    drift = quick.drift.model_copy(update={"columns": ("pollutant_avg",), "segment": None})
    pipeline = quick.model_copy(update={"drift": drift})
    memory = MemoryStore()
    in_memory = play([*recorded, recorded[-1]], pipeline, memory)
    assert in_memory == play([*recorded, recorded[-1]], pipeline, store)
    for kind, by in (
        (Batch, "recorded_at"),
        (DriftReport, "sequence"),
        (ModelVersion, "version"),
        (Reference, "version"),
    ):
        one, other = (
            [record.id for record in each.find(kind, {"pipeline": "air_quality"}, oldest_by=by)]
            for each in (memory, store)
        )
        assert one == other


QUERIES = (
    {"sequence": {"$gt": 1, "$lte": 3}},
    {"sequence": {"$ne": None}},
    {"sequence": {"$lt": 2}},
    {"sequence": {"$gte": 2}},
    {"sequence": {"$in": [1, 3, None]}},
    {"outcome": "ingested"},
    {"files.0": {"$exists": 1}},
    {"$or": [{"rows": 0}, {"sequence": 1}]},
)


def test_queries_find_what_the_real_store_finds(
    recorded: list[Path], air_quality: Pipeline, store: Store
) -> None:
    memory = MemoryStore()
    play([recorded[0], recorded[0]], air_quality, memory)
    for batch in memory.find(Batch, {}):
        store.record(batch)
    for query in QUERIES:
        found, expected = (
            {batch.id for batch in each.find(Batch, query)} for each in (memory, store)
        )
        assert found == expected, query
