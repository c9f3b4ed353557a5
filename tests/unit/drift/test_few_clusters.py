"""A check whose rows are all of one cluster says that this is too little for a verdict."""

import numpy as np
import pandas as pd
import pytest

from services.drift import Profile, check
from services.drift.report.model import DriftReport
from shared.drift import Drift

ROWS = 200


def table(seed: int, clusters: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "value": rng.normal(shift, 1, ROWS),
            "hour": np.arange(ROWS) % clusters,
            "place": "north",
        }
    )


def checked(reference: int, batch: int, shift: float = 0.0) -> DriftReport:
    rows = table(2, batch, shift)
    return check(table(1, reference), rows, cluster=("hour", "place"))


NEEDS = "A verdict needs at least 2 clusters (rows equal in hour, place) in the reference and in"


@pytest.mark.parametrize(
    ("reference", "batch", "said"),
    [
        (1, 1, "the reference has 1 and the batch has 1."),
        (1, 50, "the reference has 1."),
        (50, 1, "the batch has 1."),
    ],
)
def test_one_cluster_is_too_few(reference: int, batch: int, said: str) -> None:
    report = checked(reference, batch)
    assert (report.verdict, report.needs_retraining) == ("insufficient data", False)
    assert report.reason == f"{NEEDS} the batch; {said}"
    assert report.p is None


def test_two_clusters_are_enough() -> None:
    assert checked(2, 2).verdict == "no drift"


def test_a_large_change_needs_to_know_how_clusters_differ() -> None:
    assert checked(50, 1, shift=5).verdict == "drift"
    report = checked(1, 50, shift=5)
    assert (report.verdict, report.reason) == (
        "insufficient data",
        f"{NEEDS} the batch; the reference has 1.",
    )


def test_clusters_are_counted_over_all_chunks() -> None:
    one, other = table(2, 1), table(3, 1).assign(hour=1)
    profile = Profile.fit(table(1, 50), cluster=("hour", "place"))
    assert check(profile, [one, one]).verdict == "insufficient data"
    assert check(profile, [one, other]).verdict == "no drift"


def test_a_row_without_a_value_is_a_cluster_of_its_own() -> None:
    rows = table(2, 1).assign(hour=None)
    assert check(table(1, 50), rows, cluster=("hour", "place")).verdict == "no drift"


def test_a_stored_profile_remembers_its_clusters() -> None:
    profile = Profile.from_bytes(Profile.fit(table(1, 1), cluster=("hour",)).to_bytes())
    assert check(profile, table(2, 50)).verdict == "insufficient data"


def test_rules_that_know_no_clusters_judge_as_before() -> None:
    settings = Drift(policy="mean_std_change")
    found = check(table(1, 1), table(2, 1), settings=settings, cluster=("hour",))
    assert found.verdict in ("drift", "no drift")
