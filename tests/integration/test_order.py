"""Messages in any order, late or doubled, give the same store."""

from random import Random

import pytest

from shared.events import Event, IngestionDue, Stage
from shared.stage import Resources
from tests.integration.workers import (
    Workers,
    content,
    differences,
    settled_once,
    undisturbed,
    workers_of,
)

HOURS = 9
DRIFT_AT = 5

Message = tuple[Stage, Event]


@pytest.fixture
def workers(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Workers:
    return workers_of(resources, DRIFT_AT, monkeypatch)


class Post:
    """Carries messages late, out of order, and some of them again and again."""

    def __init__(self, workers: Workers, seed: int) -> None:
        self._workers = workers
        self._random = Random(seed)  # noqa: S311
        self._held: list[Message] = []
        self.carried: list[Message] = []

    def play(self, hours: int) -> None:
        """The hours, with ever more messages under way, and then the rest of them."""
        for _ in range(hours):
            self._workers.tick()
            self._collect()
            for _ in range(self._random.randrange(4)):
                self._carry_one()
            if self._random.random() < 0.3:
                self._workers.sweep()
        while self._held or self._workers.sweep() or self._collect():
            self._carry_one()

    def _collect(self) -> bool:
        """Take the messages that wait. The feed is read in its hour: it does not show it again."""
        found = list(self._workers.take())
        for message in found:
            if isinstance(message[1], IngestionDue):
                self._workers.deliver(*message)
                found += self._workers.take()
        self._held += found
        return bool(found)

    def _carry_one(self) -> None:
        self._collect()
        if not self._held:
            return
        message = self._held.pop(self._random.randrange(len(self._held)))
        self._workers.deliver(*message)
        self.carried.append(message)
        if self._random.random() < 0.4:
            self._held.append(message)

    def carry_all_again(self) -> None:
        """Every message once more, in another order."""
        for message in self._random.sample(self.carried, len(self.carried)):
            self._workers.deliver(*message)
        self._workers.come_to_rest()


@pytest.mark.parametrize("seed", range(2))
def test_any_order_gives_the_same_store(workers: Workers, seed: int) -> None:
    expected = undisturbed(workers, HOURS)
    assert [len(expected[name]) for name in ("batches", "models")] == [HOURS, 2]
    post = Post(workers, seed)
    post.play(HOURS)
    assert differences(content(workers.store), expected) == []
    assert settled_once(workers.store)
    post.carry_all_again()
    assert differences(content(workers.store), expected) == []
