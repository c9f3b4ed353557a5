"""`trimtab replay`: what would have happened, had this policy been in force?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from services.cli.literal import Console, Description
from services.cli.terminal import AsJson, console, print_json
from shared.failures import WillNotPass


def replay(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Recorded batches: one table a file, in the order of their names.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ],
    pipeline: Annotated[Path, typer.Option(help="The pipeline's file.")] = Path(
        "pipelines/air_quality.yaml"
    ),
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="never, always, original, original-all, default, or a pipeline's file. "
            "Repeatable; all of the five if not given.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the errors there.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play recorded batches through the decisions of a pipeline. Needs no server, leaves nothing.

    Each batch is predicted before it is learnt from. So the errors say what the predictions would
    have been worth, and two policies or two pipeline files can be compared before one goes live.
    """
    from services.cli.replay import view
    from services.cli.replay.play import Replayed, recorded_files
    from services.cli.replay.play import replay as play
    from services.cli.replay.policies import NAMES, chosen_policy
    from shared.pipeline import load_pipeline

    definition = load_pipeline(pipeline)
    chosen = [chosen_policy(name, definition) for name in policy or NAMES]
    files = recorded_files(folder)
    replayed: list[Replayed] = []
    columns = (Description(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for each in chosen:
            task = progress.add_task(each.name, total=len(files))
            batches = []
            for batch in play(files, each):
                batches.append(batch)
                progress.advance(task)
            metric = each.pipeline.training.deciding_metric
            replayed.append(Replayed(each.name, metric, tuple(batches)))
    if plot:
        _draw(replayed, plot)
    if as_json:
        print_json(view.as_json(replayed))
        return
    console.print(view.batches_table(replayed), view.summary_table(replayed))


def _draw(replayed: list, file: Path) -> None:  # type: ignore[type-arg]
    from services.cli.replay import view

    try:
        view.plot(replayed, file)
    except OSError as error:
        raise WillNotPass(f"{file}: cannot be written: {error.strerror}") from None
