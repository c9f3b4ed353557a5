"""A chain of events as a tree, for the terminal."""

from collections.abc import Iterator
from datetime import date
from typing import Final

from rich.tree import Tree

from services.cli.chain import Chain, Step
from services.cli.journal import line
from services.cli.literal import Text
from services.cli.view import STAGE_STYLES
from shared.records import Batch, ChunkCounts, Record
from shared.wording import clock, moment

NO_BREAK: Final = "\u00a0"

_STATES: Final = {
    "in hand": ("a worker has it in hand", "yellow"),
    "waits": ("waits", "yellow"),
    "tried later": ("to be tried again", "yellow"),
    "left": ("begun, and in nobody's hand: the sweep sends it again", "yellow"),
    "queued": ("in the queue of its stage", "yellow"),
    "not queued": ("taken up just now, or lost: the sweep sends it again", "yellow"),
    "not sent": ("not sent yet: the sweep sends it", "yellow"),
    "not kept": ("done; what came of it is no longer kept", "dim"),
}


def chain_tree(chain: Chain) -> Tree:
    """The chain from what it began with, each step below the one that led to it."""
    at = chain.begins[0].at
    heading = Text.assemble(
        ("Trace ", "bold"), (chain.trace_id, "bold"), f"  pipeline {chain.pipeline}\n",
        f"{moment(at, seconds=True)}: {chain.origin}",
    )  # fmt: skip
    tree = Tree(heading, guide_style="dim")
    _hang(tree, chain.begins, at.date())
    return tree


def _hang(tree: Tree, steps: list[Step], day: date) -> None:
    """`day`: of the beginning, which need not be said again."""
    for step in steps:
        _hang(tree.add(Text("\n").join(_lines(step, day))), step.led_to, day)


def _lines(step: Step, day: date) -> list[Text]:
    event = step.event.event_id[:8] if step.event else ""
    at = f"{step.at:%H:%M:%S}" if step.at.date() == day else clock(step.at, seconds=True)
    heading = Text.assemble(
        (f"{at}  ", "dim"),
        (step.stage, f"bold {STAGE_STYLES.get(step.stage, '')}"),
        f"  {step.kind} ",
        (f"{event}  {_figures(step)}", "dim"),
    )
    return [heading, *(Text(words, style) for words, style in _outcome(step) if words)]


def _figures(step: Step) -> str:
    """How long it waited and took, and in how many tries if one was not enough."""
    took = step.record.handled_seconds if step.record else None
    waited, tries = step.waited_seconds, step.attempts or 0
    said = (
        None if waited is None else f"waited {_seconds(waited)}",
        None if took is None else f"took {_seconds(took)}",
        f"{tries} tries" if tries > 1 else None,
    )
    return ", ".join(part.replace(" ", NO_BREAK) for part in said if part)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"


def _outcome(step: Step) -> Iterator[tuple[str, str]]:
    """What came of the event, or where it is: words and their style."""
    if step.record is None:
        where, style = _STATES[step.state]
        yield f"{where} {step.remark}", style
        return
    said = line(step.record)
    yield (said.text, said.style) if said else (_without_line(step.record), "")
    yield said.detail if said else "", "dim"
    yield step.remark, "dim"
    if step.state == "given up":
        yield f"trimtab dead-letters show {step.effect}", "dim"


def _without_line(record: Record) -> str:
    match record:
        case Batch():
            return f"nothing new in {record.rows_received:,} rows"
        case ChunkCounts():
            return f"row group {record.row_group} is counted"
    return "done"
