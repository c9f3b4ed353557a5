"""The `trimtab` command."""

import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from services.cli.dead_letter_commands import letters_app
from services.cli.feed_commands import feed_app
from services.cli.history import history_app
from services.cli.models import models_app, rollback
from services.cli.replay.command import replay
from services.cli.terminal import (
    DEFAULT_HOME,
    AsJson,
    Because,
    Home,
    Limit,
    NoWait,
    PipelineName,
    choose_pipeline,
    connect,
    console,
    fail,
    print_json,
)
from shared.failures import WillNotPass

BAD_INPUT = 2
"""The exit code when files or options cannot be used; Typer uses the same."""
DRIFT = 3
"""The exit code of a check with --fail-on-drift that found drift."""
NO_VERDICT = 4
"""The exit code of a check with --fail-on-drift that has too few rows for a verdict, or none."""
_IS_IT_UP = "is the system running? Start it with `trimtab up`, name its folder with --home"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
reference_app = typer.Typer(help="The rows that batches are compared with.", no_args_is_help=True)
app.add_typer(reference_app, name="reference")
app.add_typer(feed_app, name="feed")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(history_app, name="history")
app.add_typer(models_app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"trimtab {version('trimtab')}")
        raise typer.Exit


@app.callback()
def trimtab(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Trimtab: keeps deployed models true to the data they serve.

    Begin with `trimtab up --wait`, then `trimtab status`. `trimtab COMMAND --help` explains a
    command. `trimtab --install-completion` lets the shell complete what you type.
    """


TableFile = Annotated[
    Path,
    typer.Argument(help="CSV, JSON, JSON lines (each also .gz) or Parquet.", show_default=False),
]
PipelineFile = Annotated[
    Path | None,
    typer.Option("--pipeline", help="A pipeline's file, which says types, roles and settings."),
]
Segment = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Compare within each of this column's values too."),
]
Cluster = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Rows equal here are not independent. Repeatable."),
]
Target = Annotated[str | None, typer.Option(metavar="COLUMN", help="What a model predicts.")]


@app.command()
def demo(
    replay: Annotated[
        Path | None, typer.Option(help="Play recorded CSV answers from a folder, oldest first.")
    ] = None,
    pipeline: Annotated[Path, typer.Option(help="The pipeline's file.")] = Path(
        "pipelines/air_quality.yaml"
    ),
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the system running until `trimtab down`.")
    ] = False,
    home: Home = Path(".trimtab/demo"),
) -> None:
    """Play a short history through the whole system, and summarise what it did.

    Ordinary hours come first. Then winter begins, and a better model replaces the first one. At
    last sensors send error codes, and the gate rejects the model that has learnt from them.
    """
    from services.cli.demo import SIMULATED_HISTORY, Demo, DemoFailed
    from services.cli.summary import demo_summary
    from services.cli.view import LiveView

    feed = ("replay", str(replay.resolve()), "--manual") if replay else SIMULATED_HISTORY
    try:
        Demo(home, pipeline, feed, keep=keep).run(
            LiveView(console), lambda resources, home: demo_summary(console, resources, home)
        )
    except DemoFailed as error:
        fail(error)


@app.command()
def up(
    home: Home = DEFAULT_HOME,
    pipelines: Annotated[Path, typer.Option(help="The folder of pipeline files.")] = Path(
        "pipelines"
    ),
    wait: Annotated[
        bool, typer.Option("--wait", help="Run in the background; return when all parts work.")
    ] = False,
    feed: Annotated[
        list[str] | None,
        typer.Option(hidden=True, help="What `trimtab feed` is called with, a word each."),
    ] = None,
) -> None:
    """Run the whole system on this machine, until Ctrl-C."""
    from services.cli import up as system

    if wait:
        started = system.start_in_background(home, pipelines, feed or ())
        console.print(started, soft_wrap=True)
    else:
        system.run_in_foreground(home, pipelines, console, feed or ())


@app.command()
def down(home: Home = DEFAULT_HOME) -> None:
    """Stop the system that `up --wait` or `demo --keep` started."""
    from services.cli.up import stop_background

    console.print(stop_background(home))


@app.command()
def upgrade(
    because: Because = "",
    home: Home = DEFAULT_HOME,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Authenticate what a version before EVENT_KEY has left in the store. Workers have to rest."""
    from services.cli.upgrade import opened

    with opened(home) as found:
        for line in found.in_words():
            console.print(line)
        if not found.is_needed:
            return
        if not yes:
            typer.confirm("Trust all of it as it stands?", abort=True)
        console.print(found.carry_out(because))


@app.command()
def check(
    reference: Annotated[
        Path,
        typer.Argument(
            help="CSV, JSON, JSON lines (each also .gz) or Parquet; or a profile.",
            show_default=False,
        ),
    ],
    current: TableFile,
    pipeline: PipelineFile = None,
    segment: Segment = None,
    cluster: Cluster = None,
    target: Target = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the report there, as a page.")] = None,
    fail_on_drift: Annotated[
        bool,
        typer.Option("--fail-on-drift", help="Exit with 3 on drift, with 4 without a verdict."),
    ] = False,
) -> None:
    """Has CURRENT drifted from REFERENCE? Two files and no server. Bad input exits with 2."""
    from services.cli.check import BadInput, Stated, check_files, shown_progress, write_html

    stated = Stated(pipeline, segment, tuple(cluster or ()), target)
    try:
        with shown_progress("comparing"):
            report = check_files(reference, current, stated)
        if html:
            write_html(report, html)
    except BadInput as error:
        fail(error, BAD_INPUT)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        from services.cli.check_view import print_report

        print_report(console, report)
    if fail_on_drift and report.needs_retraining:
        raise typer.Exit(DRIFT)
    if fail_on_drift and report.verdict != "no drift":
        raise typer.Exit(NO_VERDICT)


@app.command()
def profile(
    reference: TableFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    pipeline: PipelineFile = None,
    segment: Segment = None,
    cluster: Cluster = None,
    target: Target = None,
) -> None:
    """Keep what `trimtab check` needs to know of REFERENCE, without its rows."""
    from services.cli.check import BadInput, Stated, shown_progress, write_profile

    stated = Stated(pipeline, segment, tuple(cluster or ()), target)
    try:
        with shown_progress("fitting") as progress:
            fitted = write_profile(reference, output, stated, progress)
    except BadInput as error:
        fail(error, BAD_INPUT)
    console.print(f"{output}: {output.stat().st_size:,} bytes for {fitted.rows:,} rows")


@app.command()
def ingest(
    file: TableFile,
    because: Because = "",
    pipeline: PipelineName = None,
    no_wait: NoWait = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Take in a file's new rows as a batch, wait for its check, and tell what came of it.

    Exits with 0 if the batch is checked (drift or not), 1 if the file is refused or a stage gave
    up, and 5 if the batch is stored but not done: after 300 s, or because no worker is running.
    """
    _take_in(file, pipeline, because, home, no_wait, as_json, as_reference=False)


@reference_app.command("set")
def set_reference(
    file: TableFile,
    because: Because,
    pipeline: PipelineName = None,
    no_wait: NoWait = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Make a file the reference: a model is trained on it and becomes the champion.

    Waits for the model and its commit. Exits with 0 if the model is promoted, 1 if there is no new
    reference (the file is refused, the model is rejected, or a stage gave up), and 5 if the file is
    stored but not done: after 300 s, or because no worker is running.
    """
    from services.cli.asking import require_reason

    require_reason(because)
    _take_in(file, pipeline, because, home, no_wait, as_json, as_reference=True)


def _take_in(
    file: Path,
    pipeline: str | None,
    because: str,
    home: Path,
    no_wait: bool,
    as_json: bool,
    *,
    as_reference: bool,
) -> None:
    from services.cli.asking import Asking
    from services.cli.ingestion import take_in_file
    from services.cli.intake import Intake, follow, in_words
    from services.cli.waiting import LONGEST_WAIT_SECONDS, NOT_DONE

    with connect(home) as resources:
        name = choose_pipeline(resources.pipelines, pipeline)
        batch = take_in_file(file, Asking(resources), name, because, as_reference=as_reference)
        intake = Intake(batch)
        if batch.sequence and not no_wait:
            with console.status(f"batch {batch.sequence} is taken in; its check is under way"):
                intake = follow(batch, resources, LONGEST_WAIT_SECONDS)
    if as_json:
        print_json(intake.as_json())
    else:
        for line in in_words(intake):
            console.print(line)
    if intake.pending:
        raise typer.Exit(NOT_DONE)
    if not (no_wait or intake.is_reached):
        raise typer.Exit(1)


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Who is alive, what waits, and how each pipeline's data and model are.

    Exits with 0 if everything works, 4 if everything works but a person should look at a pipeline
    (open drift, a worse champion, rejected models, missing targets, missed readings), and 1 if
    something is wrong.
    """
    from services.cli.embedded.addresses import NotStarted
    from services.cli.status import state_without_system
    from services.cli.status import status as state_of
    from services.cli.status_view import print_status

    try:
        with connect(home) as resources:
            state = state_of(resources)
    except NotStarted as error:
        state = state_without_system(str(error))
    if as_json:
        print_json(state)
    else:
        print_status(console, state)
    raise typer.Exit(state["exit_code"])


@app.command()
def audit(limit: Limit = 24, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List what operators asked for: who, when, what and why.

    Exits with 1 if something is wrong with the log. All pipelines share one log. The tag of each
    published model names the newest entry of that time (Trimtab-Audit).
    """
    from services.cli.audit import read_log

    with connect(home) as resources:
        log = read_log(resources, limit)
    if as_json:
        print_json(log.as_json())
    else:
        if log.entries:
            console.print(log.table(), "")
        for sentence in log.in_words():
            console.print(sentence)
    if log.wrong:
        raise typer.Exit(1)


@app.command("exporter")
def run_exporter(home: Home = DEFAULT_HOME) -> None:
    """Serve the running system's figures to Prometheus, until Ctrl-C."""
    from services.cli.embedded.addresses import settings_of
    from services.exporter.server import serve
    from shared.logs import start_logging

    settings = settings_of(home)
    start_logging()
    with suppress(KeyboardInterrupt):
        serve(settings)


@app.command()
def report(
    sequence: Annotated[
        int | None,
        typer.Argument(
            min=1, help="The batch; if not given, the newest compared.", show_default=False
        ),
    ] = None,
    pipeline: PipelineName = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write; - is standard output.", show_default=False
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write the drift report of a batch as a page; with --json, print it."""
    from services.cli.journal import decision
    from services.cli.report import find_check, json_text, page, write

    with connect(home) as resources:
        name = choose_pipeline(resources.pipelines, pipeline)
        check = find_check(resources.store, name, sequence)
        text = json_text(resources.store, check) if as_json else page(resources.store, check)
    if output == Path("-") or (as_json and output is None):
        sys.stdout.write(text)
        return
    file = output or Path(f"{name}-batch-{check.sequence}.html")
    write(text, file)
    console.print(f"{file}: batch {check.sequence}, {decision(check)}")


app.command()(rollback)
app.command()(replay)


def expected_errors() -> tuple[type[Exception], ...]:
    """Those whose text tells a person what to do. Imported late: no error needs none of it."""
    from services.cli.embedded.process import StartFailed
    from shared.failures import WillPass
    from shared.pipeline import PipelineError
    from shared.settings import SettingsError

    return StartFailed, SettingsError, PipelineError, WillNotPass, WillPass


def store_errors() -> type[Exception]:
    """What the store's client raises."""
    from pymongo.errors import PyMongoError

    return PyMongoError


def broker_errors() -> type[Exception]:
    """What the broker's client raises."""
    from redis.exceptions import RedisError

    return RedisError


def main() -> None:
    """Run the command; errors that a person can act on are told without a traceback."""
    logging.basicConfig(level=logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app(standalone_mode=True)
    except SystemExit:
        raise
    except store_errors() as error:
        fail(f"the store does not answer ({type(error).__name__}): {_IS_IT_UP}, or set MONGODB_URI")
    except broker_errors() as error:
        fail(f"the broker does not answer ({type(error).__name__}): {_IS_IT_UP}, or set REDIS_URL")
    except expected_errors() as error:
        fail(error)


if __name__ == "__main__":
    main()
