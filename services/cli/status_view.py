"""The state of a running system in the terminal."""

from collections.abc import Iterator
from typing import Any

from services.cli.listing import Listing, right
from services.cli.literal import Console, Text
from services.cli.status import duration
from shared.wording import NO_FIGURE


def print_status(console: Console, state: dict[str, Any]) -> None:
    """The parts, the pipelines, and below them what is wrong."""
    if "parts" in state:
        console.print(_parts(state), "", _pipelines(state), "")
        work = state["work"]
        console.print(
            f"Events in hand {work['leases']}, waiting for another event {work['waiting']}, "
            f"for a later try {work['later']}, left by a worker {work['left']}; "
            f"records with unsent events {state['unsent']['records']}",
        )
    for problem in state["problems"]:
        console.print(Text(problem, "bold red", overflow="fold"))
    if not state["problems"]:
        console.print(_verdict(state["attention"]))


def _verdict(attention: list[str]) -> Text:
    if attention:
        return Text("Everything works. Look at what is marked with ! above.", "yellow")
    return Text("Everything works.", "green")


def _parts(state: dict[str, Any]) -> Listing:
    listing = Listing(
        "part",
        "alive",
        right("last sign"),
        right("queued"),
        right("unfinished"),
        right("oldest"),
    )
    for name, part in state["parts"].items():
        queue = state["queues"].get(name, {})
        oldest = queue.get("oldest_seconds")
        listing.add_row(
            name,
            Text("yes", "green") if part["alive"] else Text("no", "bold red"),
            _ago(part["seconds_ago"]),
            str(queue.get("queued", "")),
            str(queue.get("unfinished", "")),
            "" if not queue else NO_FIGURE if oldest is None else duration(oldest),
            notes=_workers(part["workers"]),
        )
    return listing


def _workers(workers: dict[str, float]) -> tuple[Text, ...]:
    """Each worker's last sign, if there are several."""
    if len(workers) < 2:
        return ()
    return tuple(Text(f"{worker}: {_ago(seconds)}", "dim") for worker, seconds in workers.items())


def _pipelines(state: dict[str, Any]) -> Listing:
    listing = Listing(
        "pipeline",
        right("batch"),
        right("checked"),
        right("reference"),
        right("champion"),
    )
    for name, pipeline in state["pipelines"].items():
        listing.add_row(
            name,
            _number(pipeline["batch"]),
            _number(pipeline["checked"]),
            _number(pipeline["reference"], "v"),
            _number(pipeline["champion"], "v"),
            notes=tuple(_notes(pipeline)),
        )
    return listing


def _notes(pipeline: dict[str, Any]) -> Iterator[Text]:
    if pipeline["batch"] is None:
        yield Text(_no_batches(pipeline), "dim")
    if pipeline["decision"]:
        yield Text(f"Newest check: {pipeline['decision']}")
        yield Text(pipeline["remark"], "dim")
    for sentence in pipeline["sentences"]:
        look = sentence in pipeline["attention"]
        yield Text(f"! {sentence}", "yellow") if look else Text(sentence)


def _no_batches(pipeline: dict[str, Any]) -> str:
    if pipeline["next_due"] is None:
        return "No batches yet. `trimtab ingest FILE` or `trimtab reference set FILE` makes one."
    return "No batches yet."


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"


def _number(value: int | None, prefix: str = "") -> str:
    return NO_FIGURE if value is None else f"{prefix}{value}"
