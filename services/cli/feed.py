"""`trimtab feed`: the stand-in for data.gov.in, served until it is stopped."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from services.feed.clock import Clock, ManualClock, RunningClock
from services.feed.history import History
from services.feed.recordings import RecordedAnswers
from services.feed.server import RESOURCE, FeedServer
from services.feed.stations import INDIA, SimulatedStations
from shared.logs import refuse_to_start, start_logging

log = structlog.get_logger(__name__)

MANUAL_START: Final = datetime(2026, 1, 10, 9, tzinfo=INDIA)
"""Hour 0 of a simulated history whose clock is turned by hand: always the same."""

_REAL_HOUR_SECONDS: Final = 3600.0
_HEAD_START: Final = timedelta(days=365)


def serve_simulation(
    *,
    host: str,
    port: int,
    stations: int,
    drift_at: int | None,
    fault_at: int | None,
    hours: int | None,
    seed: int,
    seconds_per_hour: float | None,
    began_file: Path | None,
) -> None:
    """Serve simulated stations; `seconds_per_hour` None means that the clock is turned by hand.

    By the clock, hour 0 is the hour in which the history began: now, or when the file says. A
    history that runs faster than the clock begins in the past, so that it does not run into the
    future, where rows are refused.
    """
    start_logging()
    now = datetime.now(UTC)
    began = _remembered(began_file, now) if began_file else now
    hour = began.replace(minute=0, second=0, microsecond=0)
    clock: Clock
    if seconds_per_hour is None:
        start, clock = MANUAL_START, ManualClock(hours)
    elif seconds_per_hour < _REAL_HOUR_SECONDS:
        start, clock = (
            hour - _HEAD_START,
            RunningClock(seconds_per_hour, hours, (now - began).total_seconds()),
        )
    else:
        passed = (now - hour).total_seconds()
        start, clock = hour, RunningClock(seconds_per_hour, hours, passed)
    history = SimulatedStations(
        stations=stations,
        start=start,
        drift_at=drift_at,
        fault_at=fault_at,
        hours=hours,
        seed=seed,
    )
    _serve(history, clock, host, port)


def _remembered(file: Path, now: datetime) -> datetime:
    try:
        if not file.exists():
            file.write_text(now.isoformat(), encoding="ascii")
        return datetime.fromisoformat(file.read_text(encoding="ascii")).astimezone(UTC)
    except (OSError, ValueError) as error:
        refuse_to_start(f"{file} cannot say when the history began: {error}")


def serve_recordings(folder: Path, *, host: str, port: int, seconds_per_hour: float | None) -> None:
    """Serve the CSV files of a folder; without any, or if one is no recorded answer, say so."""
    start_logging()
    try:
        history = RecordedAnswers(folder)
    except ValueError as error:
        refuse_to_start(error)
    clock: Clock = (
        ManualClock(history.hours)
        if seconds_per_hour is None
        else RunningClock(seconds_per_hour, history.hours)
    )
    _serve(history, clock, host, port)


def _serve(history: History, clock: Clock, host: str, port: int) -> None:
    try:
        server = FeedServer(history, clock, host=host, port=port)
    except OSError as error:
        refuse_to_start(f"cannot listen on {host}:{port}: {error.strerror}")
    log.info("listens", url=f"{server.url}/resource/{RESOURCE}")
    with suppress(KeyboardInterrupt), server:
        server.serve_forever()
