"""A Celery application whose one task fits in a prefork child and says what it was given there."""

import json
import os
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from celery import Celery
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import Pipeline as Steps
from threadpoolctl import threadpool_info

from services.trainer.fitting import fit
from shared.settings import read_settings

app = Celery("probe", broker=os.environ["REDIS_URL"])
app.conf.task_ignore_result = True


class Probe(RegressorMixin, BaseEstimator):
    """Notes what runs in parallel at the moment of its fit."""

    def fit(self, rows: np.ndarray, target: np.ndarray) -> "Probe":  # noqa: ARG002
        with joblib.Parallel(prefer="threads") as parallel:
            threads = parallel(joblib.delayed(os.getpid)() for _ in range(4))
        self.found_ = {
            "jobs": joblib.effective_n_jobs(None),
            "processes": len(set(threads)),
            "openmp": [
                pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"
            ],
        }
        return self


@app.task(name="probe")
def probe(answer: str, cores: int | None) -> None:
    """Fit, and write down what was found."""
    settings = read_settings(
        redis_url=os.environ["REDIS_URL"], mongodb_uri="mongodb://unused", trainer_cores=cores
    )
    model = Steps([("features", "passthrough"), ("estimator", Probe())])
    fit(model, pd.DataFrame({"x": [1.0, 2.0]}), np.array([1.0, 2.0]), None, settings)
    partial = Path(f"{answer}.part")
    partial.write_text(json.dumps(model.named_steps["estimator"].found_))
    partial.rename(answer)
