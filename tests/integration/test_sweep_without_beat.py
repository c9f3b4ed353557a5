"""Beat and ingestion are down: what was lost is sent again all the same, by whoever is alive."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.events import WorkFailed, deterministic_id, effect_id
from shared.records import DeadLetter, Notification
from shared.stage import Resources
from tests.e2e.conftest import wait_for
from tests.worker_processes import place, started


@pytest.fixture
def notifier(resources: Resources, tmp_path: Path) -> Iterator[None]:
    """The only worker of the system."""
    settings = {
        **place(resources.settings),
        "SWEEP_SECONDS": "1",
    }
    process = started("notifier", settings, tmp_path / "log")
    yield
    process.stop()


def test_any_worker_sweeps_when_nobody_has_for_long(resources: Resources, notifier: None) -> None:
    letter, alarm = failure()
    resources.store.record(letter, [alarm])  # and its worker died before it had sent the event
    effect = effect_id("notifier", alarm.event_id)
    assert wait_for(lambda: resources.store.get(Notification, effect) is not None, 40)


def failure() -> tuple[DeadLetter, WorkFailed]:
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    letter = DeadLetter(
        id="publisher:lost",
        pipeline="air_quality",
        trace_id=deterministic_id("trace"),
        recorded_at=an_hour_ago,
        stage="publisher",
        kind="ModelPromoted",
        reason="the repository refuses the push",
        message={},
        attempts=1,
    )
    alarm = WorkFailed(
        event_id=deterministic_id("alarm"),
        trace_id=letter.trace_id,
        pipeline=letter.pipeline,
        occurred_at=an_hour_ago,
        stage="publisher",
        failed_event=letter.kind,
        dead_letter=letter.id,
        reason=letter.reason,
    )
    return letter, alarm
