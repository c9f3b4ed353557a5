"""The fit itself: how many cores it takes, and that this leaves no trace in the model."""

import joblib
import pytest
from sklearn.ensemble import RandomForestRegressor

from services.trainer.train import fit_challenger
from shared.pipeline import Pipeline
from tests.air_quality_rows import batch_rows, raw_rows, with_training


@pytest.mark.parametrize(
    ("parameters", "during", "after"),
    [({}, joblib.cpu_count(), None), ({"n_jobs": 1}, 1, 1), ({"n_jobs": None}, None, None)],
)
def test_the_cores_are_used_and_forgotten_unless_the_pipeline_sets_them(
    parameters: dict[str, object],
    during: int | None,
    after: int | None,
    air_quality: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int | None] = []
    fit = RandomForestRegressor.fit

    def noting_cores(forest: RandomForestRegressor, *arguments: object) -> object:
        seen.append(forest.n_jobs)
        return fit(forest, *arguments)

    monkeypatch.setattr(RandomForestRegressor, "fit", noting_cores)
    pipeline = with_training(air_quality, parameters={"n_estimators": 3} | parameters)
    challenger = fit_challenger(batch_rows(raw_rows(5), pipeline).dropna(), pipeline)
    assert seen == [during or joblib.cpu_count()]
    assert challenger.model.named_steps["estimator"].n_jobs is after
    assert challenger.fit_seconds > 0
