"""One run: a history fed to the system while faults come and go, until all is quiet."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from services.cli.asking import Asking
from services.cli.dead_letters import dismiss, open_letters, replay
from services.cli.embedded.addresses import connected
from shared.watchdog import SILENT_SECONDS
from tests.faults.injections import Fault, faults
from tests.faults.invariants import (
    Decisions,
    answer_lost,
    decisions,
    messages_again,
    overtaken,
    records,
    stuck,
    violations,
)
from tests.faults.push_hooks import disarm
from tests.faults.world import History, World, running

POLL_SECONDS = 0.1
STUCK_SECONDS = SILENT_SECONDS + 30.0
"""Without a new record for so long the system does not work any more: no watchdog has helped."""
HOUR_SECONDS = SILENT_SECONDS + 60.0
LATEST_SECONDS = 2.0
"""A fault begins so long after its hour's rows at the latest."""
REPLAYED = ("notifier", "publisher")
"""Stages whose dead letters a person replays once the cause is gone."""

Say = Callable[[str], None]


class Stuck(Exception):
    """The system did not come to rest; the text says what is left."""


@dataclass
class Under:
    """A fault under way, and how long the system took to live on."""

    fault: Fault
    began: float
    began_at: datetime
    ended_at: datetime | None = None


@dataclass
class Figures:
    """What a run has seen."""

    batches: int = 0
    injected: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Kind -> seconds from a fault's end to the next signs of life behind it."""
    not_met: int = 0
    """Faults that lay in wait for a request that did not come."""
    messages: int = 0
    messages_again: int = 0
    answers_lost: int = 0
    """Messages that were kept and whose sender may not have known; each may come once more."""
    replayed: int = 0
    overtaken: int = 0
    """Models whose push was refused, and that were replayed too late to be published."""
    seconds: float = 0.0
    decisions: Decisions = field(default_factory=Decisions)
    violations: list[str] = field(default_factory=list)


Schedule = dict[int, list[tuple[float, Fault]]]
"""Hour -> the faults that begin in it, each with its delay in seconds."""


@dataclass(frozen=True)
class Plan:
    """Which faults are injected when, and for how long at most the history is fed."""

    schedule: Schedule
    seconds: float = float("inf")
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the system."""


def undisturbed(home: Path, history: History, hours: int, say: Say) -> Decisions:
    """The decisions of a run over the first hours of a history without faults."""
    with running(home, history, {}) as world:
        run = Run(world, history, say)
        run.feed({}, lambda: run.figures.batches >= hours)
        run.wait_until_quiet()
        with world.store() as store:
            return decisions(store)


def disturbed(home: Path, history: History, plan: Plan, say: Say) -> Figures:
    """A run with faults, and what it broke by itself: `differences` compares it with another.

    Raises:
        Stuck: it did not come to rest.
    """
    began = time.monotonic()
    with running(home, history, plan.settings) as world:
        run = Run(world, history, say)
        run.feed(plan.schedule, lambda: time.monotonic() - began > plan.seconds)
        run.heal()
        run.wait_until_quiet()
        run.replay_dead_letters()
        run.wait_until_quiet()
        run.dismiss_what_is_too_late()
        with world.store() as store:
            run.figures.decisions = decisions(store)
            run.figures.violations = violations(world, store, history, run.figures.batches)
            run.figures.overtaken = len(overtaken(store))
            run.figures.messages_again = messages_again(world, store).total()
        accepted = world.receiver.accepted
        run.figures.messages = len(accepted)
        run.figures.answers_lost = sum(answer_lost(each, world) for each in accepted)
        run.figures.seconds = time.monotonic() - began
        return run.figures


def drawn(history: History, number: int) -> Schedule:
    """A number of faults, drawn with the history's seed. Every kind has its turn."""
    dice = random.Random(history.seed)  # noqa: S311 - a schedule, no secret
    chosen: list[Fault] = []
    while len(chosen) < number:
        kinds = faults(dice)
        dice.shuffle(kinds)
        chosen += kinds
    planned: Schedule = defaultdict(list)
    for fault in chosen[:number]:
        planned[dice.randrange(history.hours)].append((dice.uniform(0, LATEST_SECONDS), fault))
    return planned


class Run:
    """Feeds a world, keeps it up, and injects what is due."""

    def __init__(self, world: World, history: History, say: Say) -> None:
        self.figures = Figures()
        self._world = world
        self._history = history
        self._say = say
        self._under: list[Under] = []
        self._recovering: list[Under] = []

    def feed(self, schedule: Schedule, enough: Callable[[], bool]) -> None:
        """Show every hour until its rows are a batch, or until it is enough."""
        for number, hour in enumerate(self._history.order()):
            if enough():
                break
            self.figures.batches = number + 1
            self._world.feed.show(hour)
            due = [(time.monotonic() + delay, fault) for delay, fault in schedule.get(number, ())]
            self._hour(number + 1, due)

    def _hour(self, sequence: int, due: list[tuple[float, Fault]]) -> None:
        deadline = time.monotonic() + HOUR_SECONDS
        while due or self._world.batches() < sequence:
            now = time.monotonic()
            for each in [each for each in due if each[0] <= now]:
                due.remove(each)
                self._begin(each[1])
            self._turn()
            if now > deadline:
                raise Stuck(f"no batch {sequence} after {HOUR_SECONDS:.0f} s")

    def _begin(self, fault: Fault) -> None:
        self._say(f"batch {self._world.batches() + 1}: {fault.kind}")
        self.figures.injected[fault.kind] += 1
        fault.begin(self._world)
        self._under.append(Under(fault, time.monotonic(), datetime.now(UTC)))

    def _turn(self) -> None:
        """One look around: end what is over, start what has ended, note who lives again."""
        for each in list(self._under):
            if time.monotonic() - each.began >= each.fault.seconds:
                self._under.remove(each)
                self._end(each)
            else:
                each.fault.during(self._world)
        self._world.supervise()
        for each in list(self._recovering):
            if self._lives(each):
                self._recovering.remove(each)
        time.sleep(POLL_SECONDS)

    def _end(self, each: Under) -> None:
        each.fault.end(self._world)
        each.ended_at = datetime.now(UTC)
        self._recovering.append(each)

    def _lives(self, each: Under) -> bool:
        """Whether the part has given a sign of life, and a reading was recorded, since the end."""
        assert each.ended_at
        since = each.ended_at
        signs = [self._world.pulse(), self._world.last_alive(each.fault.part)]
        if not all(sign and sign > since for sign in signs):
            return False
        seconds = (max(sign for sign in signs if sign) - since).total_seconds()
        self.figures.recoveries[each.fault.kind].append(seconds)
        return True

    def heal(self) -> None:
        """End every fault."""
        while self._under:
            self._end(self._under.pop())
        self.figures.not_met = (
            self._world.feed.heal() + self._world.receiver.heal() + disarm(self._world.repository)
        )
        self._world.kept_down.clear()

    def wait_until_quiet(self) -> None:
        """Return when nothing is under way any more, twice in a row.

        Raises:
            Stuck: nothing happens, and it is not at rest.
        """
        seen, seen_at, quiet, left = -1, time.monotonic(), 0, ["nothing was seen"]
        while quiet < 2:
            self._turn()
            with suppress(PyMongoError, RedisError), self._world.store() as store:
                left = stuck(self._world, store)
                quiet = 0 if left else quiet + 1
                if (now_seen := records(store)) != seen:
                    seen, seen_at = now_seen, time.monotonic()
            if time.monotonic() - seen_at > STUCK_SECONDS:
                raise Stuck("; ".join(left))
            time.sleep(1)

    def replay_dead_letters(self) -> None:
        """Do what a person does when the cause is gone."""
        with connected(self._world.home) as resources:
            asking = Asking(resources)
            for letter in open_letters(resources.store):
                if letter.stage in REPLAYED:
                    replay(asking, letter, "the cause is gone")
                    self.figures.replayed += 1

    def dismiss_what_is_too_late(self) -> None:
        """Close the letters of models that were replayed after their successors."""
        with connected(self._world.home) as resources:
            asking = Asking(resources)
            for letter in open_letters(resources.store):
                if "took the place of" in letter.reason:
                    dismiss(asking, letter, "too late")
