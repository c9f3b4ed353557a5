"""How wrong a model is, row by row: the contract between who trains models and who watches them.

The trainer judges a challenger by these losses, and the drift stage asks by the same ones whether
the champion has become worse since.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from pickle import UnpicklingError
from typing import Any, Final

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import SecretStr
from sklearn.pipeline import Pipeline as Steps

from shared.artifacts import verify
from shared.prediction import ask
from shared.records import ModelVersion
from shared.training import Metric, Training

Floats = NDArray[np.float64]

LEAST_PROBABILITY: Final = float(np.finfo(np.float64).eps)
"""What a class that the model does not know counts as, so that its loss is large and finite."""

_ROUNDING: Final = 1e-12
"""A prediction that differs from its target by a smaller share is exact: so does a mean of equal
numbers."""
_SINGLE_PRECISION: Final = 2.0**-22
"""Four units in the last place of a 32-bit float, which some estimators calculate with."""

CANNOT_PREDICT: Final = (
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    TypeError,
    UnpicklingError,
    ValueError,
)
"""What a model of other library versions or other columns raises when it is loaded or asked."""


def load_model(data: bytes, record: ModelVersion, key: SecretStr) -> Steps:
    """The model of the bytes, once they and their record are known to be what was sealed.

    Raises:
        TamperedArtifact: they are not; nothing was loaded.
    """
    verify(data, record, key)
    return _unpickled(data)


@lru_cache(maxsize=2)
def _unpickled(data: bytes) -> Steps:
    model: Steps = joblib.load(io.BytesIO(data))
    return model


Predicted = Floats | pd.DataFrame


def predict(model: Steps, rows: pd.DataFrame, training: Training) -> Predicted:
    """What the model says of rows: numbers of shape (n_rows,), or shares of the classes.

    For classification a table of shape (n_rows, n_classes), its columns the classes as texts.
    """
    if training.task == "regression":
        return np.asarray(ask(model, "predict", rows), dtype=np.float64)
    classes = [str(name) for name in model.classes_]
    if len(classes) == 1:  # some boosting libraries answer with two columns then
        return pd.DataFrame({classes[0]: np.ones(len(rows))}, index=rows.index)
    return pd.DataFrame(ask(model, "predict_proba", rows), columns=classes, index=rows.index)


def row_losses(predicted: Predicted, actual: pd.Series, metric: Metric) -> Floats:
    """The loss of each row, of shape (n_rows,): its mean (of `rmse` its root) is the error.

    mae: |error|; rmse: error²; log_loss: −ln of the actual class's share; accuracy: 0 or 1, so that
    smaller is better for all of them. A prediction that differs from the target in the last digits
    alone has no loss.
    """
    if not isinstance(predicted, pd.DataFrame):
        targets = actual.to_numpy(dtype=np.float64)
        errors = np.abs(predicted - targets)
        errors[errors <= _ROUNDING * np.abs(targets)] = 0.0
        return errors if metric == "mae" else np.asarray(np.square(errors))
    names = actual.astype(str).to_numpy()
    if metric == "accuracy":
        wrong = predicted.to_numpy().argmax(axis=1) != _positions(predicted, names)
        return np.asarray(wrong, dtype=np.float64)
    losses = -np.log(_share_of_actual(predicted, names))
    return np.where(losses <= _ROUNDING, 0.0, losses)


def _positions(shares: pd.DataFrame, names: NDArray[Any]) -> NDArray[np.intp]:
    """For each name its column; −1 if there is none."""
    return np.asarray(shares.columns.get_indexer(pd.Index(names)))


def _share_of_actual(shares: pd.DataFrame, names: NDArray[Any]) -> Floats:
    position = _positions(shares, names)
    values = shares.to_numpy()[np.arange(len(names)), position]
    return np.clip(np.where(position < 0, 0.0, values), LEAST_PROBABILITY, 1.0)


def error_of(mean_loss: float, metric: Metric) -> float:
    """The error in the metric's own unit, from the mean of its losses."""
    return mean_loss**0.5 if metric == "rmse" else mean_loss


def negligible_error(actual: pd.Series, metric: Metric) -> float:
    """The largest error, in the metric's unit, that may come of rounding alone.

    An estimator that calculates with 32-bit floats and another with 64-bit ones differ by it though
    both are exact.
    """
    if metric in ("mae", "rmse"):
        return float(np.abs(actual.to_numpy(dtype=np.float64)).mean() * _SINGLE_PRECISION)
    return _SINGLE_PRECISION


def groups_of(rows: pd.DataFrame, group: tuple[str, ...]) -> NDArray[np.intp]:
    """For each row the number of its group; without group columns every row is one."""
    if not group:
        return np.arange(len(rows))
    return np.asarray(rows.groupby(list(group), dropna=False, sort=True).ngroup(), dtype=np.intp)


@dataclass(frozen=True)
class GroupLosses:
    """Losses summed by group. Rows of one group are not independent of each other."""

    sums: Floats
    """Of shape (n_groups,)."""
    rows: Floats
    """Of shape (n_groups,): how many rows each group has."""

    @classmethod
    def of(cls, losses: Floats, groups: NDArray[np.intp]) -> "GroupLosses":
        """The sums by group; groups without a row are left out."""
        rows = np.bincount(groups)
        sums = np.asarray(np.bincount(groups, weights=losses), dtype=np.float64)
        return cls(sums[rows > 0], rows[rows > 0].astype(np.float64))

    @property
    def mean(self) -> float:
        """The mean loss of all rows."""
        return float(self.sums.sum() / self.rows.sum())

    def to_bytes(self) -> bytes:
        """As an array file of shape (2, n_groups); the same bytes for the same losses."""
        sink = io.BytesIO()
        np.save(sink, np.stack([self.sums, self.rows]), allow_pickle=False)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "GroupLosses":
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: it is something else.
        """
        sums, rows = np.load(io.BytesIO(data), allow_pickle=False)
        return cls(sums, rows)
