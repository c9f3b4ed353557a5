"""Whether a model's bytes load, and predict the same, in a process that has none of this code."""

import io
import os
import subprocess
import sys
from typing import Final

import numpy as np
import pandas as pd

from shared.frames import to_parquet
from shared.scoring import Predicted
from shared.training import Training

_ROWS: Final = 200
_SECONDS: Final = 120
_LONGEST_REASON: Final = 300
_SCRIPT: Final = """
import io, os, sys
sys.modules["services"] = sys.modules["shared"] = None
standard_output = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
model_bytes = int(sys.stdin.buffer.readline())
import joblib, numpy, pandas
model = joblib.load(io.BytesIO(sys.stdin.buffer.read(model_bytes)))
rows = pandas.read_parquet(io.BytesIO(sys.stdin.buffer.read()))
predicted = io.BytesIO()
numpy.save(predicted, getattr(model, sys.argv[1])(rows), allow_pickle=False)
standard_output.write(predicted.getvalue())
"""
"""All goes through pipes: a trainer that is killed in between leaves no files behind."""


def why_not_usable(
    data: bytes, rows: pd.DataFrame, predicted: Predicted, training: Training
) -> str | None:
    """Why the bytes cannot be used elsewhere; None: they predict the same.

    Args:
        rows: rows that were predicted, of which some are predicted again.
        predicted: what the model that was dumped says of them.
    """
    method = "predict" if training.task == "regression" else "predict_proba"
    given = b"%d\n%b%b" % (len(data), data, to_parquet(rows.head(_ROWS)))
    try:
        run = subprocess.run(
            [sys.executable, "-I", "-W", "ignore", "-c", _SCRIPT, method],
            input=given,
            cwd="/",
            env={"PATH": os.environ.get("PATH", "")},  # and none of this process's secrets
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it has not predicted {_ROWS} rows within {_SECONDS} s"
    if run.returncode:
        last_words = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return last_words[:_LONGEST_REASON] or "it ended early"
    found = np.load(io.BytesIO(run.stdout), allow_pickle=False)
    expected = np.asarray(predicted)[:_ROWS]
    if found.shape == expected.shape and np.allclose(found, expected, rtol=1e-9, atol=1e-12):
        return None
    return "it predicts otherwise than in the process that trained it"
