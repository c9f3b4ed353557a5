"""What has to hold when all is quiet, seen from outside: store, repository, receiver, broker."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from git import Repo

from services.feed.stations import TIME_FORMAT
from shared.artifacts import sha256
from shared.events import STAGES
from shared.frames import from_parquet
from shared.records import Batch, DeadLetter, DriftReport, ModelVersion, Notification, Publication
from shared.store import COLLECTIONS, Store
from tests.faults.push_hooks import commits_of_others
from tests.faults.receiver import Accepted
from tests.faults.world import History, World

RISK_SECONDS = 2.0
"""An answer is kept so long after its message was accepted at the latest."""

_OF_THE_RUN = {
    *("_id", "id", "trace_id", "recorded_at", "handled_seconds", "timestamp", "batch_id"),
    *("drift_report", "lineage", "seal", "details", "outbox", "outbox_open", "outbox_sent_at"),
    *("published_bytes", "metrics", "plots", "source", "chart"),
}
"""What differs between two runs of one history: times, and ids that are made of times."""


@dataclass(frozen=True)
class Decisions:
    """What a run has come to, without its times."""

    batches: dict[int, str] = field(default_factory=dict)
    """Number -> the rows' hash."""
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    models: dict[int, dict[str, Any]] = field(default_factory=dict)


def decisions(store: Store) -> Decisions:
    """All decisions in the store."""
    batches = store.find(Batch, {"sequence": {"$ne": None}}, oldest_by="sequence")
    reports = store.find(DriftReport, {}, oldest_by="sequence")
    models = store.find(ModelVersion, {}, oldest_by="version")
    return Decisions(
        {batch.sequence or 0: batch.data or "" for batch in batches},
        {report.sequence: _lasting(report) for report in reports},
        {model.version: _lasting(model) | {"error": _error(model)} for model in models},
    )


def _lasting(record: Any) -> dict[str, Any]:
    content = record.model_dump(mode="json")
    return {name: value for name, value in content.items() if name not in _OF_THE_RUN}


def _error(model: ModelVersion) -> Any:
    return model.metrics.get(model.metrics.get("deciding_metric", "mae"))


def records(store: Store) -> int:
    """How many records of work done there are; readings that found nothing new do not count."""
    kinds = (DriftReport, ModelVersion, Publication, Notification, DeadLetter)
    return sum(store.collection(kind).count_documents({}) for kind in kinds)


def stuck(world: World, store: Store) -> list[str]:
    """What is still under way, or waits for something."""
    found = []
    work = store.database["work"].count_documents({})
    if work:
        found.append(f"{work} effects are under way")
    for name in COLLECTIONS.values():
        unsent = store.database[name].count_documents({"outbox_open": True, "outbox_sent_at": None})
        if unsent:
            found.append(f"{unsent} outboxes of {name} are not sent")
        open_ = store.database[name].count_documents({"outbox_open": True})
        if open_:
            found.append(f"{open_} outboxes of {name} are open")
    with world.broker() as broker:
        queued = {
            stage: broker.llen(f"drift_detection:{stage}") for stage in STAGES if stage != "ingest"
        }
    return found + [f"{number} messages in {stage}" for stage, number in queued.items() if number]


def violations(world: World, store: Store, history: History, hours: int) -> list[str]:
    """Every invariant that does not hold, in words; `hours` of the history were fed."""
    return [
        *_rows(store, history, hours),
        *_records(store),
        *_repository(world, store),
        *_messages(world, store),
        *_broker(world),
    ]


def _rows(store: Store, history: History, hours: int) -> list[str]:
    """Every row that was served is in exactly one batch."""
    kept: Counter[tuple[Any, ...]] = Counter()
    for batch in store.find(Batch, {"sequence": {"$ne": None}}):
        rows = from_parquet(store.blob(batch.data or ""))
        times = rows["last_update"].dt.strftime(TIME_FORMAT)
        kept.update(zip(rows["station"], rows["pollutant_id"], times, strict=True))
    served = {
        (row["station"], row["pollutant_id"], row["last_update"])
        for hour in history.order()[:hours]
        for row in history.rows(hour)
    }
    twice = [key for key, times in kept.items() if times > 1]
    found = [f"{len(twice)} rows are in two batches, such as {twice[0]}"] if twice else []
    if lost := served - kept.keys():
        found.append(f"{len(lost)} rows are in no batch, such as {min(lost)}")
    if invented := kept.keys() - served:
        found.append(f"{len(invented)} rows were never served, such as {min(invented)}")
    return found


def _records(store: Store) -> list[str]:
    found = []
    for kind, number in ((Batch, "sequence"), (DriftReport, "sequence"), (ModelVersion, "version")):
        numbers = Counter(
            document[number]
            for document in store.collection(kind).find({number: {"$ne": None}}, {number: 1})
        )
        name = COLLECTIONS[kind]
        found += [f"{times} {name} have number {at}" for at, times in numbers.items() if times > 1]
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            found.append(f"{name}: numbers {sorted(numbers)} have gaps")
    letters = store.find(DeadLetter, {"state": "open"})
    allowed = {"IngestionDue"}  # the next reading brings what this one would have
    return found + [
        f"dead letter {letter.stage} {letter.kind}: {letter.reason}"
        for letter in letters
        if letter.kind not in allowed
    ]


def differences(found: Decisions, expected: Decisions) -> list[str]:
    """Where the decisions of two runs differ, in words."""
    faults = []
    for name in ("batches", "reports", "models"):
        one, other = getattr(found, name), getattr(expected, name)
        if set(one) != set(other):
            faults.append(f"{name}: {sorted(one)} instead of {sorted(other)}")
        faults += [
            f"{name} {number}: {_difference(one[number], other[number])}"
            for number in sorted(set(one) & set(other))
            if one[number] != other[number]
        ]
    return faults


def _difference(one: Any, other: Any) -> str:
    if not isinstance(one, dict):
        return f"{one} instead of {other}"
    names = [name for name in one if one[name] != other.get(name)]
    return "; ".join(f"{name} {one[name]!r} instead of {other.get(name)!r}"[:300] for name in names)


def _repository(world: World, store: Store) -> list[str]:
    repository = Repo(world.repository)
    commits = list(repository.iter_commits("main", reverse=True))
    published = [
        line.partition(":")[2].strip()
        for commit in commits
        for line in str(commit.message).splitlines()
        if line.startswith("Trimtab-Model:")
    ]
    promoted = [
        f"{model.pipeline}/v{model.version}"
        for model in store.find(ModelVersion, {"decision": "promoted"}, oldest_by="version")
    ]
    promoted = [tag for tag in promoted if tag not in overtaken(store)]
    found = [] if published == promoted else [f"commits {published}, promotions {promoted}"]
    if lost := set(commits_of_others(world.repository)) - {commit.hexsha for commit in commits}:
        found.append(f"{len(lost)} commits of somebody else are gone")
    publications = [
        f"{each.pipeline}/v{each.model_version}"
        for each in store.find(Publication, {}, oldest_by="model_version")
    ]
    if publications != promoted:
        found.append(f"publications {publications}, promotions {promoted}")
    champion = store.champion("air_quality")
    head = repository.commit("main").tree / "model.joblib"
    if champion and sha256(head.data_stream.read()) != champion.model:
        found.append(f"the branch's model is not the champion v{champion.version}")
    repository.close()
    return found


def overtaken(store: Store) -> set[str]:
    """The models whose push was refused, and whose successor was on the branch at the replay."""
    letters = store.find(DeadLetter, {"state": "dismissed", "stage": "publisher"})
    return {f"{each.pipeline}/v{each.message['model_version']}" for each in letters}


def _messages(world: World, store: Store) -> list[str]:
    """One message for each event that has one; again only where an answer was lost."""
    expected = _expected_messages(store)
    accepted = world.receiver.accepted
    times = Counter(each.title for each in accepted)
    lost = Counter(each.title for each in accepted if answer_lost(each, world))
    found = [f"no message: {title}" for title in expected if not times[title]]
    found += [f"a message of no event: {title}" for title in times if not expected[title]]
    return found + [
        f"{again} messages too many: {title}, "
        f"at {', '.join(_clock(each.at) for each in accepted if each.title == title)}"
        for title, again in messages_again(world, store).items()
        if again > lost[title]
    ]


def _expected_messages(store: Store) -> Counter[str]:
    told = store.find(Notification, {})
    return Counter(each.title for each in told if "discord" in each.channels)


def messages_again(world: World, store: Store) -> Counter[str]:
    """Title -> how often its message came beyond once for each event."""
    return Counter(each.title for each in world.receiver.accepted) - _expected_messages(store)


def answer_lost(message: Accepted, world: World) -> bool:
    """Whether the answer to a message went astray, or may have died with what was to keep it."""
    return not message.answered or any(
        -RISK_SECONDS < at - message.at < RISK_SECONDS for at in world.answers_at_risk
    )


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S.%f}"


def _broker(world: World) -> list[str]:
    """Nothing that grows with the number of messages."""
    with world.broker() as broker:
        keys = sorted(key.decode() for key in broker.scan_iter(count=1000))
    return [f"the broker keeps {len(keys)} keys: {keys[:50]}"] if len(keys) > 40 else []
