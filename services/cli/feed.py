"""`trimtab feed`: the stand-in for data.gov.in, served until it is stopped."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from services.feed.clock import Clock, ManualClock, RunningClock
from services.feed.history import History
from services.feed.recordings import RecordedAnswers
from services.feed.server import RESOURCE, FeedServer
from services.feed.stations import INDIA, SimulatedStations
from shared.failures import WillNotPass

MANUAL_START: Final = datetime(2026, 1, 10, 9, tzinfo=INDIA)
"""Hour 0 of a simulated history whose clock is turned by hand: always the same."""


def serve_simulation(
    console: Console,
    *,
    port: int,
    stations: int,
    drift_at: int | None,
    hours: int | None,
    seed: int,
    seconds_per_hour: float | None,
) -> None:
    """Serve simulated stations; `seconds_per_hour` None means that the clock is turned by hand."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    history = SimulatedStations(
        stations=stations,
        start=MANUAL_START if seconds_per_hour is None else now,
        drift_at=drift_at,
        hours=hours,
        seed=seed,
    )
    _serve(console, history, port, seconds_per_hour)


def serve_recordings(
    console: Console, folder: Path, *, port: int, seconds_per_hour: float | None
) -> None:
    """Serve the CSV files of a folder."""
    try:
        history = RecordedAnswers(folder)
    except ValueError as error:
        raise WillNotPass(str(error)) from None
    _serve(console, history, port, seconds_per_hour)


def _serve(console: Console, history: History, port: int, seconds_per_hour: float | None) -> None:
    clock: Clock = (
        ManualClock(history.hours)
        if seconds_per_hour is None
        else RunningClock(seconds_per_hour, history.hours)
    )
    server = FeedServer(history, clock, port=port)
    console.print(f"{server.url}/resource/{RESOURCE}", highlight=False)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
