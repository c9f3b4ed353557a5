"""The state of a running system: who is alive, what waits, what each pipeline came to."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.journal import decision
from services.ingest.waiting import waiting_files
from shared.events import Stage
from shared.records import Batch, DriftReport, TargetsAwaited
from shared.stage import Resources
from shared.status import (
    Part,
    Waiting,
    count_open_letters,
    parts,
    queued,
    under_way,
    unfinished,
    unsent,
)
from shared.store import NUMBERED
from shared.sweep import MISSED_SWEEPS

_WORKERS_SHOWN: Final = timedelta(days=1)
"""A worker that was last seen before that was taken away, or has another name now."""


def status(resources: Resources) -> dict[str, Any]:
    """The state as plain JSON types. `problems` says what is wrong; with none it is `healthy`."""
    alive = parts(resources.broker, resources.settings.sweep_seconds)
    known, unreadable = unfinished(resources)
    state = {
        "parts": {name: _part(part) for name, part in alive.items()},
        "queues": _queues(resources, known),
        "unreadable": unreadable,
        "work": dict(under_way(resources.work)),
        "unsent": _unsent(unsent(resources.store)),
        "dead_letters": count_open_letters(resources.store).total(),
        "pipelines": {name: _pipeline(resources, name) for name in resources.pipelines},
    }
    problems = list(_problems(state, resources))
    return {"healthy": not problems, "problems": problems, **state}


def _part(part: Part) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "alive": part.alive,
        "seconds_ago": _age(part.last_seen),
        "workers": {
            worker: _age(at) for worker, at in part.workers.items() if now - at < _WORKERS_SHOWN
        },
    }


def _queues(resources: Resources, known: dict[Stage, Waiting]) -> dict[str, Any]:
    """What waits for each stage, with its oldest event, be it in the broker or in the store."""
    return {
        stage: {
            "queued": waiting.number,
            "unfinished": known[stage].number,
            "oldest_seconds": _age(_earlier(waiting.oldest, known[stage].oldest)),
        }
        for stage, waiting in queued(resources.broker).items()
    }


def _earlier(*times: datetime | None) -> datetime | None:
    return min((at for at in times if at), default=None)


def _unsent(records: Waiting) -> dict[str, Any]:
    return {"records": records.number, "oldest_seconds": _age(records.oldest)}


def _age(at: datetime | None) -> float | None:
    """Seconds since then."""
    return None if at is None else round((datetime.now(UTC) - at).total_seconds(), 1)


def _problems(state: dict[str, Any], resources: Resources) -> Iterator[str]:
    for name, part in state["parts"].items():
        if not part["alive"]:
            seen = part["seconds_ago"]
            last = "no sign of life so far" if seen is None else f"silent for {_duration(seen)}"
            yield f"{name}: {last}"
    longest = resources.settings.task_time_limit_seconds
    for stage, queue in state["queues"].items():
        if (queue["oldest_seconds"] or 0) > longest:
            age = _duration(queue["oldest_seconds"])
            yield (
                f"{stage}: its oldest event has waited for {age}, longer than one task may take "
                f"(TASK_TIME_LIMIT_SECONDS, {_duration(longest)})"
            )
    unsent = state["unsent"]
    if (unsent["oldest_seconds"] or 0) > MISSED_SWEEPS * resources.settings.sweep_seconds:
        age = _duration(unsent["oldest_seconds"])
        yield f"events of {unsent['records']} records are not sent, the oldest for {age}"
    if unreadable := state["unreadable"]:
        yield f"events of {unreadable} records cannot be read; the workers' logs say which"
    for name, pipeline in state["pipelines"].items():
        for file in pipeline["files_waiting"].values():
            yield f"{name}: a file waits since {file['since']}: {file['reason']}"
    if letters := state["dead_letters"]:
        yield f"dead letters: {letters}; see `trimtab dead-letters list`"


def _pipeline(resources: Resources, name: str) -> dict[str, Any]:
    store = resources.store
    query = {"pipeline": name, "sequence": NUMBERED}
    batch = store.newest(Batch, query, "sequence")
    report = store.newest(DriftReport, {"pipeline": name}, "sequence")
    champion = store.champion(name)
    reference = store.reference(name)
    awaited = store.targets_awaited(name)
    return {
        "batch": batch.sequence if batch else None,
        "batch_at": batch.recorded_at.isoformat() if batch else None,
        "checked": report.sequence if report else None,
        "verdict": report.verdict if report else None,
        "p": report.p if report else None,
        "drift_score": report.drift_score if report else None,
        "decision": decision(report) if report else None,
        "reason": report.reason if report else None,
        "reference": reference.version if reference else None,
        "champion": champion.version if champion else None,
        "files_waiting": {
            mark: file.model_dump(mode="json") for mark, file in waiting_files(name, store).items()
        },
        "awaited": awaited.model_dump(mode="json") if awaited else None,
    }


def print_status(console: Console, state: dict[str, Any]) -> None:
    """The state as tables, and what is wrong below."""
    console.print(_parts_table(state))
    pipelines = Table("pipeline", "batch", "checked", "decision", "reference", "champion")
    for name, pipeline in state["pipelines"].items():
        pipelines.add_row(
            name,
            _cell(pipeline["batch"]),
            _cell(pipeline["checked"]),
            _decision(pipeline["decision"], pipeline["reason"]),
            _cell(pipeline["reference"], "v"),
            _cell(pipeline["champion"], "v"),
        )
    console.print(pipelines)
    for name, pipeline in state["pipelines"].items():
        if pipeline["awaited"]:
            awaited = TargetsAwaited.model_validate(pipeline["awaited"])
            console.print(Text(f"{name}: {awaited}", "yellow"))
    work = state["work"]
    console.print(
        f"in hand {work['leases']}, waiting for another event {work['waiting']}, "
        f"for a later try {work['later']}, left by a worker {work['left']}; "
        f"records with unsent events {state['unsent']['records']}",
        highlight=False,
    )
    for problem in state["problems"]:
        console.print(Text(problem, "bold red"))


def _parts_table(state: dict[str, Any]) -> Table:
    table = Table("part", "alive", "last sign", "queued", "unfinished", "oldest")
    for name, part in state["parts"].items():
        queue = state["queues"].get(name, {})
        table.add_row(
            name,
            "[green]yes[/]" if part["alive"] else "[bold red]no[/]",
            _ago(part["seconds_ago"]),
            str(queue.get("queued", "")),
            str(queue.get("unfinished", "")),
            _cell(_duration(queue["oldest_seconds"])) if queue else "",
        )
        if len(part["workers"]) > 1:
            for worker, seconds in part["workers"].items():
                table.add_row(Text(f"  {worker}", "dim"), "", _ago(seconds))
    return table


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{_duration(seconds)} ago"


def _duration(seconds: float | None) -> str | None:
    """A length of time in the largest unit of which it has two: '90 s', '25 h'."""
    if seconds is None:
        return None
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _decision(decision: str | None, reason: str | None) -> Text:
    below = f"\n{reason}" if reason else ""
    return Text.assemble(_cell(decision), (below, "dim"))


def _cell(value: object, prefix: str = "") -> str:
    return "–" if value is None else f"{prefix}{value}"
