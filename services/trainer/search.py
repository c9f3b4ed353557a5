"""The search for better parameters, on folds in the order of time, within a budget of time."""

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import shorten
from time import monotonic
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import Pipeline as Steps

from services.trainer.estimators import build_model, input_columns
from services.trainer.evaluation import LAST_DIGITS
from services.trainer.fitting import is_of_the_fit
from services.trainer.window import blocks_of
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.scoring import error_of, predict, row_losses
from shared.training import Parameter, Search, Training

Combination = dict[str, Parameter]
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Positions of the rows to learn from, and of later rows to predict."""

MOST_COMBINATIONS: Final = 10_000
"""Of a larger grid so many are drawn; no budget reaches further."""
_LONGEST_FAILURE: Final = 300


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    parameters: Combination
    """The pipeline's own, with those of the best combination in their place."""
    error: float | None
    """Of the best combination, by the deciding metric on all rows that folds predicted; None: the
    rows give no fold, and nothing was tried."""
    tried: int
    of: int
    """Combinations that there are; the pipeline's own parameters are one."""
    seconds: float
    failed: tuple[str, ...]
    """The combinations that could not be fitted, with the reason."""


@dataclass(frozen=True)
class _Try:
    combination: Combination
    error: float
    """Infinite if it failed."""
    failure: str | None = None


def search(pipeline: Pipeline, rows: pd.DataFrame, allowed: tuple[str, ...] = ()) -> Found:
    """Try the combinations of `training.search.grid` until none is left or its time is over.

    The pipeline's own parameters come first, and what replaces them has to have a smaller error: a
    search without time for more changes nothing. The others come in an order that depends on the
    grid and `training.seed` alone. All rows count the same.

    Args:
        rows: the training rows, all with a target, in the order of event time.
        allowed: dotted names of the classes that `training.estimator` may name besides our own.

    Raises:
        WillNotPass: a key or a value of the grid cannot be used, or no combination can be fitted.
    """
    begun, wanted = monotonic(), pipeline.training.search
    assert wanted  # noqa: S101 - the caller has looked
    model = build_model(pipeline, allowed)
    combinations = list(_combinations(model, wanted, pipeline.training.seed))
    folds = time_ordered_folds(rows, pipeline, wanted.folds)
    tries: list[_Try] = []
    for combination in combinations if folds else ():
        if tries and monotonic() - begun >= wanted.seconds:
            break
        tries.append(_try(combination, model, rows, folds, pipeline))
    best = _best(tries)
    return Found(
        parameters=pipeline.training.parameters | (best.combination if best else {}),
        error=best.error if best else None,
        tried=len(tries),
        of=len(combinations),
        seconds=monotonic() - begun,
        failed=tuple(each.failure for each in tries if each.failure),
    )


def time_ordered_folds(rows: pd.DataFrame, pipeline: Pipeline, count: int) -> list[Fold]:
    """Each fold predicts a part of the rows from all parts before it; the parts are about equal.

    Rows of one event time are in one part. Where that leaves fewer than two folds, because so many
    rows are of one time, rows of one group and time are kept together instead; still nothing is
    predicted from newer rows. A fold whose earlier rows are of one class has nothing to learn from
    and is left out.

    Args:
        count: how many folds there are at most.
    """
    time, training = pipeline.data.event_time, pipeline.training
    parts = _parts(rows[time], count + 1) if time else np.zeros(0)
    if len(np.unique(parts)) < 3:
        parts = _parts(blocks_of(rows, pipeline), count + 1)
    folds = [
        (np.flatnonzero(parts < part), np.flatnonzero(parts == part))
        for part in np.unique(parts)[1:]
    ]
    if training.task == "regression":
        return folds
    target = rows[training.target]
    return [fold for fold in folds if target.iloc[fold[0]].nunique() > 1]


def _parts(order: pd.Series, count: int) -> NDArray[np.intp]:
    """For each row its part; equal values of the order stand in the part of the first of them."""
    before = order.rank(method="min", na_option="top").to_numpy() - 1
    return np.asarray(before * count // len(order), dtype=np.intp)


def _combinations(model: Steps, wanted: Search, seed: int) -> Iterator[Combination]:
    """First the empty one, which changes nothing; what would equal it is left out."""
    own = model.named_steps["estimator"].get_params()
    unchanged = _written({name: own[name] for name in wanted.grid})
    yield {}
    grid = ParameterGrid(wanted.grid)
    count = min(len(grid), MOST_COMBINATIONS)
    # ParameterSampler would give all of a grid in the order of the grid, whatever the seed.
    for number in np.random.default_rng(seed).choice(len(grid), count, replace=False):
        if _written(grid[number]) != unchanged:
            yield grid[number]


def _written(combination: Combination) -> str:
    """Such as `max_depth=3`. Unlike the values, their texts tell 1 from 1.0 and True."""
    return ", ".join(f"{name}={value!r}" for name, value in sorted(combination.items()))


def _try(
    combination: Combination,
    model: Steps,
    rows: pd.DataFrame,
    folds: list[Fold],
    pipeline: Pipeline,
) -> _Try:
    training = pipeline.training
    searcher = GridSearchCV(
        model,
        {f"estimator__{name}": [value] for name, value in combination.items()},
        scoring=_Scorer(training),
        cv=folds,
        n_jobs=1,  # the cores are the estimator's
        refit=False,
        error_score="raise",  # else a time limit that ends the fit from outside would count as one
    )
    try:
        searcher.fit(rows[input_columns(pipeline)], rows[training.target].to_numpy())
    except Exception as error:
        if not is_of_the_fit(error, model):
            raise
        failure = f"{_written(combination) or 'the parameters as they are'}: {error}"
        return _Try(combination, float("inf"), shorten(failure, _LONGEST_FAILURE))
    scores = [searcher.cv_results_[f"split{number}_test_score"][0] for number in range(len(folds))]
    loss = -np.average(scores, weights=[len(later) for _, later in folds])
    return _Try(combination, error_of(float(loss), training.deciding_metric))


@dataclass(frozen=True)
class _Scorer:
    """The mean loss by the deciding metric, below zero because scikit-learn wants most.

    Its own log loss has no answer for a class that only the later rows hold.
    """

    training: Training

    def __call__(self, model: Steps, rows: pd.DataFrame, target: NDArray[np.object_]) -> float:
        predicted = predict(model, rows, self.training)
        loss = row_losses(predicted, pd.Series(target), self.training.deciding_metric).mean()
        if not np.isfinite(loss):
            raise ValueError("what it predicts is not finite")
        return -float(loss)


def _best(tries: list[_Try]) -> _Try | None:
    """The first of those with the smallest error; None if nothing was tried.

    Errors that differ in the last digits alone are equal.
    """
    least = min((each.error for each in tries), default=0.0)
    best = next((each for each in tries if each.error <= least * (1 + LAST_DIGITS)), None)
    if best and best.failure:
        raise WillNotPass(
            f"training.search: none of the {len(tries)} combinations tried can be fitted; "
            f"{best.failure}"
        )
    return best
