"""The model: one scikit-learn pipeline from raw rows to a prediction.

Its steps are made of scikit-learn, pandas and the standard library alone, so that whoever loads the
published file needs none of this code. Raw rows are rows as the source publishes them (texts, with
missing values as the schema spells them) or as a batch holds them (numbers and times).
"""

import difflib
from collections.abc import Iterable, Iterator
from importlib import import_module
from operator import attrgetter, itemgetter, methodcaller
from typing import Any, Final

import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.pipeline import Pipeline as Steps
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils._param_validation import (
    InvalidParameterError,
    validate_parameter_constraints,
)
from sklearn.utils.validation import has_fit_parameter

from shared.failures import WillNotPass
from shared.pipeline import CategoryColumn, NumberColumn, Pipeline, TimeColumn
from shared.training import Task, Training

_TREES: Final[dict[str, dict[Task, type]]] = {
    "random_forest": {
        "regression": RandomForestRegressor,
        "classification": RandomForestClassifier,
    },
    "extra_trees": {
        "regression": ExtraTreesRegressor,
        "classification": ExtraTreesClassifier,
    },
    "hist_gradient_boosting": {
        "regression": HistGradientBoostingRegressor,
        "classification": HistGradientBoostingClassifier,
    },
}
"""Name in the pipeline file -> task -> class. Trees learn the same in whatever unit a number is."""

ESTIMATORS: Final[dict[str, dict[Task, type]]] = {
    **_TREES,
    "elastic_net": {"regression": ElasticNet},
    "logistic_regression": {"classification": LogisticRegression},
}
"""Name in the pipeline file -> task -> scikit-learn class."""

_MILLISECONDS: Final = {"epoch_seconds": 1e3, "epoch_milliseconds": 1.0, "excel_days": 86_400e3}
"""What a number that is a time is multiplied by."""
_EXCEL_BEGIN: Final = "1899-12-30"
MOST_CATEGORY_COLUMNS: Final = 256
"""All category features together have at most this many columns, each of 8 bytes per row."""
_FEWEST_CATEGORY_COLUMNS: Final = 8
"""A feature may have at least this many columns, however many features there are."""

_TIME_PARTS: Final = {
    "minute": "dt.minute",
    "hour": "dt.hour",
    "day": "dt.day",
    "weekday": "dt.day_of_week",
    "dayofyear": "dt.day_of_year",
    "month": "dt.month",
    "year": "dt.year",
}
_TIMES: Final = ["datetime", "datetimetz"]
_OUTER_SPACE: Final = r"^\s+|\s+$"
_ZONED: Final = r".*:\d\d[\d.,:]*(?:Z|[+-]\d\d(?::?\d\d)?)$"
"""An ISO 8601 text that says its zone."""


def build_model(pipeline: Pipeline, allowed: tuple[str, ...] = ()) -> Steps:
    """The unfitted model of a pipeline: steps `features` and `estimator`, the latter the last.

    Between them, but for trees, `scale` brings every column to mean 0 and variance 1.

    Args:
        allowed: dotted names of the classes that `training.estimator` may name besides our own.

    Raises:
        WillNotPass: `training.estimator`, one of `training.parameters`, a value of
            `training.search.grid` or a feature cannot be used.
    """
    scale = [] if pipeline.training.estimator in _TREES else [("scale", StandardScaler())]
    estimator = _estimator(pipeline.training, allowed)
    return Steps([("features", _features(pipeline)), *scale, ("estimator", estimator)])


def takes_weights(pipeline: Pipeline, allowed: tuple[str, ...] = ()) -> bool:
    """Whether the model's `fit` takes `estimator__sample_weight`, of shape (n_rows,).

    Raises:
        WillNotPass: as `build_model` does, features excepted.
    """
    return bool(has_fit_parameter(_estimator(pipeline.training, allowed), "sample_weight"))


def input_columns(pipeline: Pipeline) -> list[str]:
    """The columns of a raw row that the model reads."""
    training, time = pipeline.training, pipeline.data.event_time
    return [*training.features, *([time] if time and training.time_parts else [])]


def _estimator(training: Training, allowed: tuple[str, ...]) -> Any:
    """The estimator with its parameters. They and the grid are checked, before anything is fitted.

    It is of any class that keeps to scikit-learn's rules, which no common base class says.
    """
    name = training.estimator
    kind = _allowed_class(name, allowed) if "." in name else _own_class(name, training.task)
    estimator = _made(name, kind, training.task)
    for key, value in training.parameters.items():
        _check_parameter(f"training.parameters.{key}", estimator, key, [value])
    for key, values in (training.search.grid if training.search else {}).items():
        _check_parameter(f"training.search.grid.{key}", estimator, key, values)
    seed = {"random_state": training.seed} if "random_state" in estimator.get_params() else {}
    return estimator.set_params(**training.parameters, **seed)


def _own_class(name: str, task: Task) -> type:
    fitting = ", ".join(each for each, tasks in ESTIMATORS.items() if task in tasks)
    if name not in ESTIMATORS:
        raise WillNotPass(
            f"training.estimator: no {name!r}; for {task} there are: {fitting}, and the dotted "
            "names in TRAINER_ALLOWED_ESTIMATORS"
        )
    if task not in ESTIMATORS[name]:
        raise WillNotPass(f"training.estimator: {name} is not for {task}; there are: {fitting}")
    return ESTIMATORS[name][task]


def _allowed_class(name: str, allowed: tuple[str, ...]) -> type:
    """A class by its dotted name. Importing runs code, so only what is allowed is imported."""
    where = f"training.estimator: {name}"
    if name not in allowed:
        raise WillNotPass(
            f"{where} is not allowed; if it is to be trusted, add it to TRAINER_ALLOWED_ESTIMATORS"
        )
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(import_module(module), kind, None)
    except (ImportError, OSError) as error:
        package = module.partition(".")[0]
        raise WillNotPass(
            f"{where} cannot be imported ({error}); install {package} where the trainer runs"
        ) from None
    if not isinstance(found, type):
        raise WillNotPass(f"{where}: {module} has no class {kind}")
    return found


def _made(name: str, kind: type, task: Task) -> Any:
    """An estimator with default parameters, if the class is one for the task."""
    asked, predicts = {
        "regression": (is_regressor, "predict"),
        "classification": (is_classifier, "predict_proba"),
    }[task]
    try:
        estimator = kind()
        fits = asked(estimator) and all(
            hasattr(estimator, method) for method in ("fit", "get_params", predicts)
        )
    except (TypeError, AttributeError) as error:
        raise WillNotPass(
            f"training.estimator: {name} is no scikit-learn-compatible estimator: {error}"
        ) from None
    if not fits:
        raise WillNotPass(
            f"training.estimator: {name} is no estimator for {task}, which takes fit and {predicts}"
        )
    return estimator


def _check_parameter(where: str, estimator: Any, name: str, values: Iterable[object]) -> None:
    known = estimator.get_params()
    kind = type(estimator).__name__
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has: {', '.join(known)}"
        raise WillNotPass(f"{where}: {kind} has no such parameter{hint}")
    if name == "random_state":
        raise WillNotPass(f"{where}: set training.seed instead")
    ranges = getattr(estimator, "_parameter_constraints", {})  # classes of others may state none
    for value in values:
        try:
            validate_parameter_constraints(ranges, {name: value}, kind)
        except InvalidParameterError as error:
            raise WillNotPass(f"{where}: {error}") from None


def _features(pipeline: Pipeline) -> ColumnTransformer:
    """A block of steps for the numbers, one for the categories, and one for the time's parts."""
    columns = pipeline.data.columns
    chosen = pipeline.training.features
    for name in chosen:
        if isinstance(columns[name], TimeColumn):
            raise WillNotPass(
                f"training.features: {name!r} is a time; name parts of the event time in "
                "training.time_parts instead"
            )
    numbers = [name for name in chosen if isinstance(columns[name], NumberColumn)]
    categories = [name for name in chosen if isinstance(columns[name], CategoryColumn)]
    missing = list(pipeline.data.missing)
    blocks = [
        ("numbers", _numbers(missing), numbers),
        ("categories", _categories(missing, len(categories)), categories),
        *_time_parts(pipeline),
    ]
    return ColumnTransformer([block for block in blocks if block[2]])


def _numbers(missing: list[str]) -> Steps:
    return make_pipeline(
        _call("replace", regex=_OUTER_SPACE, value=""),
        _call("replace", missing, ""),
        _call("apply", pd.to_numeric, errors="coerce"),
        SimpleImputer(strategy="median", keep_empty_features=True),
    )


def _categories(missing: list[str], features: int) -> Steps:
    """One column for each category that the training rows hold, a missing value being one.

    Of too many categories the rarest share a column, which also stands for those that are new.

    Args:
        features: how many features share `MOST_CATEGORY_COLUMNS`.
    """
    at_most = MOST_CATEGORY_COLUMNS // max(features, 1)
    return make_pipeline(
        _call("astype", object),
        _call("fillna", ""),
        _call("astype", str),
        _call("replace", regex=_OUTER_SPACE, value=""),
        _call("replace", missing, ""),
        OneHotEncoder(
            handle_unknown="infrequent_if_exist",
            max_categories=max(at_most, _FEWEST_CATEGORY_COLUMNS),
            sparse_output=False,
        ),
    )


def _time_parts(pipeline: Pipeline) -> Iterator[tuple[str, Steps, list[str]]]:
    name, parts = pipeline.data.event_time, pipeline.training.time_parts
    column = pipeline.data.columns[name] if name else None
    if name and parts and isinstance(column, TimeColumn):
        yield "time", _parts_of(column, parts), [name]


def _parts_of(column: TimeColumn, parts: tuple[str, ...]) -> Steps:
    """Numbers from the local time, from whichever reading of the column is the first to fit.

    Every reading that there is gives a column for each part, in the parts' order.
    """
    to_parts = FeatureUnion(
        [(part, _call("apply", attrgetter(_TIME_PARTS[part]))) for part in parts]
    )
    readings = [make_pipeline(*steps, to_parts) for steps in _readings(column)]
    found = [(part, _first_of(slice(at, None, len(parts)))) for at, part in enumerate(parts)]
    return Steps(
        [
            ("readings", FeatureUnion([(str(at), steps) for at, steps in enumerate(readings)])),
            ("parts", FeatureUnion(found)),
            ("impute", SimpleImputer(strategy="most_frequent", keep_empty_features=True)),
        ]
    )


def _first_of(columns: slice) -> Steps:
    """The first value in each row of some columns."""
    return make_pipeline(
        FunctionTransformer(itemgetter((slice(None), columns))),
        FunctionTransformer(pd.DataFrame, kw_args={"dtype": float}),
        _call("bfill", axis=1),
        FunctionTransformer(itemgetter([0])),
    )


def _readings(column: TimeColumn) -> Iterator[list[FunctionTransformer]]:
    """The ways to read the column as local times; a way for another type gives no column.

    Texts are read in the formats of the pipeline file, in their order, and as ISO 8601 at last.
    """
    to_zone = _call("astype", f"datetime64[us, {column.timezone}]")
    yield [_call("select_dtypes", "datetime")]
    yield [_call("select_dtypes", "datetimetz"), to_zone]
    numbered = [form for form in column.formats if form in _MILLISECONDS]
    texts = [
        _call("select_dtypes", exclude=[*_TIMES, "number"] if numbered else _TIMES),
        _call("replace", regex=_OUTER_SPACE, value=""),
    ]
    for form in dict.fromkeys([*column.formats, "ISO8601"]):
        if form in _MILLISECONDS:
            yield from _numbered_times(form, to_zone)
        elif form == "ISO8601":
            without, within = rf"^{_ZONED}", rf"^(?!{_ZONED}).*$"
            yield [*texts, _call("replace", regex=without, value=""), _parse(form)]
            yield [
                *texts,
                _call("replace", regex=within, value=""),
                _parse(form, utc=True),
                to_zone,
            ]
        elif "%z" in form:
            yield [*texts, _parse(form, utc=True), to_zone]
        else:
            yield [*texts, _parse(form)]


def _numbered_times(form: str, to_zone: FunctionTransformer) -> Iterator[list[FunctionTransformer]]:
    """The way to read numbers as times, to the millisecond. Excel's days are local ones."""
    milliseconds = [
        _call("select_dtypes", exclude=_TIMES),
        _call("apply", pd.to_numeric, errors="coerce"),
        _call("mul", _MILLISECONDS[form]),
        _call("round"),
    ]
    if form == "excel_days":
        origin = _EXCEL_BEGIN
        read = _call("apply", pd.to_datetime, unit="ms", origin=origin, errors="coerce")
        yield [*milliseconds, read]
    else:
        read = _call("apply", pd.to_datetime, unit="ms", utc=True, errors="coerce")
        yield [*milliseconds, read, to_zone]


def _parse(form: str, *, utc: bool = False) -> FunctionTransformer:
    return _call("apply", pd.to_datetime, format=form, errors="coerce", utc=utc)


def _call(method: str, *arguments: object, **keywords: object) -> FunctionTransformer:
    """The step that calls a method of the table that it is given."""
    return FunctionTransformer(methodcaller(method, *arguments, **keywords))
