"""Counting: where each value falls, and that counts of parts add up to those of the whole."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import services.drift.calibration.binning as binning_module
from services.drift import Profile
from services.drift.calibration.binning import (
    MOST_PAIRS,
    Counts,
    pair_products,
    quantile_edges,
    value_hashes,
)
from services.drift.tables.frame import Frame


def table(rows: int, seed: int = 1) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "level": generator.normal(50, 10, rows),
            "stops": generator.poisson(2, rows).astype(float),
            "place": generator.choice(["north", "south", "west"], rows),
        }
    )
    frame.loc[generator.random(rows) < 0.05, "level"] = np.nan
    return frame


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.fit(table(2000), segment="place")


def same(one: Counts, other: Counts) -> bool:
    arrays = ("cells", "pair_sums", "pair_rows")
    return (
        one.rows == other.rows
        and one.new_categories == other.new_categories
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and np.allclose(one.moments, other.moments, rtol=1e-12)
    )


@given(st.lists(st.integers(0, 400), max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_counts_of_parts_add_up_in_any_order(
    profile: Profile, cuts: list[int], random: "np.random.Generator"
) -> None:
    rows = table(400, seed=2)
    bounds = sorted({0, 400, *cuts})
    parts = [profile.count(rows.iloc[start:end]) for start, end in itertools.pairwise(bounds)]
    random.shuffle(parts)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert same(total, profile.count(rows))


def test_blocks_counted_by_threads_are_the_whole(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(1000, seed=3)
    whole = profile.count(rows)
    monkeypatch.setattr(binning_module, "BLOCK_ROWS", 64)
    assert same(profile.count(rows), whole)


def test_each_kind_of_value_has_its_bin(profile: Profile) -> None:
    layout = profile.binning.layout
    edges = profile.binning.edges[0][0].at
    values = [edges[0], edges[0] - 1, edges[-1], edges[-1] + 1, np.nan, np.inf, -np.inf]
    counts = profile.count(pd.DataFrame({"level": values, "stops": 1.0, "place": "north"}))
    level = layout.numbers_of(counts.stacked.flat)[0, 0]
    assert level[: len(edges) + 1].sum() == 4
    assert level[0] == 2  # the first edge is below the smallest value: nothing of the reference
    assert level[len(edges) - 1] == 1
    assert level[len(edges)] == 1
    assert layout.missing_of(counts.stacked.flat)[0, 0] == 3


def test_new_unknown_and_missing_categories(profile: Profile) -> None:
    places = ["north", "east", "east", "moon", None, None]
    counts = profile.count(pd.DataFrame({"level": 50.0, "stops": 1.0, "place": places}))
    names = profile.binning.level_names(0)
    found = profile.binning.layout.categories_of(counts.stacked.flat)[0, 0]
    by_name = {name: found[bin_] for bin_, name in enumerate(names)}
    assert by_name == {
        "north": 1,
        "south": 0,
        "west": 0,
        "other values": 0,
        "new values": 3,
        "missing": 2,
    }
    assert counts.new_categories == {"place": {"east": 2, "moon": 1}}


def test_a_column_that_is_gone_is_missing_in_every_row(profile: Profile) -> None:
    counts = profile.count(pd.DataFrame({"level": [50.0] * 4}))
    layout = profile.binning.layout
    groups = profile.binning.groups
    assert layout.missing_of(counts.stacked.flat)[0, groups] == 4
    assert layout.categories_of(counts.stacked.flat)[0, 0, :].sum() == 4


def test_a_table_without_columns_has_no_rows(profile: Profile) -> None:
    counts = profile.count(pa.table({}))
    assert counts.rows == 0
    assert not counts.cells.any()


def test_edges_are_quantiles_and_out_of_range_bins_are_empty() -> None:
    values = np.random.default_rng(4).normal(size=5000)
    edges = quantile_edges(values)
    inside = np.searchsorted(edges.at, values)
    assert inside.min() == 1
    assert inside.max() == len(edges) - 1
    middle = np.searchsorted(np.sort(values), edges.at[len(edges) // 2]) / 5000
    assert middle == pytest.approx(0.5, abs=0.02)
    assert (np.diff(edges.at) > 0).all()
    assert len(quantile_edges(np.zeros(100))) == 2
    assert len(quantile_edges(np.arange(9.0))) == 0


finite = st.floats(allow_nan=False, allow_infinity=False)
lumps = st.lists(st.tuples(finite, st.integers(1, 40)), min_size=1, max_size=30)


@given(lumps)
@settings(deadline=None)
def test_edges_ascend_and_hold_all_values_for_any_numbers(lumps: list[tuple[float, int]]) -> None:
    values = np.repeat(*map(np.array, zip(*lumps, strict=True)))
    edges = quantile_edges(values)
    if not len(edges):
        return
    assert (np.diff(edges.at) > 0).all()
    assert len(edges.at) == len(edges.values)
    assert np.isin(edges.values, values).all()
    largest = np.finfo(float).max
    bins = np.searchsorted(edges.at, values)
    assert bins.max() < len(edges) or values.max() == largest
    assert bins.min() > 0 or values.min() == -largest
    # a bin is told by the largest value in it
    for bin_ in np.unique(bins[(bins > 0) & (bins < len(edges))]):
        assert values[bins <= bin_].max() == edges.values[bin_]


@given(
    st.lists(st.integers(-3000, 3000), min_size=10, max_size=300),
    st.sampled_from([0.1, 0.01, 1 / 3, 1e-9, 1e12]),
)
@settings(deadline=None)
def test_a_value_that_differs_in_its_last_digits_falls_into_the_same_bin(
    steps: list[int], unit: float
) -> None:
    values = np.array(steps) * unit
    edges = quantile_edges(values).at
    bins = np.searchsorted(edges, values)
    scale = values.std() or 1.0
    scaled = (values - values.mean()) / scale
    for again in (values.astype(np.float32).astype(float), scaled * scale + values.mean()):
        assert (np.searchsorted(edges, again) == bins).all()


def test_values_spelt_with_other_last_digits_within_one_reference_share_a_bin() -> None:
    tenths = np.round(np.random.default_rng(1).uniform(0, 2, 4000), 1)
    mixed = np.where(np.arange(4000) % 2, tenths, tenths.astype(np.float32))
    edges = quantile_edges(mixed).at
    assert (np.searchsorted(edges, tenths) == np.searchsorted(edges, mixed)).all()


@given(st.lists(st.text(max_size=8), max_size=40), st.integers(0, 3))
@settings(deadline=None)
def test_a_value_has_its_bucket_whoever_asks(values: list[str], seed: int) -> None:
    assert all((value_hashes(value) == value_hashes(value)).all() for value in values)
    profile = Profile.fit(table(200, seed), columns=("place",))
    both = profile.count(pd.DataFrame({"place": [*values, "north"]}))
    parts = [profile.count(pd.DataFrame({"place": [value]})) for value in [*values, "north"]]
    tested = [profile.binning.layout.buckets_of(c.stacked.flat)[0] for c in (both, *parts)]
    assert (tested[0] == sum(tested[1:])).all()
    assert tested[0].sum() == len(values) + 1


def test_hashes_are_those_of_every_version() -> None:
    assert value_hashes("Delhi").tolist()[:3] == [4019693100, 1552232080, 4065606389]
    assert len(value_hashes("")) == 16


def test_frequent_values_have_buckets_of_their_own() -> None:
    places = np.repeat([f"p{number}" for number in range(12)], 100)
    binning = Profile.fit(pd.DataFrame({"place": places})).binning
    buckets = [value_hashes(f"p{n}")[binning.hashes[0]] % binning.buckets for n in range(12)]
    assert len(set(buckets)) == 12


def test_of_many_columns_the_target_and_neighbours_are_paired() -> None:
    generator = np.random.default_rng(1)
    wide = pd.DataFrame(generator.normal(size=(30, 140)), columns=[f"x{n}" for n in range(140)])
    binning = Profile.fit(wide, target="x70").binning
    first, second = binning.pairs
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(first) == MOST_PAIRS == len(pairs)
    assert {(min(n, 70), max(n, 70)) for n in range(140) if n != 70} <= pairs
    assert {(n, n + 1) for n in range(139)} <= pairs
    assert (0, 139) not in pairs


@pytest.mark.parametrize("wanted", [1, 3, 60])
def test_products_of_pairs_are_the_same_however_they_are_made(wanted: int) -> None:
    columns = np.random.default_rng(1).integers(-9, 9, (150, 40)).astype(float)
    first, second = (part[:wanted] for part in np.triu_indices(150, 1))
    found = pair_products(columns, (first, second))
    assert (found == (columns @ columns.T)[first, second]).all()


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series([1.0, 2.0, np.nan]),
        pd.Series(["1", "2", "x"], dtype=object),
        pd.Series(["1", "2", None], dtype="category"),
        pd.Series([1, "2", None], dtype=object),
    ],
)
def test_numbers_of_every_spelling(column: pd.Series) -> None:
    found = Frame.of(pd.DataFrame({"x": column})).numbers("x")
    assert found == pytest.approx([1, 2, np.nan], nan_ok=True)


def test_whole_numbers_are_one_category_however_stored() -> None:
    spelt = [
        Frame(pa.table({"x": values})).categories("x")
        for values in (pa.array([1, 2, None]), pa.array([1.0, 2.0, None]))
    ]
    assert [labels for _, labels in spelt] == [("1", "2")] * 2
    assert [codes.tolist() for codes, _ in spelt] == [[0, 1, -1]] * 2


def test_chunks_with_dictionaries_of_their_own() -> None:
    chunks = [pa.array(part).dictionary_encode() for part in (["a", "b"], ["b", None, "c"])]
    codes, labels = Frame(pa.table({"x": pa.chunked_array(chunks)})).categories("x")
    assert [labels[code] if code >= 0 else None for code in codes] == ["a", "b", "b", None, "c"]
