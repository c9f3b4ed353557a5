"""Classes that keep to scikit-learn's rules and are not of it, and some that do not."""

import time
from typing import Any, Self

import numpy as np
from celery.exceptions import SoftTimeLimitExceeded
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin


class LibraryError(Exception):
    """As libraries have of their own."""


class Constant(RegressorMixin, BaseEstimator):
    """Predicts a share of the way from the least target to the greatest, and an offset."""

    def __init__(self, share: float = 0.5, offset: float = 0.0, seconds: float = 0.0) -> None:
        self.share = share
        self.offset = offset
        self.seconds = seconds

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803 - scikit-learn's name
        if not 0 <= self.share <= 1:
            raise LibraryError(f"share is {self.share}")
        time.sleep(self.seconds)
        self.n_features_in_ = np.asarray(X).shape[1]
        self.value_ = float(np.min(y) + self.share * np.ptp(y)) + self.offset
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        return np.full(len(np.asarray(X)), self.value_)


class Endless(Constant):
    """Ended from outside, as by a time limit: by an error that is not Python's nor its own."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: ARG002, N803
        raise SoftTimeLimitExceeded


class Shares(ClassifierMixin, BaseEstimator):
    """Predicts how often each class was there, by weight, whatever the row."""

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: Any = None) -> Self:  # noqa: N803
        weights = np.ones(len(np.asarray(y))) if sample_weight is None else sample_weight
        self.n_features_in_ = np.asarray(X).shape[1]
        self.classes_, number = np.unique(y, return_inverse=True)
        self.shares_ = np.bincount(number, weights=weights) / np.sum(weights)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        return np.tile(self.shares_, (len(np.asarray(X)), 1))

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Asking(Constant):
    """Cannot be made without being told something."""

    def __init__(self, share: float) -> None:
        super().__init__(share)


class Bare:
    """Nothing of scikit-learn."""
