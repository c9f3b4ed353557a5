"""The calibrated check as a whole: its rates, its edges, its profile as a file."""

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from services.drift import Profile, check, performance
from services.drift.calibration.null import SIZES
from services.drift.policies.calibrated import threshold_of
from services.drift.policies.finding import Window
from services.drift.report.assembly import report
from shared.drift import Drift

QUICK = 300


def table(rows: int, generator: np.random.Generator, shift: float = 0.0) -> pd.DataFrame:
    common = generator.normal(size=rows)
    return pd.DataFrame(
        {
            "level": 50 + 10 * (common + generator.normal(shift, 1, rows)),
            "skewed": np.exp(common + generator.normal(size=rows)),
            "stops": generator.poisson(2, rows).astype(float),
            "place": generator.choice(["north", "south", "west"], rows, p=[0.6, 0.3, 0.1]),
        }
    )


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    return table(3000, np.random.default_rng(5))


@pytest.fixture(scope="module")
def profile(reference: pd.DataFrame) -> Profile:
    return Profile.fit(reference)


@pytest.mark.parametrize("rows", [10, 100, 1500])
def test_p_is_uniform_when_nothing_changes(profile: Profile, rows: int) -> None:
    generator = np.random.default_rng(rows)
    p = np.array([check(profile, table(rows, generator)).p for _ in range(QUICK)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.045)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.13)
    assert p.min() > 1e-5


@pytest.mark.parametrize("clustered", [True, False])
def test_rows_in_clusters_need_the_cluster_column(clustered: bool) -> None:
    generator = np.random.default_rng(6)

    def rows(clusters: int) -> pd.DataFrame:
        stations = table(clusters, generator)
        stations["station"] = generator.integers(0, 10**9, clusters).astype(str)
        return stations.loc[np.repeat(np.arange(clusters), 7)].reset_index(drop=True)

    cluster = ("station",) if clustered else ()
    columns = ("level", "skewed", "stops", "place")
    profile = Profile.fit(rows(400), cluster=cluster, columns=columns)
    rate = np.mean([(check(profile, rows(30)).p or 0) <= 0.05 for _ in range(100)])
    assert rate <= 0.13 if clustered else rate > 0.5


def test_larger_statistics_have_smaller_p(profile: Profile) -> None:
    for rows in (5, 30, 3000, 10**7):
        p = [profile.p(statistic, rows) for statistic in np.linspace(0, 60, 100)]
        assert all(a >= b > 0 for a, b in itertools.pairwise(p))
        assert profile.p(profile.statistic(0.001, rows), rows) == pytest.approx(0.001, rel=0.5)


@pytest.mark.parametrize(
    ("change", "kind", "column"),
    [
        ({"level": lambda rows: rows["level"] + 8}, "number", "level"),
        ({"level": lambda rows: 50 + (rows["level"] - 50) * 1.6}, "number", "level"),
        ({"level": np.nan}, "missing", "level"),
        ({"level": np.inf}, "missing", "level"),
        ({"level": "abc"}, "missing", "level"),
        ({"stops": 2.0}, "number", "stops"),
        ({"place": "moon"}, "category", "place"),
        (
            {"skewed": lambda rows: rows["skewed"].sample(frac=1, random_state=1).to_numpy()},
            "pair",
            "level",
        ),
    ],
)
def test_each_kind_of_change_is_named(
    profile: Profile, change: dict[str, object], kind: str, column: str
) -> None:
    report = check(profile, table(300, np.random.default_rng(7)).assign(**change))
    assert (report.verdict, report.needs_retraining) == ("drift", True)
    assert (report.cells[0].kind, report.cells[0].column) == (kind, column)
    assert report.cells[0].speaks


def test_certain_but_negligible_is_no_drift(profile: Profile) -> None:
    large = table(200_000, np.random.default_rng(8))
    generator = np.random.default_rng(9)
    precise = Profile.fit(table(200_000, generator))
    shifted = large.assign(level=large["level"] + 0.3)
    report = check(precise, shifted)
    assert report.verdict == "no drift"
    assert report.p is not None
    assert report.p < report.threshold
    assert "too little to matter" in report.reason
    assert check(precise, shifted, settings=Drift(min_effect=0)).verdict == "drift"


@pytest.mark.parametrize(
    ("rows", "verdict"), [(0, "no data"), (1, "insufficient data"), (4, "insufficient data")]
)
def test_few_rows_have_no_verdict(profile: Profile, rows: int, verdict: str) -> None:
    report = check(profile, table(rows, np.random.default_rng(1)))
    assert (report.verdict, report.needs_retraining, report.p) == (verdict, False, None)


def test_edges_of_a_reference_are_quiet_and_its_breaks_loud() -> None:
    generator = np.random.default_rng(10)

    def rows(number: int, **changes: object) -> pd.DataFrame:
        frame = pd.DataFrame(
            {
                "constant": np.full(number, 3.0),
                "empty": np.full(number, np.nan),
                "normal": generator.normal(size=number),
                "rare": (generator.random(number) < 0.001).astype(float),
                "one": ["z"] * number,
            }
        )
        return frame.assign(**changes)

    profile = Profile.fit(rows(2000), columns=("constant", "empty", "normal", "rare", "one"))
    quiet = [check(profile, rows(number)).verdict for number in (10, 300, 5000)]
    assert quiet == ["no drift"] * 3
    for broken in ({"constant": 4.0}, {"empty": 1.0}, {"normal": 50.0}, {"one": "y"}):
        assert check(profile, rows(60, **broken)).cells[0].column == next(iter(broken))
        assert check(profile, rows(60, **broken)).verdict == "drift"


@pytest.mark.parametrize("rows", [1, 2, 9, 10, 49])
def test_tiny_references_give_finite_figures(rows: int) -> None:
    generator = np.random.default_rng(11)
    profile = Profile.fit(table(rows, generator))
    windows = [Window(profile.count(table(100, generator)))]
    promoted = report(profile, windows, Drift(), name="tiny", is_promoted=True)
    assert promoted.p is not None
    assert 0 < promoted.p <= 1
    assert json.loads(promoted.model_dump_json())
    assert report(profile, windows, Drift(), name="tiny").verdict == "insufficient data"


def test_a_profile_read_from_a_file_checks_the_same(
    profile: Profile, reference: pd.DataFrame, tmp_path: Path
) -> None:
    current = table(250, np.random.default_rng(12), shift=0.2)
    profile.save(tmp_path / "reference.profile")
    again = Profile.load(tmp_path / "reference.profile")
    fields = {"timestamp"}
    assert check(again, current).model_dump(exclude=fields) == check(reference, current).model_dump(
        exclude=fields
    )
    assert again.to_bytes() == profile.to_bytes()
    cells = len(profile.tests.weights)
    assert len(profile.to_bytes()) < 2000 * cells
    assert len(SIZES) + 1 == len(json.loads(gzip.decompress(profile.to_bytes()))["null"])


def test_counts_read_from_bytes_are_the_counts(profile: Profile) -> None:
    counts = profile.count(table(250, np.random.default_rng(13)).assign(place="moon"))
    again = profile.load_counts(profile.dump_counts(counts))
    assert np.array_equal(again.cells, counts.cells)
    assert np.array_equal(again.moments, counts.moments)
    assert again.new_categories == {"place": {"moon": 250}}
    other = Profile.fit(table(100, np.random.default_rng(1))[["level"]])
    with pytest.raises(ValueError, match="counts of another profile"):
        other.load_counts(profile.dump_counts(counts))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rows",
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b'{"format": "trimtab-profile/9"}', mtime=0),
        gzip.compress(b"\xff\xfe", mtime=0),
    ],
)
def test_other_bytes_are_no_profile(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a profile"):
        Profile.from_bytes(data)


def test_a_cut_off_profile_is_refused(profile: Profile) -> None:
    with pytest.raises(ValueError, match="not a profile"):
        Profile.from_bytes(profile.to_bytes()[:-30])


_IN_ANOTHER_PROCESS = """
import hashlib, numpy as np, pandas as pd
from services.drift import Profile
g = np.random.default_rng(1)
rows = pd.DataFrame({"x": g.normal(size=500), "c": g.choice(list("abcdef"), 500)})
print(hashlib.sha256(Profile.fit(rows).to_bytes()).hexdigest())
"""


def test_the_same_reference_gives_the_same_bytes_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _IN_ANOTHER_PROCESS],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "PATH": ""},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    }
    assert len(digests) == 1


def test_chunks_are_one_batch(profile: Profile) -> None:
    rows = table(600, np.random.default_rng(14))
    whole = check(profile, rows)
    parts = check(profile, (rows.iloc[start : start + 100] for start in range(0, 600, 100)))
    assert (parts.p, parts.rows) == (whole.p, 600)
    with pytest.raises(ValueError, match="no table"):
        check(profile, iter(()))


def test_a_reference_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        Profile.fit(pd.DataFrame({"x": []}))


def test_correlations_against_numpy(profile: Profile) -> None:
    rows = table(20_000, np.random.default_rng(15), shift=1.0)
    found = profile.tests.correlations(profile.count(rows).stacked)[0]
    ranks = Profile.fit(rows[["level", "skewed"]], columns=("level", "skewed"))
    expected = ranks.tests.correlations(ranks.reference.stacked)[0, 0]
    assert expected == pytest.approx(
        rows[["level", "skewed"]].corr("spearman").iloc[0, 1], abs=0.03
    )
    assert found[0] == pytest.approx(expected, abs=0.08)  # a shift of a column is not one of a pair


def test_a_shift_of_both_columns_is_not_a_change_of_their_correlation(profile: Profile) -> None:
    rows = table(2000, np.random.default_rng(16))
    shifted = rows.assign(level=rows["level"] + 15, skewed=rows["skewed"] * 3)
    (pair,) = (
        cell
        for cell in check(profile, shifted).cells
        if cell.kind == "pair" and {cell.column, cell.other_column} == {"level", "skewed"}
    )
    assert pair.effect < 0.2


def test_data_and_error_share_the_false_alarms_that_are_accepted() -> None:
    for trigger, each in (("either", 0.5), ("data", 1), ("performance", 1), ("both", 1)):
        settings = Drift.model_validate({"trigger": trigger, "windows": [1, 6]})
        assert threshold_of(1, settings) == pytest.approx(each / 1000 / 2)
        assert threshold_of(6, settings) == pytest.approx(6 * each / 1000 / 2)
        assert performance.threshold_of(settings) == pytest.approx(each / 1000)


def test_values_that_differ_in_their_last_digits_have_not_changed() -> None:
    generator = np.random.default_rng(17)
    tenths = np.round(generator.uniform(0, 1, 2000), 1)
    reference = pd.DataFrame({"x": tenths, "y": generator.normal(size=2000)})
    for other in (tenths.astype(np.float32), (tenths - tenths.mean()) + tenths.mean()):
        report = check(reference, reference.assign(x=other.astype(float)))
        (cell,) = (cell for cell in report.cells if cell.kind == "number" and cell.column == "x")
        assert (report.verdict, cell.effect) == ("no drift", 0.0)
        assert cell.direction == "median 0.5 as before"


@pytest.mark.parametrize("rows", [10, 100, 1000])
def test_many_values_with_a_long_tail_are_no_drift(rows: int) -> None:
    generator = np.random.default_rng(rows)
    shares = np.arange(1, 301) ** -1.2
    shares /= shares.sum()

    def places(number: int) -> pd.DataFrame:
        drawn = generator.choice(300, number, p=shares).astype(str)
        return pd.DataFrame({"place": drawn, "level": generator.normal(size=number)})

    p = []
    for _ in range(10):
        profile = Profile.fit(places(1000), columns=("place", "level"))
        p += [check(profile, places(rows)).p for _ in range(30)]
    assert np.mean(np.array(p) <= 0.05) < 0.09
    assert min(p) > 1e-5


def test_rare_flags_have_no_correlation_to_test() -> None:
    generator = np.random.default_rng(18)
    flags = {f"f{flag}": (generator.random(1000) < 0.003).astype(int) for flag in range(3)}
    numbers = {name: generator.normal(size=1000) for name in ("x", "y")}
    profile = Profile.fit(pd.DataFrame({**flags, **numbers}))
    first, second = profile.binning.pairs
    tested = profile.tests.pair.tested
    assert list(zip(first[tested].tolist(), second[tested].tolist(), strict=True)) == [(3, 4)]


def test_the_report_says_which_pairs_are_compared_where_not_all_are() -> None:
    generator = np.random.default_rng(19)
    wide = pd.DataFrame(generator.normal(size=(200, 120)), columns=[f"x{n}" for n in range(120)])
    said = check(wide, wide.iloc[:50], target="x7").assumptions
    assert (
        "The correlations of 5,000 of 7,140 pairs of number columns are compared: the target with "
        "each column, then columns that stand next to each other."
    ) in said
    few = check(wide[["x1", "x2"]], wide.iloc[:50]).assumptions
    assert not any("correlations" in sentence for sentence in few)
