"""Every estimator gives the same bytes for the same fit, whatever the process and its cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from services.trainer.estimators import ESTIMATORS
from shared.frames import to_parquet
from shared.pipeline import Pipeline
from tests.air_quality_rows import batch_rows, raw_rows, with_training
from tests.conftest import AIR_QUALITY

ROOT = Path(__file__).parents[3]
SMALL = {
    "random_forest": {"n_estimators": 4},
    "extra_trees": {"n_estimators": 4},
    "hist_gradient_boosting": {"max_iter": 10},
}

FIT = """
import json, sys
from pathlib import Path
from services.trainer.artifact import dump_model
from services.trainer.estimators import build_model, input_columns
from services.trainer.fitting import fit
from shared.artifacts import sha256
from shared.frames import from_parquet
from shared.pipeline import load_pipeline
from shared.settings import read_settings
from shared.training import Training

pipeline = load_pipeline(Path(sys.argv[1]))
rows = from_parquet(Path(sys.argv[2]).read_bytes())
settings = read_settings(redis_url="redis://nowhere", mongodb_uri="mongodb://nowhere")
digests = []
for keys in sys.argv[3:]:
    changed = pipeline.model_copy(update={"training": Training.model_validate_json(keys)})
    allowed = (changed.training.estimator,)
    model = build_model(changed, allowed)
    target = rows[changed.training.target].to_numpy()
    fit(model, rows[input_columns(changed)], target, None, settings)
    digests.append(sha256(dump_model(model)))
print(json.dumps(digests))
"""


def digests(window: Path, pipelines: list[Pipeline], cores: int) -> list[str]:
    """Of the models that a process of its own makes, one a pipeline."""
    keys = [pipeline.training.model_dump_json() for pipeline in pipelines]
    numbers = ("PYTHONHASHSEED", "TRAINER_CORES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    finished = subprocess.run(
        [sys.executable, "-c", FIT, str(AIR_QUALITY), str(window), *keys],
        cwd=ROOT,
        env=os.environ | dict.fromkeys(numbers, str(cores)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found: list[str] = json.loads(finished.stdout)
    return found


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_same_rows_give_the_same_bytes_in_every_process(
    task: str, air_quality: Pipeline, tmp_path: Path
) -> None:
    other = {"task": task, "metric": None, "target": "state", "features": ["longitude", "city"]}
    of = {"Shares": "classification", "Constant": "regression"}
    names = [name for name, tasks in ESTIMATORS.items() if task in tasks]
    names += [f"tests.third_party_estimators.{name}" for name in of if of[name] == task]
    pipelines = [
        with_training(
            air_quality,
            estimator=name,
            parameters=SMALL.get(name, {}),
            **(other if task == "classification" else {}),
        )
        for name in names
    ]
    window = tmp_path / "window.parquet"
    # Long enough for the linear algebra to be spread over cores, where it is allowed to be.
    raw = pd.concat([raw_rows(130, hour=f"2026-01-05 {hour:02}:00") for hour in range(20)])
    window.write_bytes(to_parquet(batch_rows(raw, air_quality).dropna()))
    one, two = (
        dict(zip(names, digests(window, pipelines, cores), strict=True)) for cores in (1, 2)
    )
    assert one == two
    assert len(set(one.values())) == len(names) >= 5
