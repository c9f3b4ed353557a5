"""The faults: each begins, lasts a while, and ends. All are real: signals, files, answers."""

import json
import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from git import Repo
from redis.exceptions import RedisError

from services.cli.embedded.addresses import connected
from services.cli.embedded.process import Process
from services.cli.embedded.system import beat_command, worker_command
from shared.events import STAGES, IngestionDue, first_event_fields, parse_event
from shared.failures import WillNotPass
from shared.records import Batch
from tests.faults.flaky_feed import WAYS
from tests.faults.world import PIPELINE, World

Step = Callable[[World], None]

STOP, GO_ON = signal.SIGSTOP, signal.SIGCONT


@dataclass(frozen=True)
class Fault:
    """What is done to the world, and how it is undone after `seconds`."""

    kind: str
    part: str
    """Whose life has to show again before the system has recovered."""
    begin: Step
    end: Step = lambda _: None
    seconds: float = 0.0


def faults(dice: random.Random) -> list[Fault]:
    """One of each kind, with its details drawn."""
    stage = dice.choice(STAGES)
    other = dice.choice(STAGES)
    return [
        Fault(f"kill child of {stage}", stage, _kill_child(stage)),
        Fault(f"kill {other}", other, _kill(other)),
        Fault("kill trainer", "trainer", _kill("trainer")),
        Fault("kill beat", "beat", _kill("beat")),
        Fault("kill Flower", "beat", _kill("flower")),
        Fault(f"stop {stage} 5 s", stage, _signal(stage, STOP), _signal(stage, GO_ON), 5),
        Fault("kill broker", "beat", _kill("valkey")),
        Fault("empty broker", "beat", _empty_broker),
        Fault("fill broker", "beat", _limit_broker(1), _limit_broker(0), 4),
        Fault("kill store", "beat", _kill("mongod")),
        Fault("store refuses 10 s", "beat", _keep_down("mongod", 10), seconds=10),
        *(Fault(f"feed: {way}", "beat", _feed(way)) for way in WAYS),
        Fault("repository unreachable", "publisher", _hide_repository, _show_repository, 3),
        Fault("repository rejects", "publisher", _hook("exit 1"), _no_hook, 3),
        Fault("repository slow", "publisher", _hook("sleep 2"), _no_hook, 5),
        Fault("repository moved", "publisher", _other_writer),
        *(
            Fault(f"Discord: {how}", "notifier", _discord(how), _heal_discord, 3)
            for how in ("429", "500", "404", "answer lost")
        ),
        Fault("two beats", "beat", _second(beat_command()), _without_second, 4),
        Fault("two workers", stage, _second(worker_command(stage)), _without_second, 6),
        Fault("slot twice", "ingest", _slot_twice),
        Fault("events redelivered", "drift", _redeliver),
    ]


def _kill(part: str) -> Step:
    def kill(world: World) -> None:
        if pid := world.process(part).pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return kill


def _kill_child(stage: str) -> Step:
    def kill(world: World) -> None:
        pid = world.process(stage).pid
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)

    return kill


def _signal(part: str, number: signal.Signals) -> Step:
    def send(world: World) -> None:
        if pid := world.process(part).pid:
            with suppress(ProcessLookupError):
                os.killpg(pid, number)

    return send


def _keep_down(part: str, seconds: float) -> Step:
    def down(world: World) -> None:
        world.kept_down[part] = time.monotonic() + seconds
        _kill(part)(world)

    return down


def _empty_broker(world: World) -> None:
    with suppress(RedisError), world.broker() as broker:
        broker.flushall()


def _limit_broker(maxmemory: int) -> Step:
    def limit(world: World) -> None:
        with suppress(RedisError), world.broker() as broker:
            broker.config_set("maxmemory", maxmemory)

    return limit


def _feed(way: str) -> Step:
    return lambda world: world.feed.fail(way, 1)


def _discord(how: str) -> Step:
    return lambda world: world.receiver.fail(how, 2)


def _heal_discord(world: World) -> None:
    world.receiver.heal()


def _hide_repository(world: World) -> None:
    if world.repository.exists():
        world.repository.rename(world.repository.with_suffix(".hidden"))


def _show_repository(world: World) -> None:
    hidden = world.repository.with_suffix(".hidden")
    if hidden.exists():
        shutil.rmtree(world.repository, ignore_errors=True)
        hidden.rename(world.repository)


def _hook(command: str) -> Step:
    def install(world: World) -> None:
        hook = world.repository / "hooks" / "pre-receive"
        with suppress(OSError):
            hook.write_text(f"#!/bin/sh\n{command}\n")
            hook.chmod(hook.stat().st_mode | stat.S_IXUSR)

    return install


def _no_hook(world: World) -> None:
    (world.repository / "hooks" / "pre-receive").unlink(missing_ok=True)


def _other_writer(world: World) -> None:
    """Somebody else's commit on the branch; it has to stay there."""
    if not world.repository.exists() or not Repo(world.repository).heads:
        return
    clone = world.home / "other-writer"
    shutil.rmtree(clone, ignore_errors=True)
    repository = Repo.clone_from(str(world.repository), clone)
    with (clone / "NOTES.md").open("a", encoding="utf-8") as notes:
        notes.write(f"{time.time()}\n")
    repository.index.add(["NOTES.md"])
    repository.index.commit("A note")
    repository.remote().push()  # may lose the race: then there is no other commit
    repository.close()


def _second(command: list[str]) -> Step:
    def start(world: World) -> None:
        recorded = json.loads((world.home / "environment.json").read_text())
        log = world.home / "logs" / "second.log"
        process = Process("second", command, log, os.environ | recorded)
        world.extra.append(process)
        process.start()

    return start


def _without_second(world: World) -> None:
    while world.extra:
        world.extra.pop().kill()


def _slot_twice(world: World) -> None:
    with suppress(RedisError, OSError, WillNotPass), connected(world.home) as resources:
        now = datetime.now(UTC)
        event = IngestionDue(**first_event_fields(PIPELINE, "slot twice", now), slot=now)
        for _ in range(2):
            resources.broker.send(event)


def _redeliver(world: World) -> None:
    """Send the events of the newest batches again, each twice."""
    with world.store() as store:
        query = {"sequence": {"$ne": None}}
        documents = store.collection(Batch).find(query).sort("sequence", -1).limit(3)
        events = [parse_event(event) for found in documents for event in found.get("outbox", ())]
    with connected(world.home) as resources:
        for event in events * 2:
            resources.broker.send(event)
