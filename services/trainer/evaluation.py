"""How well a model predicts rows that it has not learnt from."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)
from sklearn.pipeline import Pipeline as Steps

from shared.pipeline import Pipeline

DECIDING_METRIC = {"regression": "mae", "classification": "log_loss"}
"""The metric that decides between two models; the smaller value is better."""

Metrics = dict[str, float | None]


def evaluate(model: Steps, rows: pd.DataFrame, pipeline: Pipeline) -> Metrics:
    """The task's metrics of a fitted model on rows with a target; None where one is not defined."""
    target = rows[pipeline.training.target]
    if pipeline.training.task == "regression":
        return regression_metrics(target.to_numpy(), model.predict(rows))
    return classification_metrics(target.to_numpy(), model.predict_proba(rows), model.classes_)


def regression_metrics(actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Metrics:
    """Errors in the target's unit (mae, rmse) and squared (mse), and R².

    R² is None for fewer than two rows or a constant target, where it has no meaning.
    """
    mse = float(mean_squared_error(actual, predicted))
    defined = actual.size > 1 and np.ptp(actual) > 0
    return {
        "mae": float(mean_absolute_error(actual, predicted)),
        "mse": mse,
        "rmse": mse**0.5,
        "r2_score": float(r2_score(actual, predicted)) if defined else None,
    }


def classification_metrics(
    actual: NDArray[np.object_], probabilities: NDArray[np.float64], classes: NDArray[np.object_]
) -> Metrics:
    """Log loss (natural logarithm), accuracy and macro F1.

    Args:
        actual: the classes, of shape (n_rows,). One that the model never saw counts as predicted
            with the smallest probability that a float can tell from none.
        probabilities: of shape (n_rows, n_classes), in the order of `classes`.
        classes: those that the model knows.
    """
    labels = np.array(sorted({*map(str, classes), *map(str, actual)}), dtype=object)
    spread = np.zeros((len(actual), len(labels)))
    spread[:, np.searchsorted(labels, classes.astype(str))] = probabilities
    spread = np.clip(spread, np.finfo(float).eps, None)
    spread /= spread.sum(axis=1, keepdims=True)
    predicted = labels[spread.argmax(axis=1)]
    several = len(labels) > 1
    return {
        "log_loss": float(log_loss(actual, spread, labels=labels)) if several else 0.0,
        "accuracy": float(accuracy_score(actual, predicted)),
        "macro_f1": float(f1_score(actual, predicted, average="macro", zero_division=0)),
    }


def feature_importance(model: Steps, names: list[str]) -> dict[str, float]:
    """The share of each feature in the estimator's own importances; empty if it tells none.

    The columns that a category was spread over are added up.
    """
    importances: Any = getattr(model.named_steps["estimator"], "feature_importances_", None)
    if importances is None:
        return {}
    totals = dict.fromkeys(names, 0.0)
    for name, importance in zip(_column_owners(model, names), importances, strict=True):
        totals[name] += float(importance)
    whole = sum(totals.values())
    return {name: total / whole if whole else 0.0 for name, total in totals.items()}


def _column_owners(model: Steps, names: list[str]) -> list[str]:
    """For each column that the estimator sees, the feature it was made of."""
    owners: list[str] = []
    for block, steps, columns in model.named_steps["features"].transformers_:
        if block == "categories":
            encoder = steps[-1]
            for column, levels in zip(columns, encoder.categories_, strict=True):
                owners += [column] * len(levels)
        elif block in names and isinstance(columns, str):
            owners.append(block)
        elif block == "numbers":
            owners += list(columns)
    return owners
