"""The cores that a fit gets inside a worker, where joblib falls back to one in silence."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from celery import Celery

from services.cli.embedded.servers import Valkey

ROOT = Path(__file__).parents[3]
PROBE = "tests.integration.trainer.prefork_probe"


@pytest.fixture(scope="module")
def worker(valkey: Valkey) -> Iterator[Celery]:
    """A prefork worker with the probe."""
    command = [sys.executable, "-m", "celery", "-A", PROBE, "worker", "-P", "prefork", "-c", "1"]
    environment = os.environ | {"REDIS_URL": valkey.url}
    with subprocess.Popen(
        [*command, "-l", "warning"], cwd=ROOT, env=environment, start_new_session=True
    ) as process:
        yield Celery("probe", broker=valkey.url)
        process.terminate()


def asked(worker: Celery, answer: Path, cores: int | None) -> dict[str, object]:
    worker.send_task("probe", [str(answer), cores])
    until = time.monotonic() + 60
    while not answer.exists():
        assert time.monotonic() < until, "the worker has not answered"
        time.sleep(0.1)
    found: dict[str, object] = json.loads(answer.read_text())
    return found


def test_fit_in_a_prefork_child_has_all_cores(worker: Celery, tmp_path: Path) -> None:
    found = asked(worker, tmp_path / "all.json", None)
    assert found["jobs"] == joblib.cpu_count()
    assert found["openmp"] == [joblib.cpu_count()] * len(found["openmp"])  # type: ignore[arg-type]


def test_threads_do_it_and_no_further_processes(worker: Celery, tmp_path: Path) -> None:
    assert asked(worker, tmp_path / "threads.json", None)["processes"] == 1


def test_fit_has_the_cores_that_were_set(worker: Celery, tmp_path: Path) -> None:
    found = asked(worker, tmp_path / "three.json", 3)
    assert found["jobs"] == 3
    assert found["openmp"] == [3] * len(found["openmp"])  # type: ignore[arg-type]
