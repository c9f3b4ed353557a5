"""A fit in the trainer's worker against the same fit in a script: `python -m benchmarks.training`.

The script is this process, with scikit-learn alone and `n_jobs=-1`. The worker is a Celery prefork
worker, started and set up as the trainer's is, which fits as the trainer does. Both fit the same
rows in turn and have to predict the same; who begins changes from round to round.
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
from typing import TYPE_CHECKING, Final

import joblib
import numpy as np
import pandas as pd
import yaml

from benchmarks.drift.tables import SEGMENT, Shape, write
from services.cli.embedded.process import Process
from services.cli.embedded.servers import Valkey
from services.cli.embedded.system import worker_command
from services.trainer.challenger import Recipe, fit_model
from services.trainer.estimators import build_model, input_columns
from shared.artifacts import sha256
from shared.celery_app import app, celery_app
from shared.pipeline import Pipeline, load_pipeline
from shared.settings import read_settings, settings
from shared.training import Window

if TYPE_CHECKING:  # it has to be loaded after `services`, as in the worker
    from sklearn.pipeline import Pipeline as Steps

SHAPE: Final = Shape()
ROWS: Final = 20_000
PARAMETERS: Final = {
    "random_forest": {"n_estimators": 100, "min_samples_leaf": 5},
    "extra_trees": {"n_estimators": 200, "min_samples_leaf": 5},
    "hist_gradient_boosting": {"max_iter": 1000},
}
"""Estimator -> what makes its fit take some seconds."""
TASK: Final = "benchmarks.training.fit_in_worker"
LONGEST_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Fit:
    """What a fit took, and the hash of what its model predicts for the same rows."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all threads."""
    predictions: str


def fit_in_script(folder: Path, estimator: str) -> Fit:
    """As a script would: scikit-learn, told to use all cores."""
    pipeline, rows = _prepared(folder, estimator)
    target = rows[pipeline.training.target].to_numpy()

    def fit() -> "Steps":
        model = build_model(pipeline)
        if "n_jobs" in model[-1].get_params():
            model.set_params(estimator__n_jobs=-1)
        return model.fit(rows[input_columns(pipeline)], target)

    return _timed(fit, rows)


@app.task(name=TASK)
def fit_in_worker(folder: str, estimator: str, answer: str) -> None:
    """As the trainer does."""
    pipeline, rows = _prepared(Path(folder), estimator)
    recipe = Recipe(
        window=Window(policy="all"), time_parts=(), parameters=pipeline.training.parameters
    )
    found = _timed(lambda: fit_model(rows, recipe, pipeline, settings()).model, rows)
    unfinished = Path(f"{answer}.part")
    unfinished.write_text(json.dumps(asdict(found)), encoding="utf-8")
    unfinished.rename(answer)


def _prepared(folder: Path, estimator: str) -> tuple[Pipeline, pd.DataFrame]:
    return load_pipeline(folder / f"{estimator}.yaml"), pd.read_parquet(folder / "rows.parquet")


def _timed(fit: Callable[[], "Steps"], rows: pd.DataFrame) -> Fit:
    wall, cpu = time.perf_counter(), time.process_time()
    model = fit()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # Threads add the trees' predictions up in any order, which shows in the last digits.
    return Fit(wall, cpu, sha256(model.predict(rows).round(6).tobytes()))


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
    broker = Valkey(folder / "valkey", "drift_detection:")
    worker: Process | None = None
    try:
        broker.start()
        addresses = {
            "REDIS_URL": broker.url,
            "MONGODB_URI": "mongodb://unused",
            "EVENT_KEY": "a key of this benchmark alone",
        }
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


def measure(rows: int, rounds: int, folder: Path) -> Iterator[tuple[str, list[tuple[Fit, Fit]]]]:
    """Each estimator, and the fits of each round: the script's and the worker's."""
    write(folder / "rows.parquet", rows, 1, SHAPE)
    with _worker(folder) as in_worker:
        ways = (lambda each: fit_in_script(folder, each), in_worker)
        for estimator in PARAMETERS:
            _write_pipeline(folder, estimator)
            fits = []
            for number in range(rounds + 1):
                turn = number % 2
                first, second = ways[turn](estimator), ways[1 - turn](estimator)
                fits.append((second, first) if turn else (first, second))
            if len({each.predictions for pair in fits for each in pair}) != 1:
                raise AssertionError(f"{estimator}: the fits came to different models")
            yield estimator, fits[1:]  # the first round warms both up


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    _line(f"{arguments.rows:,} rows, {arguments.rounds} rounds, {joblib.cpu_count()} cores\n")
    _line("| estimator | script, s | worker, s | worker ÷ script | cores, script | cores, worker |")
    _line("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
        for estimator, fits in measure(arguments.rows, arguments.rounds, Path(folder)):
            _line(_row(estimator, fits))


def _row(estimator: str, fits: list[tuple[Fit, Fit]]) -> str:
    script, worker = zip(*fits, strict=True)
    ratios = [there.wall / here.wall for here, there in fits]
    cells = (
        *(_spread([each.wall for each in way], 2) for way in (script, worker)),
        _spread(ratios, 3),
        *(f"{np.median([each.cpu / each.wall for each in way]):.2f}" for way in (script, worker)),
    )
    return f"| {estimator} | {' | '.join(cells)} |"


def _spread(values: list[float], digits: int) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f}–{most:.{digits}f})"


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
