"""The decision over all features of a batch."""

import numpy as np
import pandas as pd
import pytest

from services.drift.check import compare
from shared.pipeline import Drift


def table(shift: float = 0.0, rows: int = 200) -> pd.DataFrame:
    grid = np.linspace(0, 1, rows)
    return pd.DataFrame({"pollutant_min": 10 + grid + shift, "pollutant_max": 20 + grid})


def test_score_is_the_mean_over_features() -> None:
    found = compare(table(), table(shift=10.5), Drift(policy="mean_change", threshold=0.4))
    assert found.drifts == {
        "pollutant_min": pytest.approx(1.0),
        "pollutant_max": pytest.approx(0.0),
    }
    assert found.score == pytest.approx(0.5)
    assert (found.verdict, found.retrain) == ("drift", True)


def test_score_at_the_threshold_is_no_drift() -> None:
    found = compare(table(), table(shift=10.5), Drift(policy="mean_change", threshold=0.5))
    assert (found.verdict, found.retrain) == ("no drift", False)


def test_few_rows_give_figures_and_no_verdict() -> None:
    found = compare(table(), table(shift=50, rows=29), Drift(min_rows=30))
    assert (found.verdict, found.retrain, found.score) == ("insufficient data", False, None)
    assert found.stats["pollutant_min"].curr_rows == 29


def test_column_that_lost_all_its_values_is_a_finding() -> None:
    current = table().assign(pollutant_min=np.nan)
    found = compare(table(), current, Drift())
    assert found.drifts["pollutant_min"] == 1.0
    assert found.retrain


def test_no_feature_gives_no_score() -> None:
    assert compare(pd.DataFrame(), pd.DataFrame(index=range(99)), Drift()).score is None
