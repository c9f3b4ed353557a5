"""Whether a model's bytes load, and predict the same, in a process that has none of this code."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd

from shared.scoring import Predicted
from shared.training import Training

_ROWS: Final = 200
_SECONDS: Final = 120
_LONGEST_REASON: Final = 300
_SCRIPT: Final = """
import sys
sys.modules["services"] = sys.modules["shared"] = None
import joblib, numpy, pandas
model = joblib.load("model.joblib")
rows = pandas.read_parquet("rows.parquet")
numpy.save("predicted.npy", getattr(model, sys.argv[1])(rows), allow_pickle=False)
"""


def why_not_usable(
    data: bytes, rows: pd.DataFrame, predicted: Predicted, training: Training
) -> str | None:
    """Why the bytes cannot be used elsewhere; None: they predict the same.

    Args:
        rows: rows that were predicted, of which some are predicted again.
        predicted: what the model that was dumped says of them.
    """
    method = "predict" if training.task == "regression" else "predict_proba"
    with TemporaryDirectory(prefix="trimtab-") as name:
        folder = Path(name)
        (folder / "model.joblib").write_bytes(data)
        rows.head(_ROWS).to_parquet(folder / "rows.parquet")
        try:
            run = subprocess.run(
                [sys.executable, "-I", "-W", "ignore", "-c", _SCRIPT, method],
                cwd=folder,
                env={"PATH": os.environ.get("PATH", "")},  # and none of this process's secrets
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it has not predicted {_ROWS} rows within {_SECONDS} s"
        if run.returncode:
            return run.stderr.strip().rpartition("\n")[2][:_LONGEST_REASON] or "it ended early"
        found = np.load(folder / "predicted.npy", allow_pickle=False)
    expected = np.asarray(predicted)[:_ROWS]
    if found.shape == expected.shape and np.allclose(found, expected, rtol=1e-9, atol=1e-12):
        return None
    return "it predicts otherwise than in the process that trained it"
