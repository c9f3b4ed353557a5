"""A fit in the trainer's worker against the same fit in a script: `python -m benchmarks.training`.

The script is this process, with scikit-learn alone and `n_jobs=-1`. The worker is a Celery prefork
worker, started and set up as the trainer's is, which fits as the trainer does. Both fit the same
rows in turn and have to come to the same bytes; who begins changes from round to round.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import joblib
import numpy as np
import pandas as pd
import yaml
from sklearn.pipeline import Pipeline as Steps

from benchmarks.drift.tables import SEGMENT, Shape, write
from services.cli.embedded.process import Process
from services.cli.embedded.servers import Valkey
from services.cli.embedded.system import worker_command
from services.trainer.artifact import dump_model
from services.trainer.challenger import Recipe, fit_model
from services.trainer.estimators import build_model, input_columns
from shared.artifacts import sha256
from shared.celery_app import app, celery_app
from shared.pipeline import Pipeline, load_pipeline
from shared.settings import read_settings, settings
from shared.training import Window

SHAPE: Final = Shape()
ROWS: Final = 20_000
PARAMETERS: Final = {
    "random_forest": {"n_estimators": 100, "min_samples_leaf": 5},
    "extra_trees": {"n_estimators": 200, "min_samples_leaf": 5},
    "hist_gradient_boosting": {"max_iter": 300},
}
"""Estimator -> what makes its fit take some seconds."""
TASK: Final = "benchmarks.training.fit_in_worker"
LONGEST_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Fit:
    """What a fit took, and the hash of what came of it."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all threads."""
    sha256: str


def fit_in_script(folder: Path, estimator: str) -> Fit:
    """As a script would: scikit-learn, told to use all cores."""
    pipeline, rows = _prepared(folder, estimator)
    target = rows[pipeline.training.target].to_numpy()

    def fit() -> Steps:
        model = build_model(pipeline)
        spread = "n_jobs" in model[-1].get_params()
        model.set_params(**({"estimator__n_jobs": -1} if spread else {}))
        model.fit(rows[input_columns(pipeline)], target)
        return model.set_params(**({"estimator__n_jobs": None} if spread else {}))

    return _timed(fit)


@app.task(name=TASK)
def fit_in_worker(folder: str, estimator: str, answer: str) -> None:
    """As the trainer does."""
    pipeline, rows = _prepared(Path(folder), estimator)
    recipe = Recipe(
        window=Window(policy="all"), time_parts=(), parameters=pipeline.training.parameters
    )
    found = _timed(lambda: fit_model(rows, recipe, pipeline, settings()).model)
    unfinished = Path(f"{answer}.part")
    unfinished.write_text(json.dumps(asdict(found)), encoding="utf-8")
    unfinished.rename(answer)


def _prepared(folder: Path, estimator: str) -> tuple[Pipeline, pd.DataFrame]:
    return load_pipeline(folder / f"{estimator}.yaml"), pd.read_parquet(folder / "rows.parquet")


def _timed(fit: Callable[[], Steps]) -> Fit:
    wall, cpu = time.perf_counter(), time.process_time()
    model = fit()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Fit(wall, cpu, sha256(dump_model(model)))


def _write_pipeline(folder: Path, estimator: str) -> None:
    numbers = [f"x{column}" for column in range(SHAPE.numbers)]
    categories = [SEGMENT, *(f"c{column}" for column in range(len(SHAPE.other_categories)))]
    definition = {
        "name": estimator,
        "source": {"kind": "manual"},
        "schema": {
            "columns": {name: {"type": "number"} for name in numbers}
            | {name: {"type": "category"} for name in categories}
        },
        "training": {
            "target": numbers[0],
            "task": "regression",
            "features": [*numbers[1:], *categories],
            "estimator": estimator,
            "parameters": PARAMETERS[estimator],
        },
    }
    (folder / f"{estimator}.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")


@contextmanager
def _worker(folder: Path) -> Iterator[Callable[[str], Fit]]:
    """The worker; what is yielded has it fit an estimator."""
    broker = Valkey(folder / "valkey")
    worker: Process | None = None
    try:
        broker.start()
        addresses = {"REDIS_URL": broker.url, "MONGODB_URI": "mongodb://unused"}
        command = [
            "benchmarks.training" if part == "services.trainer.tasks" else part
            for part in worker_command("trainer")
        ]
        worker = Process("worker", command, folder / "worker.log", os.environ | addresses)
        worker.start()
        current = read_settings(**{name.lower(): value for name, value in addresses.items()})
        client, running = celery_app(lambda: current), worker

        def fit(estimator: str) -> Fit:
            answer = folder / "answer.json"
            client.send_task(TASK, [str(folder), estimator, str(answer)], queue="trainer")
            return Fit(**json.loads(_text(answer, running)))

        yield fit
    finally:
        for process in (worker, broker.process):
            if process:
                process.stop()


def _text(answer: Path, worker: Process) -> str:
    until = time.monotonic() + LONGEST_SECONDS
    while not answer.exists():
        worker.require_running()
        if time.monotonic() > until:
            raise SystemExit(f"no answer after {LONGEST_SECONDS:.0f} s; {worker.last_words()}")
        time.sleep(0.02)
    text = answer.read_text(encoding="utf-8")
    answer.unlink()
    return text


def measure(rows: int, rounds: int, folder: Path) -> dict[str, list[tuple[Fit, Fit]]]:
    """Estimator -> the fits of each round, the script's and the worker's."""
    write(folder / "rows.parquet", rows, 1, SHAPE)
    found: dict[str, list[tuple[Fit, Fit]]] = {}
    with _worker(folder) as in_worker:
        for estimator in PARAMETERS:
            _write_pipeline(folder, estimator)
            ways = (lambda each: fit_in_script(folder, each), in_worker)
            fits = []
            for number in range(rounds + 1):
                turn = number % 2
                first, second = ways[turn](estimator), ways[1 - turn](estimator)
                fits.append((second, first) if turn else (first, second))
            found[estimator] = fits[1:]  # the first round warms both up
            if len({each.sha256 for pair in fits for each in pair}) != 1:
                raise AssertionError(f"{estimator}: the fits came to different models")
    return found


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
        found = measure(arguments.rows, arguments.rounds, Path(folder))
    _line(f"{arguments.rows:,} rows, {arguments.rounds} rounds, {joblib.cpu_count()} cores\n")
    _line("| estimator | script, s | worker, s | worker ÷ script | cores, script | cores, worker |")
    _line("| --- | ---: | ---: | ---: | ---: | ---: |")
    for estimator, fits in found.items():
        script, worker = zip(*fits, strict=True)
        ratios = [there.wall / here.wall for here, there in fits]
        cells = [
            *(_spread([each.wall for each in way], 2) for way in (script, worker)),
            _spread(ratios, 3),
            *(
                f"{np.median([each.cpu / each.wall for each in way]):.2f}"
                for way in (script, worker)
            ),
        ]
        _line(f"| {estimator} | {' | '.join(cells)} |")


def _spread(values: list[float], digits: int) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f}–{most:.{digits}f})"


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
