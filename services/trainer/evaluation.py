"""How well a model predicts rows that it has not learnt from, and what it looks at to do so."""

from typing import Any, Final, Literal

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

from shared.pipeline import Training

Task = Literal["regression", "classification"]
Metrics = dict[str, Any]
"""Name -> a finite number, or None where the rows give the metric no meaning."""

DECIDING_METRIC: Final[dict[Task, str]] = {"regression": "mae", "classification": "log_loss"}
"""The metric that decides between two models; the smaller value is better."""


def evaluate(model: Steps, rows: pd.DataFrame, training: Training) -> Metrics:
    """The metrics of the task, for a fitted model on rows that have a target."""
    target = rows[training.target].to_numpy()
    if training.task == "regression":
        return regression_metrics(target, model.predict(rows))
    return classification_metrics(target, model.predict_proba(rows), model.classes_)


def regression_metrics(actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Metrics:
    """Errors in the target's unit (mae, rmse) and in its square (mse), and R².

    R² compares with the mean of the target; for fewer than two rows, or where the target is
    constant, it has no meaning and is None.
    """
    mse = float(mean_squared_error(actual, predicted))
    has_spread = actual.size > 1 and np.ptp(actual) > 0
    return {
        "mae": float(mean_absolute_error(actual, predicted)),
        "mse": mse,
        "rmse": mse**0.5,
        "r2_score": float(r2_score(actual, predicted)) if has_spread else None,
    }


def classification_metrics(
    actual: NDArray[Any], probabilities: NDArray[np.float64], classes: NDArray[Any]
) -> Metrics:
    """Log loss (natural logarithm), accuracy and macro F1.

    A class that the model does not know counts as predicted with probability 2e-16, the resolution
    of a float, so that the loss is large and finite.

    Args:
        actual: the classes as texts, of shape (n_rows,).
        probabilities: of shape (n_rows, n_classes), in the order of `classes`.
        classes: those that the model knows, as texts, sorted.
    """
    labels = np.unique(np.concatenate([classes, actual]).astype(str))
    shares = np.zeros((actual.size, labels.size))
    shares[:, np.searchsorted(labels, classes.astype(str))] = probabilities
    shares = np.clip(shares, np.finfo(np.float64).eps, None)
    shares /= shares.sum(axis=1, keepdims=True)
    actual = actual.astype(str)
    predicted = labels[shares.argmax(axis=1)]
    one_class = labels.size == 1  # scikit-learn's log loss asks for two
    return {
        "log_loss": 0.0 if one_class else float(log_loss(actual, shares, labels=labels)),
        "accuracy": float(accuracy_score(actual, predicted)),
        "macro_f1": float(f1_score(actual, predicted, average="macro", zero_division=0)),
    }


def feature_importance(model: Steps) -> dict[str, float]:
    """The share of each feature in the estimator's own importances; empty if it has none.

    The columns that a category was spread over are added up. The shares sum to 1, or are all 0 for
    an estimator that found nothing to learn.
    """
    importances = getattr(model.named_steps["estimator"], "feature_importances_", None)
    if importances is None:
        return {}
    features = _feature_of_each_column(model)
    shares = dict.fromkeys(features, 0.0)
    for feature, importance in zip(features, importances, strict=True):
        shares[feature] += float(importance)
    return shares


def _feature_of_each_column(model: Steps) -> list[str]:
    """For each column that the estimator sees, the feature that it was made of."""
    features: list[str] = []
    for block, steps, columns in model.named_steps["features"].transformers_:
        if block == "numbers":
            features += columns
        elif block == "categories":
            for column, levels in zip(columns, steps[-1].categories_, strict=True):
                features += [column] * len(levels)
        elif block != "remainder":
            features.append(block)
    return features
