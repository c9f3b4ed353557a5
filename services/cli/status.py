"""The state of a running system: who is alive, what waits, how each pipeline and its model are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.cli.journal import decision, remark
from services.cli.pipeline_health import pipeline_health
from services.ingest.waiting import waiting_files
from shared.audit import faults
from shared.authentication import Unauthentic
from shared.events import Stage
from shared.integrity import missing_models
from shared.records import Batch, DriftReport
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
from shared.store import NUMBERED, Store
from shared.sweep import MISSED_SWEEPS
from shared.watch import watch_of
from shared.wording import moment

WRONG: Final = 1
"""The exit code when something is wrong."""
NEEDS_A_LOOK: Final = 4
"""The exit code when everything works, but a person should look at a pipeline."""
_WORKERS_SHOWN: Final = timedelta(days=1)
"""A worker that was last seen before that was taken away, or has another name now."""


def status(resources: Resources) -> dict[str, Any]:
    """The state as plain JSON types.

    `problems` says what is wrong; without any the system is `healthy`. `attention` says what a
    person should look at although it works. `exit_code` is that of the command.
    """
    alive = parts(resources.broker, resources.settings.sweep_seconds)
    known, unreadable = unfinished(resources)
    pipelines, foreign = _pipelines(resources)
    audit = list(faults(resources.store, resources.settings))
    state: dict[str, Any] = {
        "parts": {name: _part(part) for name, part in alive.items()},
        "queues": _queues(resources, known),
        "unreadable": unreadable,
        "work": dict(under_way(resources.work)),
        "unsent": _unsent(unsent(resources.store)),
        "dead_letters": count_open_letters(resources.store).total(),
        "pipelines": pipelines,
    }
    problems = [*_problems(state, resources), *foreign, *audit]
    attention = [
        f"{name}: {sentence}"
        for name, pipeline in state["pipelines"].items()
        for sentence in pipeline["attention"]
    ]
    return {
        "healthy": not problems,
        "exit_code": WRONG if problems else NEEDS_A_LOOK if attention else 0,
        "problems": problems,
        "attention": attention,
        **state,
    }


def state_without_system(why: str) -> dict[str, Any]:
    """The same where nothing was ever started."""
    return {"healthy": False, "exit_code": WRONG, "problems": [why], "attention": []}


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
            last = "no sign of life so far" if seen is None else f"silent for {duration(seen)}"
            yield f"{name}: {last}"
    longest = resources.settings.task_time_limit_seconds
    for stage, queue in state["queues"].items():
        if (queue["oldest_seconds"] or 0) > longest:
            age = duration(queue["oldest_seconds"])
            yield (
                f"{stage}: its oldest event has waited for {age}, longer than one task may take "
                f"(TASK_TIME_LIMIT_SECONDS, {duration(longest)})"
            )
    unsent = state["unsent"]
    if (unsent["oldest_seconds"] or 0) > MISSED_SWEEPS * resources.settings.sweep_seconds:
        age = duration(unsent["oldest_seconds"])
        yield f"events of {unsent['records']} records are not sent, the oldest for {age}"
    if unreadable := state["unreadable"]:
        yield f"events of {unreadable} records cannot be read; the workers' logs say which"
    for name, pipeline in state["pipelines"].items():
        yield from _problems_of(name, pipeline)
    if letters := state["dead_letters"]:
        yield f"dead letters: {letters}; see `trimtab dead-letters list`"


def _problems_of(name: str, pipeline: dict[str, Any]) -> Iterator[str]:
    for change in pipeline["publication"]["changes"]:
        yield f"{name}: somebody changed what was published: {change}"
    for file in pipeline["files_waiting"].values():
        since = moment(datetime.fromisoformat(file["since"]))
        yield f"{name}: a file has waited since {since}: {file['reason']}"


def _pipelines(resources: Resources) -> tuple[dict[str, Any], list[str]]:
    """The state of each pipeline. Beside it, what is wrong with those whose records are foreign or
    missing."""
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for name in resources.pipelines:
        try:
            wrong += missing_models(name, resources.store)
            found[name] = _pipeline(resources, name)
        except Unauthentic as error:
            wrong.append(f"{name}: {error}")
    return found, wrong


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
        "remark": remark(report) if report else "",
        "reference": reference.version if reference else None,
        "champion": champion.version if champion else None,
        "publication": _publication(store, name),
        "files_waiting": {
            mark: file.model_dump(mode="json") for mark, file in waiting_files(name, store).items()
        },
        **pipeline_health(resources.pipelines[name], store, datetime.now(UTC)).as_json(),
    }


def _publication(store: Store, pipeline: str) -> dict[str, Any]:
    """What the publisher last saw of the published model; without a look yet, no changes."""
    watch = watch_of(store, pipeline)
    if watch is None:
        return {"model": None, "seen_at": None, "changes": [], "failure": None}
    return {
        "model": watch.model_version,
        "seen_at": watch.seen_at and watch.seen_at.isoformat(),
        "changes": watch.changes,
        "failure": watch.failure,
    }


def duration(seconds: float) -> str:
    """A length of time in the largest unit of which it has two: '90 s', '25 h'."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
