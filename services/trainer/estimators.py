"""The model: one scikit-learn pipeline from raw rows to a prediction.

Its steps are made of scikit-learn, pandas and the standard library alone, so that whoever loads the
published file needs none of this code. Raw rows are rows as the source publishes them (texts, with
missing values as the schema spells them) or as a batch holds them (numbers and times).
"""

import difflib
import operator
from collections.abc import Callable
from typing import Any, Final

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline as Steps
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.utils._param_validation import InvalidParameterError

from shared.failures import WillNotPass
from shared.pipeline import CategoryColumn, NumberColumn, Pipeline, TimeColumn

ESTIMATORS: Final[dict[str, dict[str, Callable[..., Any]]]] = {
    "random_forest": {
        "regression": RandomForestRegressor,
        "classification": RandomForestClassifier,
    },
}
"""Name in the pipeline file -> task -> scikit-learn class."""

_TIME_PARTS: Final = {
    "minute": "dt.minute",
    "hour": "dt.hour",
    "day": "dt.day",
    "weekday": "dt.weekday",
    "dayofyear": "dt.dayofyear",
    "month": "dt.month",
    "year": "dt.year",
}


def build_model(pipeline: Pipeline) -> Steps:
    """The unfitted model of a pipeline.

    Raises:
        WillNotPass: `training.estimator` or one of `training.parameters` is not known.
    """
    return Steps([("features", _features(pipeline)), ("estimator", _estimator(pipeline))])


def feature_names(pipeline: Pipeline) -> list[str]:
    """The features in the file's order, time parts last."""
    return [*pipeline.training.features, *pipeline.training.time_parts]


def _estimator(pipeline: Pipeline) -> BaseEstimator:
    training = pipeline.training
    if training.estimator not in ESTIMATORS:
        raise WillNotPass(
            f"training.estimator: no {training.estimator!r}; there are {', '.join(ESTIMATORS)}"
        )
    estimator: BaseEstimator = ESTIMATORS[training.estimator][training.task]()
    known = estimator.get_params()
    for name in training.parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise WillNotPass(f"training.parameters.{name}: {training.estimator} has none{hint}")
    estimator.set_params(**training.parameters)
    if "random_state" in known:
        estimator.set_params(random_state=training.seed)
    try:
        estimator._validate_params()
    except InvalidParameterError as error:
        raise WillNotPass(f"training.parameters: {error}") from None
    return estimator


def _features(pipeline: Pipeline) -> ColumnTransformer:
    """One block of steps for the numbers, one for the categories, one for each time part."""
    columns = pipeline.data.columns
    chosen = pipeline.training.features
    numbers = [name for name in chosen if isinstance(columns[name], NumberColumn)]
    categories = [name for name in chosen if isinstance(columns[name], CategoryColumn)]
    blocks: list[tuple[str, Any, Any]] = []
    if numbers:
        blocks.append(("numbers", _numbers(), numbers))
    if categories:
        blocks.append(("categories", _categories(), categories))
    if time := pipeline.data.event_time:
        column = columns[time]
        assert isinstance(column, TimeColumn)  # noqa: S101 - the pipeline file was checked for it
        blocks += [(part, _time_part(part, column), time) for part in pipeline.training.time_parts]
    return ColumnTransformer(blocks, verbose_feature_names_out=False)


def _numbers() -> Steps:
    to_numbers = operator.methodcaller("apply", pd.to_numeric, errors="coerce")
    return make_pipeline(
        FunctionTransformer(to_numbers, feature_names_out="one-to-one"),
        SimpleImputer(strategy="median", keep_empty_features=True),
    )


def _categories() -> Steps:
    return make_pipeline(
        FunctionTransformer(operator.methodcaller("fillna", ""), feature_names_out="one-to-one"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )


def _time_part(part: str, column: TimeColumn) -> Steps:
    """A number from the local time: from a text in the first of the column's formats that fits, or
    from a time."""
    # A batch's times are in the column's zone, a source's texts are local: the same hour in both.
    parse = {"errors": "coerce", "format": "mixed", "dayfirst": _day_first(column)}
    return make_pipeline(
        FunctionTransformer(pd.to_datetime, kw_args=parse),
        FunctionTransformer(operator.attrgetter(_TIME_PARTS[part])),
        FunctionTransformer(operator.methodcaller("to_frame", part)),
        SimpleImputer(strategy="most_frequent", keep_empty_features=True),
    )


def _day_first(column: TimeColumn) -> bool:
    form = column.formats[0]
    return "%d" in form and "%m" in form and form.index("%d") < form.index("%m")
