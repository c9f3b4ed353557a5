"""The policy `columns`: whatever compares them, the columns that drifted most come first."""

import numpy as np
import pandas as pd
import pytest

from services.drift import check
from shared.drift import Drift

SHIFTS = {"far": 2.0, "little": 0.1, "nothing": 0.0, "some": 0.6}


def table(rows: int, shifts: dict[str, float]) -> pd.DataFrame:
    generator = np.random.default_rng(rows)
    numbers = {name: generator.normal(shift, 1, rows) for name, shift in shifts.items()}
    of_west = 0.2 + shifts["far"] / 4
    places = generator.choice(["north", "west"], rows, p=[1 - of_west, of_west])
    return pd.DataFrame(numbers | {"place": places})


@pytest.mark.parametrize("category", ["chi2", "jensen_shannon", "psi"])
@pytest.mark.parametrize("number", ["wasserstein", "ks", "psi", "jensen_shannon"])
def test_the_most_drifted_come_first(number: str, category: str) -> None:
    settings = Drift.model_validate(
        {"policy": "columns", "column_test": {"number": number, "category": category}}
    )
    reference = table(2000, dict.fromkeys(SHIFTS, 0.0))
    report = check(reference, table(500, SHIFTS), settings=settings)
    ranked = [name for name in report.feature_drifts if name != "place"]
    assert ranked[:2] == ["far", "some"]
    assert list(report.feature_drifts).index("place") < ranked.index("nothing") + 1
    figures = [report.feature_drifts[name] for name in ranked]
    assert figures == sorted(figures, reverse=number != "ks")


@pytest.mark.parametrize(("number", "largest_first"), [("psi", True), ("ks", False)])
def test_they_do_where_every_change_is_drift(number: str, largest_first: bool) -> None:
    test = {"number": number, "number_threshold": 0, "category": "psi", "category_threshold": 0}
    settings = Drift.model_validate({"policy": "columns", "column_test": test})
    reference = table(2000, dict.fromkeys(SHIFTS, 0.0))
    report = check(reference, table(500, SHIFTS), settings=settings)
    figures = [figure for name, figure in report.feature_drifts.items() if name != "place"]
    assert figures == sorted(figures, reverse=largest_first)


@pytest.mark.parametrize("policy", ["calibrated", "mean_change", "mean_std_change"])
def test_so_they_do_under_the_other_policies(policy: str) -> None:
    reference = table(2000, dict.fromkeys(SHIFTS, 1.0))
    report = check(reference, table(500, SHIFTS), settings=Drift.model_validate({"policy": policy}))
    figures = list(report.feature_drifts.values())
    assert figures == sorted(figures, reverse=True)
