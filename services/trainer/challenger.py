"""The making of one model: what it is to learn from and how, and the fit."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from textwrap import shorten
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline as Steps

from services.trainer.estimators import build_model, input_columns, takes_weights
from services.trainer.fitting import fit, is_of_the_fit, parallel
from services.trainer.search import Found, search
from services.trainer.selection import Choice, Selection, select, weights_of
from services.trainer.window import Pool
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.scoring import Floats, error_of, predict, row_losses
from shared.settings import Settings
from shared.training import FEWEST_TRAINING_ROWS, Parameter, Training, Window


class Recipe(BaseModel):
    """What makes the same model of the same training rows again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Window
    time_parts: tuple[str, ...]
    parameters: dict[str, Parameter]


FEWEST_ROWS_OF_A_CLASS: Final = 5
"""Some estimators divide the rows of each class by themselves, and refuse a class of fewer rows."""
_LONGEST_FAILURE: Final = 200


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and what it took."""

    model: Steps
    fit_seconds: float
    trained_at: datetime
    note: str = ""
    """What a person should know of the rows that it has learnt from, in a sentence."""


@dataclass(frozen=True)
class Plan:
    """A recipe, the rows that it uses, and how it was arrived at."""

    recipe: Recipe
    window: NDArray[np.intp]
    """Positions in the pool's order: all rows within the window, with a target or not."""
    training: NDArray[np.intp]
    """Those of them that are learnt from."""
    selection: Selection
    found: Found | None
    """The search for parameters; None: the pipeline asks for none."""


def make_plan(
    pool: Pool, training: NDArray[np.intp], pipeline: Pipeline, settings: Settings
) -> Plan:
    """Choose the window and the parameters, looking at the training rows alone.

    Args:
        training: positions of the rows that may be learnt from.

    Raises:
        WillNotPass: the estimator, a parameter or the window cannot be used.
    """
    rows, batch = pool.rows.iloc[training], pool.batch[training]
    selection = _selection(rows, batch, pipeline, settings)
    counts = weights_of(selection.choice.window, pool.batch, _times(pool.rows, pipeline)) > 0
    window, used = np.flatnonzero(counts), training[counts[training]]
    if len(used) < FEWEST_TRAINING_ROWS:
        raise WillNotPass(
            f"training.window: {selection.choice.window} leaves {len(used)} rows to train on, and "
            f"it takes {FEWEST_TRAINING_ROWS}"
        )
    recipe = _recipe(selection.choice, pipeline)
    if pipeline.training.search is None:
        return Plan(recipe, window, used, selection, None)
    planned, allowed = _as_planned(pipeline, recipe), settings.trainer_allowed_estimators
    with parallel(settings):
        found = search(planned, pool.rows.iloc[used], allowed)
    recipe = recipe.model_copy(update={"parameters": found.parameters})
    return Plan(recipe, window, used, selection, found)


def _selection(
    rows: pd.DataFrame, batch: NDArray[np.int64], pipeline: Pipeline, settings: Settings
) -> Selection:
    """The window that the pipeline states, with the features that it states; or the best one."""
    stated = pipeline.training.window
    weights_count = takes_weights(pipeline, settings.trainer_allowed_estimators)
    if stated.policy == "half_life" and not weights_count:
        raise WillNotPass(
            f"training.window: half_life gives rows weights, which {pipeline.training.estimator} "
            "does not take; use all, auto or last"
        )
    if stated.policy != "auto":
        return Selection(Choice(stated, time_parts=bool(pipeline.training.time_parts)))
    times = _times(rows, pipeline)

    def validate(choice: Choice, earlier: NDArray[np.intp], later: NDArray[np.intp]) -> float:
        past = None if times is None else times.iloc[earlier]
        inside = earlier[weights_of(choice.window, batch[earlier], past) > 0]
        model = fit_model(rows.iloc[inside], _recipe(choice, pipeline), pipeline, settings).model
        return _error(model, rows.iloc[later], pipeline.training)

    try:
        return select(
            batch,
            times,
            has_time_parts=bool(pipeline.training.time_parts),
            takes_weights=weights_count,
            validate=validate,
            teaches=lambda earlier: _teaches(rows.iloc[earlier], pipeline.training),
        )
    except WillNotPass:  # some times alone cannot be learnt from
        return Selection(Choice(Window(policy="all"), time_parts=False))


def _teaches(rows: pd.DataFrame, training: Training) -> bool:
    """Whether a classifier can learn a difference from the rows: they are of several classes."""
    return training.task == "regression" or rows[training.target].nunique() > 1


def _times(rows: pd.DataFrame, pipeline: Pipeline) -> pd.Series | None:
    time = pipeline.data.event_time
    return rows[time] if time else None


def _recipe(choice: Choice, pipeline: Pipeline) -> Recipe:
    return Recipe(
        window=choice.window,
        time_parts=pipeline.training.time_parts if choice.time_parts else (),
        parameters=pipeline.training.parameters,
    )


def _error(model: Steps, rows: pd.DataFrame, training: Training) -> float:
    metric = training.deciding_metric
    losses = row_losses(predict(model, rows, training), rows[training.target], metric)
    return error_of(float(losses.mean()), metric)


def fit_model(rows: pd.DataFrame, recipe: Recipe, pipeline: Pipeline, settings: Settings) -> Fitted:
    """Fit on the rows of a window, in their order, on all cores that this process may use.

    Of rows of one class every estimator makes the same model, which gives this class for every row.
    An estimator that refuses classes of a few rows is fitted to the rows of the others.

    Raises:
        WillNotPass: the estimator, a parameter or a feature cannot be used, or the estimator can
            learn nothing from these rows.
    """
    try:
        return _fitted(rows, recipe, pipeline, settings)
    except WillNotPass:
        frequent, left_out = _of_frequent_classes(rows, pipeline.training)
        if not left_out:
            raise
        fitted = _fitted(frequent, recipe, pipeline, settings)
        note = (
            f"{pipeline.training.estimator} cannot learn classes of fewer than "
            f"{FEWEST_ROWS_OF_A_CLASS} rows, so these are left out: {left_out}. Ingest more rows "
            "of them, or try another training.estimator"
        )
        return replace(fitted, note=". ".join(filter(None, (fitted.note, note))))


def _of_frequent_classes(rows: pd.DataFrame, training: Training) -> tuple[pd.DataFrame, str]:
    """The rows of classes with enough rows, and what is left out; that is empty if nothing is."""
    if training.task == "regression":
        return rows, ""
    target = rows[training.target]
    counts = target.value_counts().sort_index()
    rare = counts[counts < FEWEST_ROWS_OF_A_CLASS]
    if len(rare) == len(counts):
        return rows, ""
    named = ", ".join(f"{name!r} ({rows_of} rows)" for name, rows_of in rare.items())
    return rows[~target.isin(rare.index)], shorten(named, _LONGEST_FAILURE)


def _fitted(rows: pd.DataFrame, recipe: Recipe, pipeline: Pipeline, settings: Settings) -> Fitted:
    planned = _as_planned(pipeline, recipe)
    model = build_model(planned, allowed=settings.trainer_allowed_estimators)
    target = rows[planned.training.target].to_numpy()
    note = _why_constant(target, planned.training)
    if note and planned.training.task == "classification":
        model.set_params(estimator=DummyClassifier())
    begun = datetime.now(UTC)
    weights = _weights(rows, recipe, planned)
    try:
        seconds = fit(model, rows[input_columns(planned)], target, weights, settings)
    except Exception as error:
        if not is_of_the_fit(error, model):
            raise
        said = shorten(str(error), _LONGEST_FAILURE) or "nothing"
        raise WillNotPass(
            f"training.estimator: {planned.training.estimator} could not be fitted to these "
            f"{len(rows):,} rows. Try other training.parameters or another training.estimator. "
            f"{type(error).__name__} says: {said}"
        ) from error
    return Fitted(model, seconds, begun, note)


def _why_constant(target: NDArray[Any], training: Training) -> str:
    """What a model is like whose rows all have one target; empty if they have several."""
    if len(pd.unique(target)) > 1:
        return ""
    value = f"{target[0]:g}" if training.task == "regression" else repr(str(target[0]))
    return (
        f"all {len(target):,} training rows have the target {value}, so the model predicts it for "
        "every row until rows with other targets are ingested"
    )


def _weights(rows: pd.DataFrame, recipe: Recipe, pipeline: Pipeline) -> Floats | None:
    """Weights by age; none where all rows of the window count the same."""
    if recipe.window.policy != "half_life":
        return None
    no_batch = np.zeros(len(rows), dtype=np.int64)
    return weights_of(recipe.window, no_batch, _times(rows, pipeline))


def _as_planned(pipeline: Pipeline, recipe: Recipe) -> Pipeline:
    update = {"time_parts": recipe.time_parts, "parameters": recipe.parameters}
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update=update)})
