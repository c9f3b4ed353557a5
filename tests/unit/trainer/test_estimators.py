"""The model's steps: parameters checked, and the same features from every form of a row."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, LogisticRegression
from sklearn.metrics import mean_absolute_error

from services.trainer.estimators import (
    ESTIMATORS,
    MOST_CATEGORY_COLUMNS,
    build_model,
    input_columns,
    takes_weights,
)
from services.trainer.evaluation import feature_importance
from shared.failures import WillNotPass
from shared.pipeline import Pipeline, TimeColumn
from tests import third_party_estimators
from tests.air_quality_rows import batch_rows, raw_rows, with_training

TIMES = [
    *("2024-05-07 10:15:00", "2024-12-31 23:59:00", "2024-02-29 00:30:00"),
    *("2024-07-01 05:29:00", "2024-01-11 18:45:00"),
]


def timed(values: object, column: dict[str, Any], parts: list[str]) -> NDArray[np.float64]:
    """The time features of a model that was fitted on and asked about a column of times."""
    pipeline = Pipeline.model_validate(
        {
            "name": "timed",
            "source": {"kind": "manual"},
            "schema": {
                "columns": {
                    "at": {"type": "time", **column},
                    "x": {"type": "number"},
                    "y": {"type": "number"},
                },
                "event_time": "at",
            },
            "training": {
                "target": "y",
                "task": "regression",
                "features": ["x"],
                "time_parts": parts,
            },
        }
    )
    rows = pd.DataFrame({"at": values, "x": 1.0, "y": 1.0})
    features: NDArray[np.float64] = build_model(pipeline)[:-1].fit_transform(rows)
    return features[:, 1:]


def local(zone: str) -> pd.Series:
    return pd.Series(pd.to_datetime(TIMES)).dt.tz_localize(zone).dt.as_unit("us")


FORMS: dict[str, Callable[[], Any]] = {
    "as published": lambda: pd.to_datetime(TIMES).strftime("%d-%m-%Y %H:%M:%S"),
    "without seconds": lambda: pd.to_datetime(TIMES).strftime("%d-%m-%Y %H:%M"),
    "with spaces around": lambda: pd.to_datetime(TIMES).strftime(" %d-%m-%Y %H:%M\t"),
    "both spellings": lambda: [
        f"{time:%d-%m-%Y %H:%M:%S}" if number % 2 else f"{time:%d-%m-%Y %H:%M}"
        for number, time in enumerate(pd.to_datetime(TIMES))
    ],
    "as a batch holds them": lambda: local("Asia/Kolkata"),
    "in nanoseconds": lambda: local("Asia/Kolkata").dt.as_unit("ns"),
    "in another zone": lambda: local("Asia/Kolkata").dt.tz_convert("America/New_York"),
    "without a zone": lambda: local("Asia/Kolkata").dt.tz_localize(None),
    "ISO 8601": lambda: TIMES,
    "ISO 8601 with a T": lambda: [time.replace(" ", "T") for time in TIMES],
    "ISO 8601 with an offset": lambda: local("Asia/Kolkata").astype(str),
    "ISO 8601 in UTC": lambda: [
        f"{time:%Y-%m-%dT%H:%M:%S}Z" for time in local("Asia/Kolkata").dt.tz_convert("UTC")
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_time_gives_the_same_parts_in_every_form(form: str, air_quality: Pipeline) -> None:
    column = air_quality.data.columns["last_update"]
    assert isinstance(column, TimeColumn)
    spelling = {"formats": list(column.formats), "timezone": column.timezone}
    parts = ["minute", "hour", "day", "weekday", "dayofyear", "month", "year"]
    assert timed(FORMS[form](), spelling, parts).tolist() == [
        [15, 10, 7, 1, 128, 5, 2024],
        [59, 23, 31, 1, 366, 12, 2024],
        [30, 0, 29, 3, 60, 2, 2024],
        [29, 5, 1, 0, 183, 7, 2024],
        [45, 18, 11, 3, 11, 1, 2024],
    ]


@pytest.mark.parametrize(
    ("formats", "text", "month"),
    [
        (["%d/%m/%Y", "%m/%d/%Y"], "05/07/2024", 7),
        (["%m/%d/%Y", "%d/%m/%Y"], "05/07/2024", 5),
        (["%Y-%d-%m"], "2024-05-07", 7),
        (["ISO8601", "%Y-%d-%m"], "2024-05-07", 5),
        (["%Y-%d-%m %H:%M%z"], "2024-05-07 23:30-0200", 7),
    ],
)
def test_the_first_format_that_fits_is_meant(formats: list[str], text: str, month: int) -> None:
    assert timed([text], {"formats": formats}, ["month"]).item() == month


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        ("epoch_seconds", ["1729980000", "1729962000.5"]),
        ("epoch_milliseconds", ["1729980000000", "1729962000500"]),
        ("excel_days", ["45592.0", "45591.791666666664"]),
    ],
)
def test_times_that_are_numbers_give_local_parts(form: str, texts: list[str]) -> None:
    column = {"formats": [form], "timezone": "Europe/Berlin"}
    assert timed(texts, column, ["hour", "day"]).tolist() == [[0, 27], [19, 26]]
    assert timed([float(text) for text in texts], column, ["hour"]).ravel().tolist() == [0, 19]


def test_times_that_state_a_zone_are_told_in_the_columns() -> None:
    column = {"formats": ["%d.%m.%Y %H:%M %z"], "timezone": "Europe/Berlin"}
    times = ["01.07.2024 22:30 +0000", "01.01.2024 22:30 +0000", "01.01.2024 22:30 -0500"]
    assert timed(times, column, ["hour"]).ravel().tolist() == [0, 23, 4]


def test_a_time_that_cannot_be_read_is_the_most_frequent_one() -> None:
    column = {"formats": ["%d-%m-%Y %H:%M"]}
    times = ["01-02-2024 10:00", "02-02-2024 10:00", "03-02-2024 11:00", "soon", None]
    assert timed(times, column, ["hour"]).ravel().tolist() == [10, 10, 11, 10, 10]


def test_raw_texts_and_batch_rows_give_the_same_features(air_quality: Pipeline) -> None:
    raw = raw_rows(20)
    typed = batch_rows(raw, air_quality)
    assert len(raw) == len(typed)
    steps = build_model(air_quality)[:-1].fit(typed)
    features = steps.transform(typed)
    assert features.shape == (120, 4 + 6 + 3)
    np.testing.assert_array_equal(steps.transform(raw), features)


TABLE = Pipeline.model_validate(
    {
        "name": "shop",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "price": {"type": "number"},
                "colour": {"type": "category"},
                "size": {"type": "category"},
                "bought": {"type": "category"},
            },
            "missing": ["", "-1", "?"],
        },
        "training": {
            "target": "bought",
            "task": "classification",
            "features": ["price", "colour", "size"],
        },
    }
)
ROWS = pd.DataFrame(
    {
        "price": [1.0, 2.0, np.nan, 9.0],
        "colour": pd.Series(["red", "blue", None, "red"], dtype="str"),
        "size": pd.Series(["40", "41", "40", "41"], dtype="str"),
        "bought": pd.Series(["yes", "no", "no", "yes"], dtype="str"),
    }
)


def test_missing_values_are_known_by_the_schemas_spellings() -> None:
    steps = build_model(TABLE)[:-1].fit(ROWS)
    raw = pd.DataFrame(
        {
            "price": ["1", "2.0", "-1", " 9"],
            "colour": ["red", " blue", "?", "red "],
            "size": [40, 41, 40, 41],
        }
    )
    features = steps.transform(raw)
    np.testing.assert_array_equal(features, steps.transform(ROWS))
    assert features.tolist() == [
        # price, colour: missing, blue, red; size: 40, 41
        [1, 0, 0, 1, 1, 0],
        [2, 0, 1, 0, 0, 1],
        [2, 1, 0, 0, 1, 0],
        [9, 0, 0, 1, 0, 1],
    ]


def test_a_category_that_was_not_there_is_no_known_one() -> None:
    steps = build_model(TABLE)[:-1].fit(ROWS)
    features = steps.transform(ROWS.assign(colour="green"))
    assert features[:, 1:4].sum() == 0


LEVELS = 3 * MOST_CATEGORY_COLUMNS


def _many_levels(rows: int) -> pd.DataFrame:
    """A colour for a few rows each, but for the frequent ones."""
    colours = [f"c{number % LEVELS}" for number in range(rows - 100)] + ["blue"] * 100
    price = np.arange(rows) % 17 / 2.0
    return pd.DataFrame({"price": price, "colour": colours, "size": "L", "bought": "yes"}).astype(
        {"colour": "str", "size": "str"}
    )


def test_of_many_categories_the_rarest_share_a_column_with_those_that_are_new() -> None:
    rows = _many_levels(LEVELS + 100)
    steps = build_model(TABLE)[:-1].fit(rows)
    features = steps.transform(rows)
    assert features.shape[1] <= MOST_CATEGORY_COLUMNS + 1
    columns = slice(1, features.shape[1] - 1)
    assert (features[:, columns].sum(axis=1) == 1).all()
    new = steps.transform(rows.assign(colour="green").head(1))[0, columns]
    blue = steps.transform(rows.tail(1))[0, columns]
    assert new.sum() == blue.sum() == 1
    assert new.argmax() != blue.argmax()


def test_the_importance_of_many_categories_is_that_of_all_their_columns() -> None:
    rows = _many_levels(LEVELS + 100)
    bought = np.where(rows["colour"] == "blue", "yes", "no").astype(object)
    model = build_model(TABLE).fit(rows, bought)
    shares = feature_importance(model, rows, TABLE.training)
    own = model.named_steps["estimator"].feature_importances_
    assert shares["price"] == pytest.approx(own[0])
    assert sum(shares.values()) == pytest.approx(1)


MEASURED = """
import resource
import numpy as np, pandas as pd
from services.trainer.estimators import build_model
from tests.unit.trainer.test_estimators import TABLE
number = np.arange(40_000)
rows = pd.DataFrame({"price": number % 13 / 1.0, "colour": [f"c{n % 8_000}" for n in number],
                     "size": "L"}).astype({"colour": "str", "size": "str"})
build_model(TABLE)[:-1].fit_transform(rows)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_the_memory_of_thousands_of_categories_is_bounded() -> None:
    """40,000 rows with 8,000 categories; a column each would take 2.6 GB."""
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", MEASURED],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 1_000_000, "kilobytes"


def test_columns_without_any_value_are_features_all_the_same() -> None:
    empty = ROWS.assign(price=np.nan, colour=pd.Series([None] * 4, dtype="str"))
    assert build_model(TABLE)[:-1].fit_transform(empty)[:, :2].tolist() == [[0, 1]] * 4


def test_the_importance_of_a_category_is_that_of_all_its_columns() -> None:
    rows = pd.concat([ROWS] * 10, ignore_index=True)
    model = build_model(TABLE).fit(rows, rows["bought"].to_numpy())
    shares = feature_importance(model, rows, TABLE.training)
    own = model.named_steps["estimator"].feature_importances_
    assert list(shares) == ["price", "colour", "size"]
    assert shares["colour"] == pytest.approx(own[1:4].sum())
    assert sum(shares.values()) == pytest.approx(1)


def test_an_estimator_that_learnt_nothing_gives_no_share() -> None:
    model = build_model(TABLE).fit(ROWS, np.array(["yes"] * 4, dtype=object))
    shares = feature_importance(model, ROWS, TABLE.training)
    assert shares == {"price": 0, "colour": 0, "size": 0}


def test_the_pickle_names_nothing_of_this_code(air_quality: Pipeline) -> None:
    model = pickle.dumps(build_model(air_quality).fit(*_example(air_quality)))
    assert b"services" not in model
    assert b"shared" not in model


def _example(pipeline: Pipeline) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    rows = batch_rows(raw_rows(5), pipeline).dropna()
    return rows[input_columns(pipeline)], rows["pollutant_avg"].to_numpy()


def test_the_model_asks_for_the_columns_that_it_uses(air_quality: Pipeline) -> None:
    model = build_model(air_quality).fit(*_example(air_quality))
    assert list(model.feature_names_in_) == [
        *("latitude", "longitude", "pollutant_min", "pollutant_max", "pollutant_id"),
        "last_update",
    ]
    assert "last_update" not in input_columns(with_training(air_quality, time_parts=()))


KINDS = {
    ("random_forest", "regression"): RandomForestRegressor,
    ("random_forest", "classification"): RandomForestClassifier,
    ("extra_trees", "regression"): ExtraTreesRegressor,
    ("extra_trees", "classification"): ExtraTreesClassifier,
    ("hist_gradient_boosting", "regression"): HistGradientBoostingRegressor,
    ("hist_gradient_boosting", "classification"): HistGradientBoostingClassifier,
    ("elastic_net", "regression"): ElasticNet,
    ("logistic_regression", "classification"): LogisticRegression,
}


def test_every_estimator_is_among_the_tested() -> None:
    assert {(name, task) for name, tasks in ESTIMATORS.items() for task in tasks} == set(KINDS)


@pytest.mark.parametrize(("name", "task"), KINDS)
def test_an_estimator_has_the_pipelines_parameters_and_seed(name: str, task: str) -> None:
    kind = KINDS[name, task]
    parameter = (
        {"tol": 0.01} if name in ("elastic_net", "logistic_regression") else {"max_depth": 3}
    )
    chosen = {"task": task, "estimator": name, "seed": 7, "parameters": parameter}
    estimator = build_model(with_training(TABLE, **chosen)).named_steps["estimator"]
    assert isinstance(estimator, kind)
    assert estimator.get_params() == kind(random_state=7, **parameter).get_params()


def for_task(pipeline: Pipeline, name: str, task: str) -> Pipeline:
    """The air quality pipeline with an estimator and small parameters, for either task."""
    small = {
        "random_forest": {"n_estimators": 8},
        "extra_trees": {"n_estimators": 8},
        "hist_gradient_boosting": {"max_iter": 25},
    }.get(name, {})
    if task == "regression":
        return with_training(pipeline, estimator=name, parameters=small)
    return with_training(
        pipeline,
        estimator=name,
        parameters=small,
        task=task,
        metric="log_loss",
        target="state",
        features=["latitude", "station"],
    )


@pytest.mark.parametrize(("name", "task"), KINDS)
def test_it_learns_from_batch_rows_and_predicts_raw_ones_the_same(
    name: str, task: str, air_quality: Pipeline
) -> None:
    pipeline = for_task(air_quality, name, task)
    raw = raw_rows(30)  # six rows a station: a leaf of gradient boosting takes 20
    rows = batch_rows(raw, pipeline)
    known = rows[rows[pipeline.training.target].notna()]
    target = known[pipeline.training.target].to_numpy()
    model = build_model(pipeline).fit(known, target)
    predict = model.predict if task == "regression" else model.predict_proba
    np.testing.assert_array_equal(predict(raw), predict(rows))
    if task == "regression":
        naive = mean_absolute_error(target, np.full(len(target), np.median(target)))
        assert mean_absolute_error(target, model.predict(known)) < naive / 2
    else:
        assert model.score(known, target) > 0.75


@pytest.mark.parametrize(("name", "task"), KINDS)
def test_of_rows_that_contradict_each_other_the_weightier_are_believed(
    name: str, task: str
) -> None:
    pipeline = with_training(TABLE, estimator=name, task=task)
    assert takes_weights(pipeline)
    rows = pd.concat([ROWS[:1]] * 60, ignore_index=True)
    target = np.repeat([10.0, 90.0] if task == "regression" else ["no", "yes"], 30)
    for weights, expected in (([1.0, 1e-3], target[0]), ([1e-3, 1.0], target[-1])):
        model = build_model(pipeline)
        model.fit(rows, target, estimator__sample_weight=np.repeat(weights, 30))
        predicted = model.predict(ROWS[:1]).item()
        assert predicted == (pytest.approx(expected, abs=1) if task == "regression" else expected)


@pytest.mark.parametrize(("name", "task"), KINDS)
def test_the_unit_of_a_number_does_not_matter(name: str, task: str, air_quality: Pipeline) -> None:
    pipeline = for_task(air_quality, name, task)
    rows = batch_rows(raw_rows(30), pipeline).dropna()
    target = rows[pipeline.training.target].to_numpy()
    # A power of two, so that the numbers are scaled without rounding and trees split the same.
    larger = rows.assign(latitude=rows["latitude"] * 2**20)
    there = build_model(pipeline).fit(larger, target).predict(larger)
    here = build_model(pipeline).fit(rows, target).predict(rows)
    if task == "regression":
        np.testing.assert_allclose(there, here, rtol=1e-6)
    else:
        np.testing.assert_array_equal(there, here)


def third_party(name: str, **changes: object) -> Pipeline:
    return with_training(
        TABLE, estimator=f"tests.third_party_estimators.{name}", task="regression", **changes
    )


def built(pipeline: Pipeline) -> object:
    return build_model(pipeline, (pipeline.training.estimator,)).named_steps["estimator"]


def test_a_class_of_others_is_used_where_it_is_allowed() -> None:
    pipeline = third_party("Constant", parameters={"share": 0.25}, target="price")
    allowed = ("another.Class", pipeline.training.estimator)
    model = build_model(pipeline, allowed).fit(ROWS, ROWS["price"].fillna(5).to_numpy())
    assert isinstance(model.named_steps["estimator"], third_party_estimators.Constant)
    assert model.predict(ROWS).tolist() == [3, 3, 3, 3]  # from 1 to 9
    assert not takes_weights(pipeline, allowed)


def test_a_classifier_of_others_is_used_where_it_is_allowed() -> None:
    pipeline = with_training(TABLE, estimator="tests.third_party_estimators.Shares")
    allowed = (pipeline.training.estimator,)
    assert takes_weights(pipeline, allowed)
    target = ROWS["bought"].to_numpy()
    weights = np.array([3, 1, 0, 0])
    model = build_model(pipeline, allowed).fit(ROWS, target, estimator__sample_weight=weights)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.predict_proba(ROWS[:1]).tolist() == [[0.25, 0.75]]


def test_nothing_is_imported_that_is_not_allowed() -> None:
    pipeline = with_training(TABLE, estimator="antigravity.Regressor")
    with pytest.raises(WillNotPass, match=r"antigravity.Regressor .*TRAINER_ALLOWED_ESTIMATORS"):
        build_model(pipeline, ("sklearn.linear_model.Ridge",))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        (with_training(TABLE, estimator="nowhere.near.It"), "'nowhere'.*install nowhere where"),
        (third_party("nearest.Centre"), "cannot be imported .*nearest"),
        (third_party("Nothing"), "tests.third_party_estimators has no class Nothing"),
        (third_party("time"), "tests.third_party_estimators has no class time"),
        (third_party("Bare"), "Bare is no scikit-learn-compatible estimator"),
        (third_party("Asking"), "Asking is no scikit-learn-compatible estimator: .*'share'"),
        (third_party("Shares"), "Shares is no estimator for regression"),
        (with_training(TABLE, estimator="sklearn.cluster.KMeans"), "no estimator for classific"),
        (with_training(TABLE, estimator="sklearn.svm.LinearSVC"), "which takes .*predict_proba"),
        (third_party("Constant", parameters={"shore": 1}), "shore: .* did you mean 'share'"),
        (third_party("Constant", parameters={"random_state": 1}), "random_state: .* no such"),
    ],
)
def test_a_class_of_others_that_cannot_be_used_is_an_error_that_says_why(
    pipeline: Pipeline, words: str
) -> None:
    with pytest.raises(WillNotPass, match=words):
        built(pipeline)


def test_values_of_others_parameters_are_left_to_their_fit() -> None:
    estimator = built(third_party("Constant", parameters={"share": "most"}))
    assert isinstance(estimator, third_party_estimators.Constant)
    assert estimator.share == "most"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"estimator": "random_wood"},
            "training.estimator: no 'random_wood'; .*random_forest.*TRAINER_ALLOWED_ESTIMATORS",
        ),
        (
            {"estimator": "elastic_net"},
            "training.estimator: elastic_net is not for classification; .*logistic_regression",
        ),
        (
            {"estimator": "logistic_regression", "task": "regression"},
            "training.estimator: logistic_regression is not for regression; .*elastic_net",
        ),
        (
            {"parameters": {"n_estimator": 5}},
            "training.parameters.n_estimator: .* did you mean 'n_estimators'",
        ),
        ({"parameters": {"gnarl": 5}}, "training.parameters.gnarl: .* it has: .*max_depth"),
        ({"parameters": {"max_depth": 0}}, "training.parameters.max_depth: .* Got 0"),
        ({"parameters": {"criterion": "mae"}}, "training.parameters.criterion: .* 'mae'"),
        ({"parameters": {"random_state": 1}}, "random_state: set training.seed instead"),
        ({"search": {"grid": {"max_dept": [3]}}}, "grid.max_dept: .* did you mean 'max_depth'"),
        ({"search": {"grid": {"max_depth": [3, 0]}}}, "training.search.grid.max_depth: .* Got 0"),
    ],
)
def test_what_the_estimator_does_not_take_is_an_error_that_names_it(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(WillNotPass, match=words):
        build_model(with_training(TABLE, **changes))


def test_a_time_is_no_feature(air_quality: Pipeline) -> None:
    with pytest.raises(WillNotPass, match=r"'last_update' is a time; .*training.time_parts"):
        build_model(with_training(air_quality, features=["latitude", "last_update"]))
