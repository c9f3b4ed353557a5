"""The model outside of this process: the same bytes elsewhere, and of use without this code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from services.trainer.artifact import dump_model
from shared.artifacts import sha256
from shared.frames import to_parquet
from shared.pipeline import Pipeline
from tests.air_quality_rows import (
    RECORDED,
    batch_rows,
    fitted,
    raw_rows,
    recorded_rows,
    with_training,
)
from tests.conftest import AIR_QUALITY

ROOT = Path(__file__).parents[3]


def run(script: str, *arguments: object, isolated: bool = False, **environment: str) -> object:
    """What a script prints as JSON in a Python process of its own."""
    command = [sys.executable, *(["-I"] if isolated else []), "-c", script, *map(str, arguments)]
    finished = subprocess.run(
        command,
        cwd="/" if isolated else ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


FIT = """
import json, sys
from pathlib import Path
from services.trainer.artifact import dump_model
from shared.artifacts import sha256
from shared.frames import from_parquet
from shared.pipeline import load_pipeline
from shared.training import Training
from tests.air_quality_rows import fitted

pipeline = load_pipeline(Path(sys.argv[1]))
rows = from_parquet(Path(sys.argv[2]).read_bytes())
digests = []
for keys in sys.argv[3:]:
    changed = pipeline.model_copy(update={"training": Training.model_validate_json(keys)})
    digests.append(sha256(dump_model(fitted(rows, changed))))
print(json.dumps(digests))
"""


def test_the_same_rows_give_the_same_bytes_in_every_process(
    air_quality: Pipeline, tmp_path: Path
) -> None:
    regression = with_training(air_quality, parameters={"n_estimators": 8})
    classification = with_training(
        regression, task="classification", target="pollutant_id", features=["pollutant_max"]
    )
    pipelines = (regression, classification)
    rows = batch_rows(raw_rows(20), air_quality).dropna()
    window = tmp_path / "window.parquet"
    window.write_bytes(to_parquet(rows))
    here = [sha256(dump_model(fitted(rows, pipeline))) for pipeline in pipelines]
    keys = [pipeline.training.model_dump_json() for pipeline in pipelines]
    for seed, cores in (("1", "1"), ("2", "2")):
        environment = {"PYTHONHASHSEED": seed, "LOKY_MAX_CPU_COUNT": cores}
        assert run(FIT, AIR_QUALITY, window, *keys, **environment) == here


LOAD_AND_FIT = f"""
import joblib, sys
joblib.load(sys.argv.pop())
{FIT}
"""


def test_the_bytes_do_not_depend_on_what_the_process_has_loaded(
    air_quality: Pipeline, tmp_path: Path
) -> None:
    """A loaded object that is the first of its class leaves its attributes' names there."""
    pipeline = with_training(air_quality, parameters={"n_estimators": 3})
    rows = batch_rows(raw_rows(20), pipeline).dropna()
    window, model = tmp_path / "window.parquet", tmp_path / "model.joblib"
    window.write_bytes(to_parquet(rows))
    model.write_bytes(dump_model(fitted(rows, pipeline)))
    keys = pipeline.training.model_dump_json()
    untouched = run(FIT, AIR_QUALITY, window, keys)
    assert run(LOAD_AND_FIT, AIR_QUALITY, window, keys, model) == untouched


PREDICT = """
import importlib.util, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"services", "shared", "tests"}:
            raise ImportError(f"the model asks for {name}")

sys.meta_path.insert(0, Refuse())
import joblib, pandas

model = joblib.load(sys.argv[1])
rows = pandas.read_csv(sys.argv[2])
print(json.dumps(model.predict(rows).tolist()))
"""


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(lambda: raw_rows(20), id="simulated"),
        pytest.param(
            lambda: pd.concat([recorded_rows(0), recorded_rows(5)]),
            id="recorded",
            marks=pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded answers here"),
        ),
    ],
)
def test_the_model_predicts_published_rows_where_this_code_is_not(
    raw: object, air_quality: Pipeline, tmp_path: Path
) -> None:
    assert callable(raw)
    published = raw()
    rows = batch_rows(published, air_quality)
    assert len(rows) == len(published)
    quick = with_training(air_quality, parameters={"n_estimators": 8})
    model = fitted(rows[rows["pollutant_avg"].notna()], quick)
    (tmp_path / "model.joblib").write_bytes(dump_model(model))
    published.to_csv(tmp_path / "rows.csv", index=False)
    there = run(PREDICT, tmp_path / "model.joblib", tmp_path / "rows.csv", isolated=True)
    np.testing.assert_array_equal(there, model.predict(rows))


THREADS = """
import billiard, json, multiprocessing, sys, threading
from pathlib import Path
import joblib
from sklearn.ensemble import _forest
from shared.frames import from_parquet
from shared.pipeline import load_pipeline
from tests.air_quality_rows import fitted

threads, build = set(), _forest._parallel_build_trees

def noting_thread(*arguments, **keywords):
    threads.add(threading.get_ident())
    return build(*arguments, **keywords)

def train(answers):
    _forest._parallel_build_trees = noting_thread
    rows = from_parquet(Path(sys.argv[2]).read_bytes())
    fitted(rows, load_pipeline(Path(sys.argv[1])))
    answers.put(len(threads))

def threads_in_child(processes):
    answers = processes.Queue()
    child = processes.Process(target=train, args=(answers,), daemon=True)
    child.start()
    found = answers.get(timeout=20)
    child.join()
    return found

used = [threads_in_child(processes) for processes in (billiard, multiprocessing)]
print(json.dumps([used, joblib.cpu_count()]))
"""


def test_a_pools_daemonic_child_trains_on_more_cores_than_one(
    air_quality: Pipeline, tmp_path: Path
) -> None:
    window = tmp_path / "window.parquet"
    window.write_bytes(to_parquet(batch_rows(raw_rows(20), air_quality).dropna()))
    used, cores = run(THREADS, AIR_QUALITY, window)  # type: ignore[misc]
    assert all(threads > 1 for threads in used) or cores == 1
