"""Models as bytes: the same model comes back, and only from bytes that were sealed."""

import io

import joblib
import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr
from sklearn.pipeline import Pipeline as Steps

from services.trainer.artifact import dump_model
from services.trainer.estimators import build_model, input_columns
from shared.artifacts import TamperedArtifact, sealed, sha256
from shared.pipeline import Pipeline
from shared.scoring import load_model
from tests.air_quality_rows import batch_rows, raw_rows, with_training
from tests.integration.publisher.promotions import model_version

KEY = SecretStr("a signing key for tests only")


@pytest.fixture(scope="module")
def rows(air_quality: Pipeline) -> pd.DataFrame:
    return batch_rows(raw_rows(20), air_quality).dropna()


@pytest.fixture(scope="module")
def model(air_quality: Pipeline, rows: pd.DataFrame) -> Steps:
    small = with_training(air_quality, parameters={"n_estimators": 5})
    return build_model(small).fit(rows[input_columns(small)], rows["pollutant_avg"].to_numpy())


def test_the_model_comes_back(model: Steps, rows: pd.DataFrame) -> None:
    data = dump_model(model)
    loaded = load_model(data, sealed(model_version(1, model=sha256(data)), KEY), KEY)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))


def new_text() -> str:
    return "".join(["the same ", "text"])


def new_type() -> np.dtype[np.void]:
    return np.dtype([("number", "i4")])


def with_parts(model: Steps, *parts: object) -> Steps:
    changed = Steps([*model.steps])
    changed.__dict__ |= {f"part_{at}": part for at, part in enumerate(parts)}
    return changed


def test_the_bytes_do_not_depend_on_which_equal_texts_are_one_object(model: Steps) -> None:
    text = new_text()
    apart = dump_model(with_parts(model, new_text(), new_text()))
    assert apart == dump_model(with_parts(model, text, text))


def test_the_bytes_do_not_depend_on_which_equal_types_are_one_object(model: Steps) -> None:
    kind = new_type()
    apart = dump_model(with_parts(model, new_type(), np.zeros(2, new_type())))
    assert apart == dump_model(with_parts(model, kind, np.zeros(2, kind)))


def test_the_bytes_do_not_depend_on_which_texts_of_arrays_are_one_object(model: Steps) -> None:
    text = new_text()
    array = np.array([text, text], dtype=object)
    others = [np.array([new_text(), new_text()], dtype=object) for _ in range(2)]
    assert dump_model(with_parts(model, *others)) == dump_model(with_parts(model, array, array))


def test_objects_of_an_array_come_back_in_its_shape(model: Steps) -> None:
    names = np.array([["a", "b", "a"], ["c", 1, None]], dtype=object, order="F")
    loaded = joblib.load(io.BytesIO(dump_model(with_parts(model, names)))).part_0
    np.testing.assert_array_equal(loaded, names)
    assert loaded.flags.f_contiguous


def test_joblib_alone_can_read_the_bytes(model: Steps, rows: pd.DataFrame) -> None:
    loaded = joblib.load(io.BytesIO(dump_model(model)))
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))


class RunsCode:
    """What an attacker's file does when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the bytes were unpickled",)


@pytest.mark.parametrize("sealed_by", [None, SecretStr("another key of some length")])
def test_bytes_that_are_not_the_sealed_ones_are_not_unpickled(
    sealed_by: SecretStr | None, model: Steps
) -> None:
    sink = io.BytesIO()
    joblib.dump(RunsCode(), sink)
    evil, good = sink.getvalue(), dump_model(model)
    record = model_version(1, model=sha256(evil if sealed_by else good))
    with pytest.raises(TamperedArtifact):
        load_model(evil, sealed(record, sealed_by or KEY), KEY)
