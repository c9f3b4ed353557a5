"""`trimtab upgrade`: MACs for what a version before EVENT_KEY has left in the store."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.cli.asking import Asking
from services.cli.embedded.addresses import connected, environment_file, is_set
from services.cli.embedded.system import System
from services.cli.up import only_one
from shared.events import NO_PIPELINE, deterministic_id
from shared.failures import WillNotPass
from shared.stage import Resources
from shared.status import SILENT_AFTER, parts
from shared.sweep import SWEEP


@dataclass(frozen=True)
class Upgrade:
    """What is to be authenticated."""

    resources: Resources
    left: dict[str, int]
    """Collection -> how many of its documents have no MAC; those without any are left out."""

    @property
    def is_needed(self) -> bool:
        """Whether a document has no MAC."""
        return bool(self.left)

    def in_words(self) -> Iterator[str]:
        """What there is, and what trusting it means."""
        if not self.is_needed:
            yield "Every record has a MAC. There is nothing to do."
            return
        for name, number in self.left.items():
            yield f"{name}: {number:,} without a MAC"
        yield (
            "From now on workers trust these records as they stand. Whoever had the store's "
            "password could have written them. If you doubt that, restore a backup first."
        )

    def carry_out(self, because: str) -> str:
        """Authenticate everything, and remove the messages, which have no MAC either."""
        left = {name: str(number) for name, number in self.left.items()}
        trace_id = deterministic_id("upgrade", *sorted(left.items()))
        Asking(self.resources).ask("upgrade", NO_PIPELINE, trace_id, left, because)
        done = self.resources.store.authenticate_all()
        self.resources.store.make_installation()
        self.resources.store.require_authenticated()
        dropped = self.resources.broker.drop_all()
        return (
            f"{done:,} records have a MAC now. {dropped:,} messages were removed from the broker; "
            "the sweep sends what they asked for again."
        )


@contextmanager
def opened(home: Path) -> Iterator[Upgrade]:
    """What is to be done in a store; the servers of a folder run meanwhile.

    Raises:
        WillNotPass: EVENT_KEY is not set, or workers run.
    """
    with _servers(home), connected(home) as resources:
        if resources.settings.event_key is None:
            raise WillNotPass("EVENT_KEY is not set: the records get their MACs with it")
        found = parts(resources.broker, resources.settings.sweep_seconds)
        alive = [name for name, part in found.items() if part.alive and name != SWEEP]
        if alive:
            raise WillNotPass(
                f"stop the workers and beat first: {', '.join(alive)} gave a sign of life "
                f"less than {SILENT_AFTER.seconds} seconds ago"
            )
        yield Upgrade(resources, resources.store.without_mac())


@contextmanager
def _servers(home: Path) -> Iterator[None]:
    """The servers of a folder that `trimtab up` has made; nothing where they are elsewhere."""
    if not (home / "mongo").exists() or is_set("MONGODB_URI"):
        yield
        return
    recorded = json.loads(environment_file(home).read_text(encoding="utf-8"))
    system = System(home, Path(recorded["PIPELINES"]))
    try:
        with only_one(home):
            system.start_servers(lambda _: None)
            yield
    finally:
        system.stop()
