"""The wait for what follows from an event, bounded in time and while somebody works on it."""

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final, cast

from shared.events import Event, Stage
from shared.stage import BROKER_ERRORS, Resources
from shared.status import parts

LONGEST_WAIT_SECONDS: Final = 300.0
NOT_DONE: Final = 5
"""The exit code of a command whose work is stored, and whose outcome is not known yet."""
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Pending:
    """What was not done when the wait ended."""

    stage: Stage
    """The stage that has the next step to do."""
    why: str
    """Why the wait ended, as a sentence."""


def wait_until_settled(
    roots: Iterable[tuple[Stage, Event]],
    resources: Resources,
    follow: frozenset[Stage],
    seconds: float,
) -> Pending | None:
    """Wait until all that follows from these events in the stages of `follow` is done.

    The wait also ends when no worker of the stage that has the next step is alive.

    Returns:
        None if all is done, else what is not.
    """
    deadline = monotonic() + seconds
    begins = list(roots)
    while stage := _next_stage(begins, resources, follow):
        if why := _why_nobody_works(stage, resources):
            return Pending(stage, why)
        if monotonic() >= deadline:
            return Pending(stage, f"The {stage} stage was not done after {seconds:.0f} s.")
        sleep(_POLL_SECONDS)
    return None


def _next_stage(
    roots: list[tuple[Stage, Event]], resources: Resources, follow: frozenset[Stage]
) -> Stage | None:
    for stage, event in roots:
        if effect := resources.store.first_unsettled(stage, event, follow):
            return cast("Stage", effect.partition(":")[0])
    return None


def _why_nobody_works(stage: Stage, resources: Resources) -> str:
    """The reason as a sentence; empty if a worker of the stage is alive."""
    try:
        alive = parts(resources.broker, resources.settings.sweep_seconds)[stage].alive
    except BROKER_ERRORS as error:
        return f"The broker does not answer ({type(error).__name__})."
    return "" if alive else f"No worker of the {stage} stage is running."
