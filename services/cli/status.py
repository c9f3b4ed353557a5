"""The state of a running system: who is alive, what waits, what each pipeline came to."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.journal import decision
from shared.events import STAGES
from shared.records import Batch, DeadLetter, DriftReport
from shared.stage import Resources

_SILENT_AFTER: Final = timedelta(seconds=30)


def status(resources: Resources) -> dict[str, Any]:
    """The state as plain JSON types. `healthy` is false if a part is silent."""
    parts = _parts(resources)
    return {
        "healthy": all(part["alive"] for part in parts.values()),
        "parts": parts,
        "queues": resources.broker.queue_lengths(),
        "pipelines": {name: _pipeline(resources, name) for name in resources.pipelines},
        "dead_letters": resources.store.collection(DeadLetter).count_documents({"state": "open"}),
    }


def _parts(resources: Resources) -> dict[str, Any]:
    """Every part that has to be alive, and when it last was. A stage's workers count as one."""
    now = datetime.now(UTC)
    newest: dict[str, datetime] = {}
    for part, at in resources.broker.last_alive().items():
        name = part.partition("@")[0]
        newest[name] = max(at, newest.get(name, at))
    return {
        name: {
            "alive": name in newest and now - newest[name] < _SILENT_AFTER,
            "seconds_ago": round((now - newest[name]).total_seconds(), 1)
            if name in newest
            else None,
        }
        for name in (*STAGES, "beat")
    }


def _pipeline(resources: Resources, name: str) -> dict[str, Any]:
    store = resources.store
    query = {"pipeline": name, "sequence": {"$ne": None}}
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
    """The state as tables."""
    parts = Table("part", "alive", "last sign", "queued")
    for name, part in state["parts"].items():
        seen = part["seconds_ago"]
        parts.add_row(
            name,
            "[green]yes[/]" if part["alive"] else "[bold red]no[/]",
            "never" if seen is None else f"{seen:.0f} s ago",
            str(state["queues"].get(name, "")),
        )
    console.print(parts)
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
    if state["dead_letters"]:
        console.print(
            f"[bold red]{state['dead_letters']} dead letters[/]: trimtab dead-letters list"
        )


def _decision(decision: str | None, reason: str | None) -> Text:
    below = f"\n{reason}" if reason else ""
    return Text.assemble(_cell(decision), (below, "dim"))


def _cell(value: object, prefix: str = "") -> str:
    return "–" if value is None else f"{prefix}{value}"
