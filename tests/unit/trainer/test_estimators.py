"""The model's steps: parameters checked, and the same features from every form of a row."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from services.trainer.estimators import build_model, input_columns
from services.trainer.evaluation import feature_importance
from shared.failures import WillNotPass
from shared.pipeline import Pipeline, TimeColumn
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


def test_columns_without_any_value_are_features_all_the_same() -> None:
    empty = ROWS.assign(price=np.nan, colour=pd.Series([None] * 4, dtype="str"))
    assert build_model(TABLE)[:-1].fit_transform(empty)[:, :2].tolist() == [[0, 1]] * 4


def test_the_importance_of_a_category_is_that_of_all_its_columns() -> None:
    rows = pd.concat([ROWS] * 10, ignore_index=True)
    model = build_model(TABLE).fit(rows, rows["bought"].to_numpy())
    shares = feature_importance(model)
    own = model.named_steps["estimator"].feature_importances_
    assert list(shares) == ["price", "colour", "size"]
    assert shares["colour"] == pytest.approx(own[1:4].sum())
    assert sum(shares.values()) == pytest.approx(1)


def test_an_estimator_that_learnt_nothing_gives_no_share() -> None:
    model = build_model(TABLE).fit(ROWS, np.array(["yes"] * 4, dtype=object))
    assert feature_importance(model) == {"price": 0, "colour": 0, "size": 0}


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


@pytest.mark.parametrize(
    ("task", "kind"),
    [("regression", RandomForestRegressor), ("classification", RandomForestClassifier)],
)
def test_a_forest_has_the_pipelines_parameters_and_seed(task: str, kind: type) -> None:
    chosen = {"task": task, "seed": 7, "parameters": {"max_depth": 3}}
    forest = build_model(with_training(TABLE, **chosen)).named_steps["estimator"]
    assert isinstance(forest, kind)
    assert forest.get_params() == kind(random_state=7, max_depth=3).get_params()
    assert forest.n_estimators == 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"estimator": "random_wood"}, "training.estimator: no 'random_wood'; .*random_forest"),
        (
            {"parameters": {"n_estimator": 5}},
            "training.parameters.n_estimator: .* did you mean 'n_estimators'",
        ),
        ({"parameters": {"gnarl": 5}}, "training.parameters.gnarl: .* it has: .*max_depth"),
        ({"parameters": {"max_depth": 0}}, "training.parameters.max_depth: .* Got 0"),
        ({"parameters": {"criterion": "mae"}}, "training.parameters.criterion: .* 'mae'"),
        ({"parameters": {"random_state": 1}}, "random_state: set training.seed instead"),
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
