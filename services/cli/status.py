"""The state of a running system: who is alive, what waits, what each pipeline came to."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.journal import decision
from shared.events import STAGES, Event, Stage
from shared.records import Batch, DeadLetter, DriftReport
from shared.stage import Resources
from shared.store import COLLECTIONS, NUMBERED
from shared.sweep import MISSED_SWEEPS, SWEEP, unsettled

_SILENT_AFTER: Final = timedelta(seconds=30)
_WORKERS_SHOWN: Final = timedelta(days=1)
"""A worker that was last seen before that was taken away, or has another name now."""


def status(resources: Resources) -> dict[str, Any]:
    """The state as plain JSON types. `problems` says what is wrong; with none it is `healthy`."""
    state = {
        "parts": _parts(resources),
        "queues": _queues(resources),
        "work": _work(resources),
        "unsent": _unsent(resources),
        "dead_letters": resources.store.collection(DeadLetter).count_documents({"state": "open"}),
        "pipelines": {name: _pipeline(resources, name) for name in resources.pipelines},
    }
    problems = list(_problems(state, resources))
    return {"healthy": not problems, "problems": problems, **state}


def _parts(resources: Resources) -> dict[str, Any]:
    """Every part that has to be alive, and when it last was. One worker of a stage is enough."""
    now = datetime.now(UTC)
    seen: dict[str, dict[str, datetime]] = defaultdict(dict)
    for part, at in resources.broker.last_alive().items():
        seen[part.partition("@")[0]][part] = at
    sweeps = timedelta(seconds=MISSED_SWEEPS * resources.settings.sweep_seconds)
    silent_after = {SWEEP: sweeps + _SILENT_AFTER}
    return {
        name: {
            "alive": bool(seen[name])
            and now - max(seen[name].values()) < silent_after.get(name, _SILENT_AFTER),
            "seconds_ago": _seconds(now - max(seen[name].values())) if seen[name] else None,
            "workers": {
                worker: _seconds(now - at)
                for worker, at in sorted(seen[name].items())
                if "@" in worker and now - at < _WORKERS_SHOWN
            },
        }
        for name in (*STAGES, "beat", SWEEP)
    }


def _queues(resources: Resources) -> dict[str, Any]:
    """What waits for each stage, with its oldest event, be it in the broker or in the store only.

    The store does not know of ticks that ingestion has not begun, and the broker may have lost
    messages, so both are asked.
    """
    now = datetime.now(UTC)
    events: dict[Stage, list[Event]] = defaultdict(list)
    for found in unsettled(resources):
        events[found.stage].append(found.event)
    unfinished = {stage: len(found) for stage, found in events.items()}
    for stage in STAGES:
        if queued := resources.broker.oldest_event(stage):
            events[stage].append(queued)
    return {
        stage: {
            "queued": queued,
            "unfinished": unfinished.get(stage, 0),
            "oldest_seconds": _age_of_oldest(events[stage], now),
        }
        for stage, queued in resources.broker.queue_lengths().items()
    }


def _age_of_oldest(events: list[Event], now: datetime) -> float | None:
    oldest = min((event.occurred_at for event in events), default=None)
    return None if oldest is None else _seconds(now - oldest)


def _work(resources: Resources) -> dict[str, int]:
    """The effects that were begun: in hand, waiting for another, for a later try, for the sweep."""
    now = datetime.now(UTC)
    counts = {"leases": 0, "waiting": 0, "later": 0, "left": 0}
    for document in resources.work.all():
        if document.get("lease_until", now) > now:
            counts["leases"] += 1
        elif "waiting_for" in document:
            counts["waiting"] += 1
        elif "next_attempt_at" in document:
            counts["later"] += 1
        else:
            counts["left"] += 1
    return counts


def _unsent(resources: Resources) -> dict[str, Any]:
    """The records whose events are not with the broker, and the age of the oldest."""
    query = {"outbox_open": True, "outbox_sent_at": None}
    found = [
        document["recorded_at"]
        for name in COLLECTIONS.values()
        for document in resources.store.database[name].find(query, {"recorded_at": 1})
    ]
    age = _seconds(datetime.now(UTC) - min(found)) if found else None
    return {"records": len(found), "oldest_seconds": age}


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
    if letters := state["dead_letters"]:
        yield f"dead letters: {letters}; see `trimtab dead-letters list`"


def _pipeline(resources: Resources, name: str) -> dict[str, Any]:
    store = resources.store
    query = {"pipeline": name, "sequence": NUMBERED}
    batch = store.newest(Batch, query, "sequence")
    report = store.newest(DriftReport, {"pipeline": name}, "sequence")
    champion = store.champion(name)
    reference = store.reference(name)
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


def _seconds(duration: timedelta) -> float:
    return round(duration.total_seconds(), 1)


def _decision(decision: str | None, reason: str | None) -> Text:
    below = f"\n{reason}" if reason else ""
    return Text.assemble(_cell(decision), (below, "dim"))


def _cell(value: object, prefix: str = "") -> str:
    return "–" if value is None else f"{prefix}{value}"
