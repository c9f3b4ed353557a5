"""`trimtab upgrade`: a store that a version before EVENT_KEY has left."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.authentication import Unauthentic
from shared.events import dump_event, effect_id
from shared.failures import WillNotPass
from shared.installation import settle_in
from shared.records import Batch, ModelVersion
from shared.settings import SettingsError
from shared.stage import Resources
from shared.store import COLLECTIONS
from tests.integration.cli.conftest import Run
from tests.integration.publisher.promotions import promoted
from tests.security.foreign_messages import message
from tests.sweeping import sweep_all


@pytest.fixture
def before(resources: Resources) -> Resources:
    """A model's promotion that nobody has taken up, work begun, and a message, all without MACs."""
    store, event = resources.store, promoted(resources.store, 1)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    store.collection(ModelVersion).update_one({}, {"$set": {"recorded_at": long_ago}})
    resources.work.begin(effect_id("drift", event.event_id), "drift", event)
    for name in (*COLLECTIONS.values(), "work"):
        store.database[name].update_many({}, {"$unset": {"mac": 1, "outbox_mac": 1}})
    key = f"{resources.settings.key_prefix}drift"
    forged = message("drift", event.type, dump_event(event), authenticator=None)
    resources.broker._redis.lpush(key, forged)
    return resources


def test_workers_do_not_start_until_it_is_done(before: Resources, run: Run) -> None:
    with pytest.raises(SettingsError, match=r"1 in drift_reports.* Run `trimtab upgrade` once"):
        settle_in(before.settings, before.broker)
    run("upgrade", "--yes")
    assert settle_in(before.settings, before.broker)


def test_it_says_what_there_is_and_asks(before: Resources, run: Run) -> None:
    asked = run("upgrade")
    assert asked.exit_code == 1
    assert "models: 1 without a MAC" in asked.stdout
    assert "workers trust these records as they stand" in " ".join(asked.stdout.split())
    with pytest.raises(Unauthentic):
        before.store.champion("air_quality")


def test_afterwards_everything_goes_on(before: Resources, run: Run) -> None:
    done = " ".join(run("upgrade", "--yes").stdout.split())
    assert "3 records have a MAC now. 1 messages were removed from the broker" in done
    assert before.store.champion("air_quality")
    assert before.broker.queue_lengths()["drift"] == 0
    sweep_all(before)
    assert before.broker.queue_lengths()["publisher"] == 1
    assert "nothing to do" in run("upgrade").stdout


def test_what_comes_without_a_mac_afterwards_is_foreign(before: Resources, run: Run) -> None:
    run("upgrade", "--yes")
    before.store.collection(Batch).insert_one({"_id": "ingest:planted", "pipeline": "air_quality"})
    with pytest.raises(Unauthentic):
        before.store.get(Batch, "ingest:planted")
    assert settle_in(before.settings, before.broker), "the store was looked through once"


def test_it_waits_for_workers_to_rest(before: Resources, run: Run) -> None:
    before.broker.note_alive("drift@host")
    refused = run("upgrade", "--yes").exception
    assert isinstance(refused, WillNotPass)
    assert "stop the workers and beat first: drift gave a sign of life less than 30" in str(refused)


def test_it_needs_the_key(before: Resources, run: Run, home: Path) -> None:
    recorded = json.loads((home / "environment.json").read_text())
    del recorded["EVENT_KEY_FILE"]
    (home / "environment.json").write_text(json.dumps(recorded))
    refused = run("upgrade", "--yes").exception
    assert isinstance(refused, WillNotPass)
    assert "EVENT_KEY is not set" in str(refused)
    assert sum(before.store.without_mac().values()) == 3
