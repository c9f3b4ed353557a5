"""The demo: a fixed history of the feed, played hour by hour through the embedded system."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Final, TypeVar

import httpx
import yaml

from services.cli.embedded.addresses import connected
from services.cli.embedded.system import System, running
from services.cli.journal import Journal, activities, line
from services.cli.literal import Console
from services.cli.report import json_text, page, write
from services.cli.up import is_running, only_one, start_in_background, where_flower_is
from services.cli.view import LiveView
from shared.events import ROUTES, STAGES
from shared.pipeline import load_pipeline
from shared.records import Batch, DeadLetter, DriftReport
from shared.stage import Resources

T = TypeVar("T")

_MARKER: Final = ".trimtab-demo"
_HOUR_SECONDS: Final = 180.0
"""An hour of the feed that has not gone all the way round by then is stuck."""
_POLL_SECONDS: Final = 0.1
_READINGS_WITHOUT_NEWS: Final = 2
SIMULATED_HISTORY: Final = (
    *("simulate", "--manual", "--hours", "8"),
    *("--drift-at", "5", "--fault-at", "7"),
)
"""Five ordinary hours, two of winter, and one in which sensors send error codes."""


class DemoFailed(Exception):
    """The demo did not go all the way; the text says at what."""


@dataclass(frozen=True)
class Demo:
    """What a demo is made of."""

    home: Path
    pipeline_file: Path
    feed_arguments: tuple[str, ...]
    keep: bool = False
    """Whether the system runs in the background afterwards, until `trimtab down`."""

    def run(self, view: LiveView, summarise: Callable[[Resources, Path], None]) -> None:
        """Start the system in a fresh folder, play every hour, summarise, and stop it.

        A system that is to be kept starts again in the background, with the same state.

        Raises:
            DemoFailed: a stage failed or is stuck.
            StartFailed: a part did not come up.
        """
        make_fresh(self.home)
        started_at = datetime.now(UTC)
        system = System(
            home=self.home,
            pipelines=self._pipeline_in_a_hurry(),
            feed_arguments=self.feed_arguments,
            extra_environment={"SWEEP_SECONDS": "2", "REDELIVER_AFTER_SECONDS": "5"},
        )
        with only_one(self.home), view, running(system, view.step):
            view.console.print(f"{where_flower_is(system)}\n")
            with connected(system.home) as resources:
                journal = Journal(resources.store, started_at)
                Player(system, resources, view, journal, self.pipeline_name).play()
                view.going_on({})
                write_reports(resources, self.home / "reports")
                summarise(resources, self.home)
        if self.keep:
            self._keep(view.console)

    def _keep(self, console: Console) -> None:
        """Start the system again in the background; its feed stands at an hour that is known."""
        with console.status("starting the system again in the background"):
            shutil.copy(self.pipeline_file, self.home / "pipelines")
            started = start_in_background(self.home, self.home / "pipelines", self.feed_arguments)
        look = f"look at it with `trimtab status --home {quote(str(self.home))}`"
        console.print(f"\n{started}\n{look}", soft_wrap=True)

    @property
    def pipeline_name(self) -> str:
        return load_pipeline(self.pipeline_file).name

    def _pipeline_in_a_hurry(self) -> Path:
        """A copy of the pipeline that reads its source every second."""
        definition = yaml.safe_load(self.pipeline_file.read_text(encoding="utf-8"))
        folder = self.home / "pipelines"
        folder.mkdir()
        copy = folder / self.pipeline_file.name
        copy.write_text(yaml.safe_dump(definition | {"schedule": "every 1s"}), encoding="utf-8")
        return folder


class Player:
    """Turns the feed's clock on when the hour before has gone all the way round the loop."""

    def __init__(
        self,
        system: System,
        resources: Resources,
        view: LiveView,
        journal: Journal,
        pipeline: str,
    ) -> None:
        self._system = system
        self._resources = resources
        self._store = resources.store
        self._view = view
        self._pipeline = pipeline
        self._journal = journal
        self._feed = httpx.Client(base_url=system.feed_url or "", timeout=10)
        self._advanced_at = datetime.now(UTC)
        self._sequence = 0

    def play(self) -> None:
        """Play all hours."""
        self._play_hour()
        while not self._feed.get("/clock").raise_for_status().json()["last"]:
            self._feed.post("/clock/advance").raise_for_status()
            self._advanced_at = datetime.now(UTC)
            self._play_hour()

    def _play_hour(self) -> None:
        batch = self._wait(self._reading, f"batch {self._sequence + 1}")
        if batch.sequence:
            self._sequence = batch.sequence
            self._wait(partial(self._is_round, batch), f"what follows from batch {batch.sequence}")

    def _reading(self) -> Batch | None:
        """The next batch; or the last of several readings of the hour that found nothing new."""
        query: dict[str, Any] = {"pipeline": self._pipeline}
        for batch in self._store.find(Batch, query | {"sequence": self._sequence + 1}):
            return batch
        since = {"outcome": "nothing new", "recorded_at": {"$gt": self._advanced_at}}
        without_news = list(self._store.find(Batch, query | since))
        return without_news[-1] if len(without_news) > _READINGS_WITHOUT_NEWS else None

    def _is_round(self, batch: Batch) -> bool:
        return not any(
            self._store.first_unsettled(stage, event, frozenset(STAGES))
            for event in self._store.events_of(batch)
            for stage in ROUTES[event.type]
        )

    def _wait(self, found: Callable[[], T | None], what: str) -> T:
        deadline = time.monotonic() + _HOUR_SECONDS
        while time.monotonic() < deadline:
            result = found()
            self._show()
            if result:
                return result
            self._system.require_running()
            time.sleep(_POLL_SECONDS)
        raise DemoFailed(
            f"waited {_HOUR_SECONDS:.0f} s for {what}; see {self._system.home / 'logs'}"
        )

    def _show(self) -> None:
        for record in self._journal.new_records():
            if said := line(record):
                self._view.say(said)
            if isinstance(record, DeadLetter):
                raise DemoFailed(f"{record.stage} gave up on {record.kind}: {record.reason}")
        self._view.going_on(activities(self._resources.work.all()))


def make_fresh(home: Path) -> None:
    """An empty folder for a demo; one that an earlier demo left is cleared.

    Raises:
        DemoFailed: the folder holds something that no demo put there, or a system runs in it.
    """
    if is_running(home):
        raise DemoFailed(
            f"a system runs in {home}; stop it with `trimtab down --home {quote(str(home))}`, or "
            "give another folder with --home"
        )
    if home.exists() and any(home.iterdir()):
        if not (home / _MARKER).exists():
            raise DemoFailed(f"{home} holds files that are not a demo's; give another with --home")
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / _MARKER).touch()


def write_reports(resources: Resources, folder: Path) -> None:
    """Write every drift report as a page and as JSON; of a batch not compared, its record."""
    folder.mkdir(exist_ok=True)
    for check in resources.store.find(DriftReport, {}):
        file = folder / f"batch-{check.sequence}.json"
        if check.details is None:
            write(json.dumps(check.model_dump(mode="json"), indent=2) + "\n", file)
            continue
        write(json_text(resources.store, check), file)
        write(page(resources.store, check), file.with_suffix(".html"))
