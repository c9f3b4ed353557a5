"""What the commands share: their options, the way to the running system, and what they print."""

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from services.cli.literal import Console
from shared.failures import WillNotPass
from shared.plain_text import visible

Home = Annotated[
    Path, typer.Option(envvar="TRIMTAB_HOME", help="The folder of the system's state.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PipelineName = Annotated[
    str | None, typer.Option("--pipeline", help="Which one, if there are several.")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return when it is stored, not when it is done.")
]
Because = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit log.")]
Limit = Annotated[int, typer.Option(min=1, help="The newest so many.")]

DEFAULT_HOME = Path(".trimtab")
"""Where `up` keeps its state, and where the other commands look for it."""

console = Console()


def connect(home: Path) -> AbstractContextManager[Any]:
    """The connections to the running system. Imported late: `--help` needs none of it."""
    from services.cli.embedded.addresses import connected

    return connected(home)


def choose_pipeline(pipelines: dict[str, Any], name: str | None) -> str:
    """The pipeline that is meant: the only one, or the one named."""
    if name in pipelines:
        return str(name)
    if name is None and len(pipelines) == 1:
        return next(iter(pipelines))
    known = ", ".join(sorted(pipelines))
    wanted = f"no pipeline {name!r}" if name else "several pipelines"
    raise WillNotPass(f"{wanted}; choose with --pipeline one of {known}")


def require_no_options(context: typer.Context) -> None:
    """An option before the name of a list's command would be the list's, and without effect."""
    for parameter in context.params:
        source = context.get_parameter_source(parameter)
        if source and source.name == "COMMANDLINE":
            command = context.invoked_subcommand
            raise typer.BadParameter(f"write options behind '{command}'", ctx=context)


def print_json(value: Any) -> None:
    """Print JSON as it is, whatever the terminal's width."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def fail(reason: object, exit_code: int = 1) -> NoReturn:
    """End with a readable error."""
    sys.stderr.write(f"trimtab: {visible(str(reason))}\n")
    raise SystemExit(exit_code)
