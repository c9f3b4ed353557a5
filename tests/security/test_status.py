"""Whoever writes to the broker or the store neither stops nor steers `trimtab status`."""

import json
from typing import Any

from redis import Redis

from services.cli.embedded.servers import Valkey
from services.cli.status import status
from shared.records import ModelVersion
from shared.stage import Resources
from tests.integration.publisher.promotions import promoted


def test_bad_signs_of_life_are_left_out(resources: Resources, valkey: Valkey) -> None:
    signs: dict[str | bytes, str | bytes] = {
        "drift@a": "no time",
        "drift@b": "2026-01-01T00:00:00",
        "drift@c": b"\xff",
        b"\xff": "2026-01-01T00:00:00+00:00",
        "x" * 100_000: "2026-01-01T00:00:00+00:00",
    }
    with Redis.from_url(valkey.url) as client:
        for part, at in signs.items():
            client.hset(f"{resources.settings.key_prefix}heartbeats", part, at)  # type: ignore[arg-type]
    resources.broker.note_alive("trainer@host")
    assert set(resources.broker.last_alive()) == {"trainer@host", "\ufffd"}
    assert status(resources)["parts"]["trainer"]["alive"]


def problems(resources: Resources) -> list[Any]:
    found = status(resources)
    assert json.loads(json.dumps(found, default=str))["exit_code"] == 1
    return [each for each in found["problems"] if each.startswith("air_quality")]


def test_an_altered_champion_is_a_problem(resources: Resources) -> None:
    promoted(resources.store, 1)
    change = {"$set": {"metrics": {"mae": 0.0}}}
    resources.store.collection(ModelVersion).update_one({}, change)
    (problem,) = problems(resources)
    assert "was not written by this system with this EVENT_KEY" in problem


def test_removed_models_are_a_problem(resources: Resources) -> None:
    for version in (1, 2):
        promoted(resources.store, version)
    resources.store.collection(ModelVersion).delete_one({"version": 1})
    (problem,) = problems(resources)
    assert "exactly one model record for each version from v1 to v2" in problem
