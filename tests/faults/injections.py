"""The faults: each begins, lasts a while, and ends. All are real: signals, files, answers."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError

from services.cli.embedded.process import Process
from services.cli.embedded.system import beat_command, worker_command
from shared.events import STAGES, IngestionDue, Stage, first_event_fields
from shared.rights import Service
from tests.faults.flaky_feed import WAYS
from tests.faults.push_hooks import DEEDS, arm
from tests.faults.world import PIPELINE, World

Step = Callable[[World], None]

STOP, GO_ON = signal.SIGSTOP, signal.SIGCONT


def _nothing(_: World) -> None:
    """Nothing is to be done."""


@dataclass(frozen=True)
class Fault:
    """What is done to the world, and how it is undone after `seconds`."""

    kind: str
    part: str
    """Whose life has to show again before the system has recovered."""
    begin: Step
    end: Step = _nothing
    seconds: float = 0.0
    during: Step = _nothing
    """Done again and again until the end."""


def faults(dice: random.Random) -> list[Fault]:
    """One of each kind; `dice` draws which stage it strikes."""

    def stage() -> Stage:
        return dice.choice(STAGES)

    struck, doubled = stage(), stage()
    return [
        Fault("kill a worker's child", struck, _kill_child(struck)),
        *(Fault(f"kill {name}", name, _kill(name)) for name in STAGES),
        Fault("kill beat", "beat", _kill("beat")),
        Fault("kill Flower", "beat", _kill("flower")),
        Fault("stop a worker 5 s", doubled, _signal(doubled, STOP), _signal(doubled, GO_ON), 5),
        Fault("kill broker", "beat", _kill("valkey")),
        Fault("empty broker", "beat", _empty_broker),
        Fault("empty full queues", struck, _signal(struck, STOP), _empty_and_go_on(struck), 3),
        Fault("fill broker", "beat", _limit_broker(1), _limit_broker(0), 4),
        Fault("kill store", "beat", _kill("mongod")),
        Fault("store refuses 10 s", "beat", _keep_down("mongod", 10), seconds=10),
        Fault("disk full", "beat", _fill_disk, _clear_disk, 5),
        *(Fault(f"feed: {way}", "beat", _feed(way)) for way in WAYS),
        Fault("repository unreachable", "publisher", _hide_repository, _show_repository, 3),
        *(Fault(f"repository: {deed}", "publisher", _push(deed)) for deed in DEEDS),
        *(Fault(f"Discord: {how}", "notifier", _discord(how)) for how in _DISCORD),
        Fault("two beats", "beat", _second("beat"), _without_second, 4),
        Fault("two workers", doubled, _second(doubled), _without_second, 6),
        Fault(
            "two workers, every event again and again",
            "notifier",
            _second_notifier_and_slow_discord,
            _without_second,
            6,
            during=_redeliver,
        ),
        Fault("slot twice", "ingest", _slot_twice),
        Fault("every event again and again", "drift", _nothing, seconds=3, during=_redeliver),
    ]


_DISCORD = ("429", "500", "404", "slow", "answer lost")


def _kill(part: str) -> Step:
    def kill(world: World) -> None:
        _note_risk(world, part)
        if pid := world.process(part).pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return kill


def _kill_child(stage: str) -> Step:
    def kill(world: World) -> None:
        _note_risk(world, stage)
        pid = world.process(stage).pid
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)

    return kill


def _note_risk(world: World, part: str) -> None:
    """An answer that the notifier is about to keep is lost with it, the broker or the store."""
    if part in ("notifier", "valkey", "mongod"):
        world.answers_at_risk.append(time.time())


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


def _empty_and_go_on(stage: str) -> Step:
    def go_on(world: World) -> None:
        _empty_broker(world)
        _signal(stage, GO_ON)(world)

    return go_on


def _limit_broker(maxmemory: int) -> Step:
    def limit(world: World) -> None:
        with suppress(RedisError), world.broker() as broker:
            broker.config_set("maxmemory", maxmemory)

    return limit


def _fill_disk(world: World) -> None:
    if world.disk:
        _note_risk(world, "mongod")
        world.disk.fill()


def _clear_disk(world: World) -> None:
    if world.disk:
        world.disk.clear()


def _feed(way: str) -> Step:
    def fail(world: World) -> None:
        world.feed.fail(way, 1)

    return fail


def _discord(how: str) -> Step:
    def fail(world: World) -> None:
        world.receiver.fail(how, 1)

    return fail


def _push(deed: str) -> Step:
    def prepare(world: World) -> None:
        arm(world.repository, deed)

    return prepare


def _hide_repository(world: World) -> None:
    if world.repository.exists():
        world.repository.rename(world.repository.with_suffix(".hidden"))


def _show_repository(world: World) -> None:
    hidden = world.repository.with_suffix(".hidden")
    if hidden.exists():
        shutil.rmtree(world.repository, ignore_errors=True)
        hidden.rename(world.repository)


def _second(part: Service) -> Step:
    """Start another process of a part, with the part's own users."""
    command = beat_command() if part == "beat" else worker_command(part)

    def start(world: World) -> None:
        recorded = json.loads((world.home / "environment.json").read_text())
        log = world.home / "logs" / "second.log"
        own = world.system.environment_of(part, os.environ | recorded)
        process = Process("second", command, log, own)
        world.extra.append(process)
        process.start()

    return start


def _second_notifier_and_slow_discord(world: World) -> None:
    _second("notifier")(world)
    world.receiver.fail("slow", 1)


def _without_second(world: World) -> None:
    while world.extra:
        world.extra.pop().stop()


def _slot_twice(world: World) -> None:
    now = datetime.now(UTC)
    event = IngestionDue(**first_event_fields(PIPELINE, "slot twice", now), slot=now)
    world.send([event, event])


def _redeliver(world: World) -> None:
    """Send every event whose chain is not closed once more."""
    world.send(world.open_events())
