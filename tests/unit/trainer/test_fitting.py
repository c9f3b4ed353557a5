"""The fit itself: how many cores it takes, and that this leaves no trace in the model."""

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import ElasticNet
from sklearn.pipeline import Pipeline as Steps
from threadpoolctl import threadpool_info

from services.trainer.artifact import dump_model
from services.trainer.fitting import fit, parallel
from shared.settings import Settings, read_settings


def settings_with(**keys: object) -> Settings:
    return read_settings(redis_url="redis://unused", mongodb_uri="mongodb://unused", **keys)


def table(rows: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    generator = np.random.default_rng(5)
    features = pd.DataFrame(generator.normal(size=(rows, 2)), columns=["a", "b"])
    return features, features["a"].to_numpy() + generator.normal(size=rows)


@pytest.mark.parametrize(
    ("given", "cores", "used"), [(None, None, joblib.cpu_count()), (None, 3, 3), (1, None, 1)]
)
def test_cores_are_used_and_forgotten(
    given: int | None, cores: int | None, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    grow = RandomForestRegressor.fit

    def noting_cores(forest: RandomForestRegressor, *rest: object, **keywords: object) -> object:
        seen.append(joblib.effective_n_jobs(forest.n_jobs))
        return grow(forest, *rest, **keywords)

    monkeypatch.setattr(RandomForestRegressor, "fit", noting_cores)
    model = Steps(
        [
            ("features", "passthrough"),
            ("estimator", RandomForestRegressor(n_estimators=3, n_jobs=given)),
        ]
    )
    rows, target = table()
    assert fit(model, rows, target, None, settings_with(trainer_cores=cores)) > 0
    assert seen == [used]
    assert model.named_steps["estimator"].n_jobs == given


def test_bytes_of_boosting_do_not_tell_the_cores() -> None:
    """Its bins keep a number of threads of their own."""
    rows, target = table()
    dumps = set()
    for cores in (1, 2):
        model = Steps(
            [
                ("features", "passthrough"),
                ("estimator", HistGradientBoostingRegressor(max_iter=3, random_state=1)),
            ]
        )
        fit(model, rows, target, None, settings_with(trainer_cores=cores))
        dumps.add(dump_model(model))
    assert len(dumps) == 1


def test_linear_algebra_has_one_thread_for_the_fit_alone() -> None:
    def threads(api: str) -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == api]

    before = threads("blas"), threads("openmp")
    with parallel(settings_with(trainer_cores=3)):
        assert set(threads("blas")) == {1}
        assert set(threads("openmp")) == {3}
    assert (threads("blas"), threads("openmp")) == before


def test_weights_reach_the_estimator() -> None:
    """A row that counts nothing might as well not be there."""
    rows, target = table()
    weights = np.r_[np.ones(40), np.zeros(20)]
    weighted, fewer = (
        Steps([("features", "passthrough"), ("estimator", ElasticNet(alpha=0.1))]) for _ in range(2)
    )
    fit(weighted, rows, target, weights, settings_with())
    fit(fewer, rows.head(40), target[:40], None, settings_with())
    np.testing.assert_allclose(weighted.predict(rows), fewer.predict(rows), rtol=1e-6)


def test_fitted_steps_are_those_of_a_plain_fit() -> None:
    rows, target = table()
    ours, plain = (
        Steps(
            [
                ("features", "passthrough"),
                ("estimator", RandomForestRegressor(n_estimators=5, random_state=1)),
            ]
        )
        for _ in range(2)
    )
    fit(ours, rows, target, None, settings_with())
    np.testing.assert_array_equal(ours.predict(rows), plain.fit(rows, target).predict(rows))


def test_cores_are_one_at_least() -> None:
    with pytest.raises(ValueError, match="TRAINER_CORES"):
        settings_with(trainer_cores=0)
