"""Which rows are at hand for a model, and which of them are held out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.trainer.window import (
    Mask,
    Pool,
    Split,
    hold_out,
    packed,
    pool_of,
    split,
    unpacked,
)
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.training import FEWEST_TRAINING_ROWS
from tests.air_quality_rows import with_training

ROOT = Path(__file__).parents[3]

PIPELINE = Pipeline.model_validate(
    {
        "name": "split",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "station": {"type": "category"},
                "at": {"type": "time", "required": False},
                "x": {"type": "number"},
                "y": {"type": "number"},
            },
            "event_time": "at",
        },
        "training": {"target": "y", "task": "regression", "features": ["x"], "group": ["station"]},
    }
)
WITHOUT_GROUP = with_training(PIPELINE, group=())
WITHOUT_TIME = PIPELINE.model_copy(
    update={"data": PIPELINE.data.model_copy(update={"event_time": None})}
)
KEYED = PIPELINE.model_copy(update={"data": PIPELINE.data.model_copy(update={"key": ("station",)})})

examples = settings(max_examples=40, deadline=None)

STATIONS = ["Agra", "Delhi", "Kadapa", "Nagaon", "Pune", "Satna", "Surat"]
ROW: st.SearchStrategy["Row"] = st.tuples(
    st.sampled_from([*STATIONS, None]),
    st.integers(0, 3),
    st.integers(0, 20),
    st.sampled_from([1.0, 2.0, 3.0, None]),
)
Row = tuple[str | None, int | None, int, float | None]


def frame(rows: list[Row]) -> pd.DataFrame:
    """Rows of station, hour, x and y; their index numbers them."""
    table = pd.DataFrame(rows, columns=["station", "at", "x", "y"])
    table["station"] = table["station"].astype("str")
    hour = pd.to_timedelta(table["at"].astype(float), unit="h").dt.as_unit("us")
    return table.assign(at=pd.Timestamp(0, tz="UTC") + hour, y=table["y"].astype(float))


def hours(rows: pd.DataFrame) -> list[int]:
    return [time.hour for time in rows["at"]]


# The rows at hand.


def pooled(
    *parts: list[Row],
    labels: list[pd.DataFrame] | None = None,
    pipeline: Pipeline = KEYED,
) -> Pool:
    """The pool of batches 1, 2, 3, …."""
    numbered = [(number, frame(rows)) for number, rows in enumerate(parts, start=1)]
    return pool_of(numbered, labels or [], pipeline)


def test_rows_are_in_the_order_of_time_with_the_number_of_their_batch() -> None:
    pool = pooled([("Agra", 3, 0, 1.0), ("Pune", 3, 0, 1.0)], [("Agra", 1, 0, 1.0)])
    assert hours(pool.rows) == [1, 3, 3]
    assert pool.batch.tolist() == [2, 1, 1]
    assert pool.rows.index.tolist() == [0, 1, 2]


def test_a_row_that_several_batches_hold_counts_for_the_latest() -> None:
    pool = pooled([("Agra", 1, 0, 1.0), ("Pune", 1, 0, 2.0)], [("Agra", 1, 5, 9.0)])
    assert sorted(zip(pool.rows["station"], pool.rows["y"], pool.batch, strict=True)) == [
        ("Agra", 9.0, 2),
        ("Pune", 2.0, 1),
    ]


def test_rows_that_the_reference_and_a_batch_hold_are_the_batchs() -> None:
    both = frame([("Agra", 1, 0, 1.0)])
    old = frame([("Pune", 0, 0, 1.0), ("Agra", 1, 0, 1.0)])
    pool = pool_of([(0, old), (1, both)], [], KEYED)
    assert pool.batch.tolist() == [0, 1]


def test_rows_without_a_time_come_first_and_stay() -> None:
    pool = pooled([("Agra", 2, 0, 1.0), ("Pune", None, 0, 1.0)], [("Surat", None, 0, 1.0)])
    assert pool.rows["station"].tolist() == ["Pune", "Surat", "Agra"]


def test_without_event_times_rows_are_in_the_order_of_batches() -> None:
    pool = pooled([("Pune", 3, 0, 1.0)], [("Agra", 1, 0, 1.0)], pipeline=WITHOUT_TIME)
    assert pool.rows["station"].tolist() == ["Pune", "Agra"]


def test_the_newest_rows_are_kept_of_more_than_fit() -> None:
    short = with_training(KEYED, max_window_rows=10)
    rows: list[Row] = [(f"station {number}", number % 4, 0, 1.0) for number in range(40)]
    pool = pooled(rows[:20], rows[20:], pipeline=short)
    assert hours(pool.rows) == [3] * 10
    assert len(pool.batch) == 10


def test_targets_that_came_late_are_filled_in_and_say_nothing_against_known_ones() -> None:
    late = frame([("Pune", 1, 0, 7.0), ("Agra", 1, 0, 8.0), ("Nobody", 1, 0, 9.0)])
    pool = pooled(
        [("Agra", 1, 0, 1.0), ("Pune", 1, 0, None), ("Surat", 1, 0, None)],
        labels=[late[["at", "station", "y"]]],
    )
    assert dict(zip(pool.rows["station"], pool.rows["y"].fillna(-1), strict=True)) == {
        "Agra": 1.0,
        "Pune": 7.0,
        "Surat": -1.0,
    }


BATCHES = st.lists(st.lists(ROW, min_size=1, max_size=12), min_size=1, max_size=5)


@examples
@given(BATCHES)
def test_no_row_stands_twice_and_none_is_lost(parts: list[list[Row]]) -> None:
    pool = pooled(*parts)
    assert not pool.rows.duplicated(["at", "station"]).any()
    assert set(pool.rows[["at", "station"]].itertuples(index=False, name=None)) == {
        row
        for part in parts
        for row in frame(part)[["at", "station"]].itertuples(index=False, name=None)
    }
    assert pool.rows["at"].is_monotonic_increasing
    assert set(pool.batch) <= set(range(1, len(parts) + 1))


# How many rows are held out.


def held_out(pool: Pool, pipeline: Pipeline = KEYED, learnt: Mask | None = None) -> pd.DataFrame:
    """The rows that are held out, the champion having learnt from some or from none."""
    no_row = np.zeros(len(pool.rows), dtype=bool)
    return pool.rows.iloc[hold_out(pool, pipeline, no_row if learnt is None else learnt).held_out]


def many(count: int, hour: int, target: float | None = 1.0) -> list[Row]:
    return [(f"s{number} {hour}", hour, number, target) for number in range(count)]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([many(100, 1)], 20),
        ([many(100, 1), many(100, 2)], 40),
        ([many(900, 1), many(100, 2)], 50),
        ([many(900, 1), many(50, 2) + many(50, 3, None)], 25),
        ([many(100, 1, None), many(100, 2)], 20),
    ],
    ids=[
        "the share of one batch",
        "the share of two",
        "half of a small newest batch",
        "half of those of it that have a target",
        "the share of those that have a target",
    ],
)
def test_a_share_is_held_out_and_half_of_the_newest_batch_at_most(
    parts: list[list[Row]], wanted: int
) -> None:
    assert len(held_out(pooled(*parts))) == wanted


@pytest.mark.parametrize("newest", [[], many(20, 3, None)], ids=["no row", "no target"])
def test_where_the_newest_batch_has_no_target_the_share_stands(newest: list[Row]) -> None:
    """As with a batch of late targets alone."""
    assert len(held_out(pooled(many(100, 1), newest))) == 20


def test_as_many_small_batches_give_rows_as_the_gate_asks_for() -> None:
    pool = pooled(*(many(10, hour) for hour in range(1, 11)))
    parts = hold_out(pool, KEYED, np.zeros(100, dtype=bool))
    assert np.unique(pool.batch[parts.held_out], return_counts=True)[1].tolist() == [5] * 4
    assert set(pool.batch[parts.held_out]) == {7, 8, 9, 10}


def test_batches_of_few_groups_give_rows_until_there_are_enough_groups() -> None:
    """Three stations a batch, others in the next one: five are wanted."""
    batches: list[list[Row]] = [
        [(f"s{hour % 3 * 3 + n % 3}", hour, n, 1.0) for n in range(60)] for hour in range(1, 11)
    ]
    pool = pooled(*batches, pipeline=PIPELINE)
    groups = held_out(pool, PIPELINE)["station"].nunique()
    assert groups == 5


def test_groups_that_there_are_not_do_not_take_half_of_all_rows() -> None:
    batches: list[list[Row]] = [
        [(f"s{n % 3}", hour, n, 1.0) for n in range(60)] for hour in range(1, 11)
    ]
    pool = pooled(*batches, pipeline=PIPELINE)
    assert len(held_out(pool, PIPELINE)) <= 0.2 * len(pool.rows) + 20


# Which rows are held out.


def divided(rows: pd.DataFrame, pipeline: Pipeline) -> Split:
    known = int(rows["y"].notna().sum())
    try:
        return split(rows, pipeline, pipeline.training.test_share * known)
    except WillNotPass:
        assume(False)
        raise


def sides(rows: pd.DataFrame, parts: Split) -> tuple[pd.DataFrame, pd.DataFrame]:
    return rows.iloc[parts.training], rows.iloc[parts.held_out]


def rows_of(size: int) -> st.SearchStrategy[pd.DataFrame]:
    return st.lists(ROW, min_size=size, max_size=2 * size).map(frame)


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_GROUP, WITHOUT_TIME]))
def test_every_row_with_a_target_is_on_exactly_one_side(
    rows: pd.DataFrame, pipeline: Pipeline
) -> None:
    parts = divided(rows, pipeline)
    both = [*parts.training, *parts.held_out]
    assert sorted(both) == list(np.flatnonzero(rows["y"].notna()))
    for side in (parts.training, parts.held_out):
        assert (np.diff(side) > 0).all()


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_GROUP]))
def test_no_held_out_row_is_older_than_a_training_row(
    rows: pd.DataFrame, pipeline: Pipeline
) -> None:
    training, held_out = sides(rows, divided(rows, pipeline))
    assert held_out["at"].min() >= training["at"].max()


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_TIME]))
def test_a_group_is_not_divided(rows: pd.DataFrame, pipeline: Pipeline) -> None:
    columns = ["station", "at"] if pipeline.data.event_time else ["station"]
    training, held_out = (
        set(side[columns].itertuples(index=False, name=None))
        for side in sides(rows, divided(rows, pipeline))
    )
    assert not training & held_out


@examples
@given(rows_of(40), st.sampled_from([WITHOUT_GROUP, with_training(WITHOUT_TIME, group=())]))
def test_equal_rows_are_not_divided_where_there_is_no_group(
    rows: pd.DataFrame, pipeline: Pipeline
) -> None:
    training, held_out = (
        set(side.itertuples(index=False, name=None))
        for side in sides(rows, divided(rows, pipeline))
    )
    assert not training & held_out


@examples
@given(rows_of(40), st.sampled_from([0.1, 0.2, 0.5]))
def test_no_block_more_is_held_out_than_is_wanted(rows: pd.DataFrame, share: float) -> None:
    _, held_out = sides(rows, divided(rows, with_training(PIPELINE, test_share=share)))
    wanted = share * rows["y"].notna().sum()
    oldest = held_out[held_out["at"] == held_out["at"].min()]
    largest = oldest["station"].value_counts(dropna=False).max()
    assert len(held_out) - largest < wanted <= len(held_out)


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_GROUP, WITHOUT_TIME]), st.randoms())
def test_the_order_of_the_rows_changes_nothing(
    rows: pd.DataFrame, pipeline: Pipeline, random: object
) -> None:
    parts = divided(rows, pipeline)
    shuffle: Callable[[list[int]], None] = random.shuffle  # type: ignore[attr-defined]
    order = list(range(len(rows)))
    shuffle(order)
    again = divided(rows.iloc[order], pipeline)
    assert {order[position] for position in again.held_out} == set(parts.held_out)


@examples
@given(rows_of(40), rows_of(10))
def test_what_was_trained_on_is_not_held_out_when_newer_rows_come(
    rows: pd.DataFrame, newer: pd.DataFrame
) -> None:
    before = divided(rows, PIPELINE)
    newer = newer.assign(at=newer["at"] + pd.Timedelta(hours=24))
    after = divided(pd.concat([rows, newer], ignore_index=True), PIPELINE)
    assert not set(before.training) & set(after.held_out)


TWENTY: list[Row] = [(f"station {number}", 0, 0, 1.0) for number in range(20)]
CHOSEN = ["station 0", "station 13", "station 16", "station 6"]


def test_the_groups_of_the_newest_hour_are_chosen_by_a_hash_that_stays_the_same() -> None:
    rows = frame(TWENTY)
    assert sorted(rows["station"].iloc[split(rows, PIPELINE, 4).held_out]) == CHOSEN


def test_the_groups_are_the_same_in_another_process_with_another_hash_seed() -> None:
    script = (
        "from tests.unit.trainer.test_window import *; rows = frame(TWENTY); "
        "print(sorted(rows['station'].iloc[split(rows, PIPELINE, 4).held_out]))"
    )
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == str(CHOSEN)


def test_rows_without_a_time_count_as_the_oldest() -> None:
    timeless: list[Row] = [(f"station {number}", None, number, 1.0) for number in range(15)]
    timed: list[Row] = [(f"station {number}", 1, number, 1.0) for number in range(5)]
    rows = frame([*timeless, *timed])
    assert rows["at"].iloc[split(rows, PIPELINE, 4).held_out].notna().all()


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no row"),
        pytest.param([("Agra", 0, 1, None)] * 50, id="no target"),
        pytest.param([("Agra", 0, 1, 1.0)] * 50, id="one group at one time"),
        pytest.param(
            [(f"station {n}", 0, 1, 1.0) for n in range(FEWEST_TRAINING_ROWS)], id="few rows"
        ),
    ],
)
def test_too_few_rows_are_an_error_that_counts_them(rows: list[Row]) -> None:
    with pytest.raises(
        WillNotPass, match=rf"of {len(rows)} rows have a value of y\. .* at least 10"
    ):
        split(frame(rows), PIPELINE, 10)


def test_the_fewest_rows_that_do() -> None:
    rows = frame([(f"station {n}", n, 1, 1.0) for n in range(FEWEST_TRAINING_ROWS + 1)])
    parts = split(rows, PIPELINE, 0.5)
    assert (len(parts.training), len(parts.held_out)) == (10, 1)


def test_half_of_the_newest_batch_is_left_to_learn_from() -> None:
    pool = pooled(many(900, 1), many(100, 2))
    parts = hold_out(pool, KEYED, np.zeros(1000, dtype=bool))
    training, judged_on = sides(pool.rows, parts)
    assert set(hours(judged_on)) == {2}
    assert len(judged_on) == 50
    assert hours(training).count(2) == 50


def numbers(pool: Pool, positions: np.ndarray) -> set[tuple[object, ...]]:
    """What names the rows at some positions of a pool, whatever its order."""
    return set(pool.rows.iloc[positions][["at", "station"]].itertuples(index=False, name=None))


SIZES = st.lists(st.integers(1, 120), min_size=2, max_size=12)


@examples
@given(SIZES, st.sampled_from([0.3, 0.6, 1.0]), st.integers(0, 1000))
def test_a_champion_is_not_judged_on_what_it_learnt(
    sizes: list[int], share: float, seed: int
) -> None:
    """Batch by batch, whatever their sizes and the share of rows that have a target.

    As soon as there are rows enough, no batch is too small to judge a model.
    """
    rng = np.random.default_rng(seed)
    batches: list[list[Row]] = []
    learnt: set[tuple[object, ...]] = set()
    for hour, size in enumerate(sizes, start=1):
        known = rng.random(size) < share
        batches.append([(f"s{n}", hour, n, 1.0 if has else None) for n, has in enumerate(known)])
        pool = pooled(*batches)
        if pool.rows["y"].notna().sum() < 2 * KEYED.gate.min_rows:
            continue
        names = list(pool.rows[["at", "station"]].itertuples(index=False, name=None))
        parts = hold_out(pool, KEYED, np.array([name in learnt for name in names]))
        assert parts.new_to_both
        assert not numbers(pool, parts.held_out) & learnt
        assert len(parts.held_out) >= KEYED.gate.min_rows
        if rng.random() < 0.5:  # it is promoted
            learnt = numbers(pool, parts.training)


@examples
@given(SIZES)
def test_no_batch_is_held_out_by_more_than_half(sizes: list[int]) -> None:
    pool = pooled(*(many(size, hour) for hour, size in enumerate(sizes, start=1)))
    assume(len(pool.rows) >= 2 * KEYED.gate.min_rows)
    parts = hold_out(pool, KEYED, np.zeros(len(pool.rows), dtype=bool))
    counts = np.bincount(pool.batch[parts.held_out], minlength=len(sizes) + 1)[1:]
    assert (counts <= np.ceil(np.array(sizes) / 2)).all()


@pytest.mark.parametrize("small", [10, 15, 60])
def test_a_group_that_leaves_too_few_rows_to_train_on_is_not_held_out(small: int) -> None:
    """All rows are of one time, so whole groups are held out, in the order of a hash."""
    for name in "abcdefgh":
        rows: list[Row] = [("large", 1, n, 1.0) for n in range(900)]
        rows += [(name, 1, n, 1.0) for n in range(small)]
        pool = pooled(rows, pipeline=PIPELINE)
        parts = hold_out(pool, PIPELINE, np.zeros(len(pool.rows), dtype=bool))
        assert len(parts.training) >= FEWEST_TRAINING_ROWS


def test_targets_that_come_later_are_judged_on_though_the_newest_batch_has_none() -> None:
    """The champion knows batch 1; batch 2 brought rows, batch 3 their targets."""
    late = frame(many(60, 2))[["at", "station", "y"]]
    pool = pooled(many(200, 1), many(60, 2, None), [], labels=[late])
    parts = hold_out(pool, KEYED, pool.batch == 1)
    assert set(pool.batch[parts.held_out]) == {2}
    assert parts.new_to_both


def test_a_champion_that_knows_every_row_is_said_to_know_them() -> None:
    pool = pooled(many(100, 1))
    parts = hold_out(pool, KEYED, np.ones(100, dtype=bool))
    assert len(parts.held_out) == 20
    assert not parts.new_to_both


def test_a_group_and_time_that_the_champion_knows_in_part_is_not_held_out() -> None:
    rows: list[Row] = [(f"s{n // 2}", 1, n, 1.0) for n in range(100)]
    pool = pooled(rows, pipeline=PIPELINE)
    learnt = (pool.rows["x"] % 2 == 0) & (pool.rows["x"] >= 40)
    assert held_out(pool, PIPELINE, learnt.to_numpy())["x"].max() < 40


@given(st.lists(st.booleans(), max_size=40))
def test_a_mask_is_kept_as_it_is(rows: list[bool]) -> None:
    assert unpacked(packed(np.array(rows, dtype=bool)), len(rows)).tolist() == rows
