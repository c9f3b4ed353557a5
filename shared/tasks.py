"""The tasks of each stage's worker: their names, and the names of what they are called with."""

from typing import Final

from shared.events import ROUTES, Stage, task_name

RETENTION_TASK: Final = "ingest.remove_unnamed_blobs"
WATCH_TASK: Final = "publisher.watch"


KEPT: Final = 10_000
"""Characters of what came in place of a message or record of ours that its dead letter keeps."""


def sweep_task(stage: Stage) -> str:
    """Lets a stage's worker look for what was lost."""
    return f"{stage}.sweep"


def bury_task(stage: Stage) -> str:
    """Keeps what came in place of a message of ours as a dead letter."""
    return f"{stage}.bury"


def arguments(stage: Stage) -> dict[str, frozenset[str]]:
    """Task -> the names of its arguments, for every task of a stage."""
    events = {task_name(stage, kind) for kind, routes in ROUTES.items() if stage in routes}
    return {
        **{event: frozenset({"event"}) for event in events},
        sweep_task(stage): frozenset(),
        bury_task(stage): frozenset({"received", "reason"}),
        **({RETENTION_TASK: frozenset()} if stage == "ingest" else {}),
        **({WATCH_TASK: frozenset()} if stage == "publisher" else {}),
    }
