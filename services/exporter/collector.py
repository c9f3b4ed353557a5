"""What is served at a scrape: the store's figures and the broker's, each if it answers."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import pymongo
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from pymongo.errors import OperationFailure

from services.exporter import metrics
from services.exporter.failures import Refused
from services.exporter.metrics import UNKNOWN, Samples, Values, exposed
from services.exporter.pipelines import PipelineFigures
from services.exporter.reading import ANSWER_SECONDS, Reading, Source
from services.exporter.totals import Totals
from shared.events import STAGES, Stage
from shared.refusals import refusal
from shared.stage import Resources
from shared.status import (
    Waiting,
    count_foreign,
    count_open_letters,
    parts,
    queued,
    under_way,
    unfinished,
    unsent,
)
from shared.work import WorkState

_GIVEN_UP_SECONDS: Final = 60.0
"""A question to the store ends after this, if the connection is as good as dead."""

_STATES: Final[dict[WorkState, str]] = {
    "leases": "in_hand",
    "waiting": "waiting",
    "later": "later_try",
    "left": "left",
}


class SystemCollector(Collector):
    """Asks the store and the broker when it is scraped, both at once."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._totals = Totals(resources.store, tuple(resources.pipelines), datetime.now(UTC))
        self._pipelines = PipelineFigures(resources.store, resources.pipelines)
        self._counted = self._totals.counted()
        self._sources = (Source("store", self._ask_store), Source("broker", self._ask_broker))

    def collect(self) -> Iterator[Metric]:
        """Every family of which there is something to say."""
        readings = self.read()
        samples: Samples = dict(self._counted)
        samples[metrics.SOURCE_UP] = {
            (name,): float(reading.failure is None) for name, reading in readings.items()
        }
        samples[metrics.SOURCE_SECONDS] = {
            (name,): reading.seconds for name, reading in readings.items()
        }
        ages: list[Values] = []
        for reading in readings.values():
            ages.append(reading.samples.get(metrics.QUEUE_AGE, {}))
            samples |= reading.samples
        if any(ages):
            samples[metrics.QUEUE_AGE] = _largest(ages)
        return exposed(samples)

    def read(self) -> dict[str, Reading]:
        """What each source says now; it takes `ANSWER_SECONDS` at most."""
        deadline = time.monotonic() + ANSWER_SECONDS
        questions = [(source, source.begin()) for source in self._sources]
        return {source.name: source.answer(asked, deadline) for source, asked in questions}

    def _ask_store(self) -> Samples:
        try:
            return self._figures_of_store()
        except OperationFailure as error:
            if refused := refusal(error, self._resources.settings):
                raise Refused(refused) from None
            raise

    def _figures_of_store(self) -> Samples:
        resources = self._resources
        with pymongo.timeout(_GIVEN_UP_SECONDS):
            waiting, unreadable = unfinished(resources)
            figures = self._pipelines.read() | {
                metrics.OPEN_LETTERS: self._open_letters(),
                metrics.FOREIGN: {
                    (kind.removeprefix("foreign "),): count
                    for kind, count in count_foreign(resources.store).items()
                },
                metrics.UNFINISHED: {(stage,): each.number for stage, each in waiting.items()},
                metrics.QUEUE_AGE: _ages(waiting),
                metrics.UNDER_WAY: {
                    (_STATES[state],): count for state, count in under_way(resources.work).items()
                },
                metrics.UNSENT: {(): unsent(resources.store).number},
                metrics.UNREADABLE_EVENTS: {(): unreadable},
            }
            self._counted = self._totals.look()
            return figures

    def _open_letters(self) -> Values:
        pipelines = self._resources.pipelines
        values: Values = {(name, stage): 0.0 for name in pipelines for stage in STAGES}
        for (name, stage), count in count_open_letters(self._resources.store).items():
            labels = (
                name if name in pipelines else UNKNOWN,
                stage if stage in STAGES else UNKNOWN,
            )
            values[labels] = values.get(labels, 0.0) + count
        return values

    def _ask_broker(self) -> Samples:
        broker, settings = self._resources.broker, self._resources.settings
        waiting = queued(broker)
        found = parts(broker, settings.sweep_seconds)
        return {
            metrics.QUEUE: {(stage,): each.number for stage, each in waiting.items()},
            metrics.QUEUE_AGE: _ages(waiting),
            metrics.ALIVE: {(name,): float(part.alive) for name, part in found.items()},
            metrics.LAST_SEEN: {
                (name,): part.last_seen.timestamp()
                for name, part in found.items()
                if part.last_seen
            },
        }


def _ages(waiting: dict[Stage, Waiting]) -> Values:
    now = datetime.now(UTC)
    return {
        (stage,): max((now - each.oldest).total_seconds(), 0.0) if each.oldest else 0.0
        for stage, each in waiting.items()
    }


def _largest(found: list[Values]) -> Values:
    return {
        labels: max(values.get(labels, 0.0) for values in found)
        for labels in dict.fromkeys(labels for values in found for labels in values)
    }
