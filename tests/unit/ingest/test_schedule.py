"""Beat's entries, and the events of their slots."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery.schedules import crontab

from services.ingest import schedule
from services.ingest.schedule import beat_schedule, due_event
from shared.events import parse_event
from shared.pipeline import load_pipeline

ROOT = Path(__file__).parents[3]
AIR = load_pipeline(ROOT / "pipelines" / "air_quality.yaml")
PARCELS = load_pipeline(ROOT / "examples" / "parcels" / "parcels.yaml")


def test_every_source_has_an_entry_and_a_manual_one_none() -> None:
    entries = beat_schedule({"air_quality": AIR, "parcels": PARCELS}, watch_seconds=300)
    assert set(entries) == {"ingest air_quality", "watch", "retention"}
    ingestion = entries["ingest air_quality"]
    assert ingestion["task"] == "ingest.on_ingestion_due"
    assert ingestion["schedule"] == crontab(minute="5")
    assert ingestion["options"]["expires"] == 3600
    assert ingestion["last_run_at"] < datetime.now(UTC) - timedelta(hours=23)
    assert entries["watch"]["options"] == {"queue": "publisher", "expires": 300}


def test_pipeline_in_a_hurry_expires_with_its_slot() -> None:
    hurried = AIR.model_copy(update={"schedule": "every 2s"})
    entry = beat_schedule({"air_quality": hurried}, 300)["ingest air_quality"]
    assert (entry["schedule"], entry["options"]["expires"]) == (2.0, 2.0)


class Clock(datetime):
    at = datetime(2026, 1, 1, 10, 5, 0, 200_000, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # noqa: ARG003 - the base class's signature
        return cls.at


def test_two_ticks_for_one_slot_make_one_event(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(schedule, "datetime", Clock)
    first = parse_event(due_event("air_quality", crontab(minute="5")))
    monkeypatch.setattr(Clock, "at", Clock.at.replace(second=31))
    second = parse_event(due_event("air_quality", crontab(minute="5")))
    monkeypatch.setattr(Clock, "at", Clock.at.replace(minute=6))
    third = parse_event(due_event("air_quality", crontab(minute="5")))
    assert first.event_id == second.event_id
    assert third.event_id != first.event_id


def test_entry_makes_its_event_when_it_is_sent() -> None:
    event = beat_schedule({"air_quality": AIR}, 300)["ingest air_quality"]["kwargs"]["event"]()
    assert parse_event(event).pipeline == "air_quality"
