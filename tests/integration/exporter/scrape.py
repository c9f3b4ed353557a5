"""The exporter as a process, and what it serves, read by Prometheus' own parser."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from services.cli.embedded.process import Process, free_port, wait_until_listening
from tests.monitoring.queries import DEPLOY

COMMAND = ("-m", "services.exporter")
ROOT = DEPLOY.parent


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of a series; none if it is not served."""
        return self._values.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        return {name for name, _ in self._values}

    def of(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """The series of a metric."""
        return {labels: value for (each, labels), value in self._values.items() if each == name}


class Exporter:
    """A running exporter."""

    def __init__(self, address: str, process: Process) -> None:
        self.address = address
        self.process = process

    def scrape(self) -> Scrape:
        answer = httpx.get(f"{self.address}/metrics", timeout=20)
        return Scrape(answer.raise_for_status().text)

    def health(self) -> tuple[int, str]:
        answer = httpx.get(f"{self.address}/healthz", timeout=20)
        return answer.status_code, answer.text.strip()


def environment(redis_url: str, mongodb_uri: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return kept | {"REDIS_URL": redis_url, "MONGODB_URI": mongodb_uri} | more


@contextmanager
def exporting(settings: dict[str, str], folder: Path) -> Iterator[Exporter]:
    """An exporter with the settings, on a free port."""
    port = free_port()
    process = Process(
        "exporter",
        [sys.executable, *COMMAND],
        folder / "exporter.log",
        settings | {"EXPORTER_PORT": str(port), "PYTHONPATH": str(ROOT)},
    )
    process.start()
    try:
        wait_until_listening(process, port)
        yield Exporter(f"http://127.0.0.1:{port}", process)
    finally:
        process.stop()
