"""`trimtab feed`: simulated stations, or recorded answers, served as data.gov.in serves them."""

from pathlib import Path
from typing import Annotated

import typer

feed_app = typer.Typer(help="A stand-in for data.gov.in on this machine.", no_args_is_help=True)
Port = Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]


@feed_app.command("simulate")
def simulate_feed(
    host: Host = "127.0.0.1",
    port: Port = 8010,
    stations: Annotated[int, typer.Option(min=1, max=2000)] = 120,
    drift_at: Annotated[
        int | None, typer.Option(min=0, help="From this hour on the air is worse.")
    ] = None,
    fault_at: Annotated[
        int | None, typer.Option(min=0, help="From this hour on sensors send error codes.")
    ] = None,
    hours: Annotated[int | None, typer.Option(min=1, help="How long the history is.")] = None,
    seed: int = 7,
    seconds_per_hour: Annotated[float, typer.Option(min=0.1)] = 3600.0,
    manual: Annotated[
        bool, typer.Option("--manual", help="The clock stands until POST /clock/advance.")
    ] = False,
    began_file: Annotated[
        Path | None,
        typer.Option(help="Remembers when the history began, for the next start to go on with it."),
    ] = None,
) -> None:
    """Serve simulated stations; the first hour is now, or a fixed one with --manual."""
    from services.cli.feed import serve_simulation

    serve_simulation(
        host=host,
        port=port,
        stations=stations,
        drift_at=drift_at,
        fault_at=fault_at,
        hours=hours,
        seed=seed,
        seconds_per_hour=None if manual else seconds_per_hour,
        began_file=began_file,
    )


@feed_app.command("replay")
def replay_feed(
    folder: Annotated[Path, typer.Argument(help="Recorded CSV answers; one file is one hour.")],
    host: Host = "127.0.0.1",
    port: Port = 8010,
    seconds_per_hour: Annotated[float, typer.Option(min=0.1)] = 3600.0,
    manual: Annotated[
        bool, typer.Option("--manual", help="The clock stands until POST /clock/advance.")
    ] = False,
) -> None:
    """Serve recorded answers, oldest first."""
    from services.cli.feed import serve_recordings

    serve_recordings(
        folder, host=host, port=port, seconds_per_hour=None if manual else seconds_per_hour
    )
