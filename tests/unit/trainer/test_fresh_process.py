"""Bytes of models, loaded by a real process that has none of this code."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline as Steps

from services.trainer.artifact import dump_model
from services.trainer.estimators import build_model, input_columns
from services.trainer.fresh_process import why_not_usable
from shared.pipeline import Pipeline
from shared.scoring import predict
from shared.training import Training
from tests.air_quality_rows import batch_rows, raw_rows, with_training

TRAINING = Training(target="y", task="regression", features=("x",))
ROWS = pd.DataFrame({"x": np.arange(300.0)})
SLOPE = LinearRegression().fit(ROWS, 2 * ROWS["x"])


@pytest.fixture(scope="module")
def air_rows(air_quality: Pipeline) -> pd.DataFrame:
    return batch_rows(raw_rows(40), air_quality).dropna(ignore_index=True)


def _fitted(pipeline: Pipeline, rows: pd.DataFrame) -> Steps:
    target = rows[pipeline.training.target].to_numpy()
    return build_model(pipeline).fit(rows[input_columns(pipeline)], target)


@pytest.mark.parametrize(
    ("task", "target"), [("regression", "pollutant_avg"), ("classification", "state")]
)
def test_a_model_of_a_pipeline_is_usable(
    task: str, target: str, air_quality: Pipeline, air_rows: pd.DataFrame
) -> None:
    small = with_training(
        air_quality, task=task, target=target, metric=None, parameters={"n_estimators": 5}
    )
    model = _fitted(small, air_rows)
    said = predict(model, air_rows, small.training)
    assert why_not_usable(dump_model(model), air_rows, said, small.training) is None


@pytest.fixture
def module_of_this_project() -> Iterator[ModuleType]:
    """A module under `services` that only this process has, with an estimator's class."""
    name = "services.trainer.a_test_of_own_classes"
    module = ModuleType(name)

    class Own(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, _x: pd.DataFrame, _y: pd.Series) -> "Own":
            self.is_fitted_ = True
            return self

        def predict(self, x: pd.DataFrame) -> np.ndarray:
            return x["x"].to_numpy() * 2

    Own.__module__, Own.__qualname__ = name, "Own"
    module.Own = Own  # type: ignore[attr-defined]
    sys.modules[name] = module
    yield module
    del sys.modules[name]


def test_a_model_that_needs_a_class_of_this_project_is_not(
    module_of_this_project: ModuleType,
) -> None:
    model = Steps([("estimator", module_of_this_project.Own())]).fit(ROWS, ROWS["x"])
    data = dump_model(model)
    reason = why_not_usable(data, ROWS, predict(model, ROWS, TRAINING), TRAINING)
    assert reason
    assert reason.startswith("ModuleNotFoundError: ")
    assert "services" in reason


# Not nearly all of them: the last are a checksum that joblib does not ask for.
@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_bytes_of_which_some_are_missing_are_not(share: float) -> None:
    data = dump_model(SLOPE)
    reason = why_not_usable(data[: int(share * len(data))], ROWS, SLOPE.predict(ROWS), TRAINING)
    assert reason
    assert "error" in reason.lower()
    assert "\n" not in reason


@pytest.mark.parametrize(
    "said",
    [SLOPE.predict(ROWS) + 1e-3, SLOPE.predict(ROWS)[:100], np.full(300, np.nan)],
    ids=["other numbers", "fewer of them", "no numbers"],
)
def test_a_model_that_predicts_otherwise_is_not(said: np.ndarray) -> None:
    reason = why_not_usable(dump_model(SLOPE), ROWS, said, TRAINING)
    assert reason == "it predicts otherwise than in the process that trained it"


def test_the_last_digits_of_a_prediction_may_differ() -> None:
    """Other cores add up in another order."""
    said = SLOPE.predict(ROWS) * (1 + 1e-13)
    assert why_not_usable(dump_model(SLOPE), ROWS, said, TRAINING) is None


class _Ends:
    """A model's bytes that end the process that loads them."""

    def __init__(self, call: Any, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call, self.arguments


def test_a_process_that_ends_without_a_word_is_a_reason(tmp_path: Path) -> None:
    joblib.dump(_Ends(signal.raise_signal, 9), tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    assert why_not_usable(data, ROWS, ROWS["x"].to_numpy(), TRAINING) == "it ended early"


def test_a_process_that_takes_too_long_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.trainer.fresh_process._SECONDS", 0.5)
    joblib.dump(_Ends(time.sleep, 60), tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    reason = why_not_usable(data, ROWS, ROWS["x"].to_numpy(), TRAINING)
    assert reason == "it has not predicted 200 rows within 0.5 s"


def test_the_process_has_none_of_this_ones_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SIGNING_KEY", "a signing key for tests only")
    joblib.dump(_Ends(os.getenv, "MODEL_SIGNING_KEY"), tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    reason = why_not_usable(data, ROWS, ROWS["x"].to_numpy(), TRAINING)
    assert reason == "AttributeError: 'NoneType' object has no attribute 'predict'"


class _Noisy:
    """The bytes of a model that prints something when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        model = "__import__('sklearn.linear_model').linear_model.LinearRegression()"
        return eval, (f"[print('noise'), {model}][1]",), SLOPE.__getstate__()


def test_what_a_model_prints_is_not_taken_for_its_answer(tmp_path: Path) -> None:
    joblib.dump(_Noisy(), tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    assert why_not_usable(data, ROWS, SLOPE.predict(ROWS), TRAINING) is None
