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
    FEWEST_TRAINING_ROWS,
    Pool,
    Split,
    pool_of,
    split,
    wanted_rows,
)
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
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
    newest: int | None = None,
) -> Pool:
    """The pool of batches 1, 2, 3, …."""
    numbered = [(number, frame(rows)) for number, rows in enumerate(parts, start=1)]
    return pool_of(numbered, labels or [], pipeline, newest or len(parts))


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
    pool = pool_of([(0, old), (1, both)], [], KEYED, newest=1)
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


def many(count: int, hour: int, target: float | None = 1.0) -> list[Row]:
    return [(f"s{number} {hour}", hour, number, target) for number in range(count)]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([many(100, 1)], 20),
        ([many(100, 1), many(100, 2)], 40),
        ([many(900, 1), many(100, 2)], 50),
        ([many(900, 1), many(30, 2) + many(70, 3, None)], 15),
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
    parts: list[list[Row]], wanted: float
) -> None:
    pool = pooled(*parts)
    assert wanted_rows(pool, KEYED) == wanted
    assert len(split(pool.rows, KEYED, wanted).held_out) == wanted


@pytest.mark.parametrize("newest", [[], many(20, 3, None)], ids=["no row", "no target"])
def test_where_the_newest_batch_has_no_target_the_share_stands(newest: list[Row]) -> None:
    """As with a batch of late targets alone."""
    pool = pooled(many(100, 1), newest)
    assert wanted_rows(pool, KEYED) == 20


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
    with pytest.raises(WillNotPass, match=rf"of {len(rows)} rows have a value of y: .* takes 10"):
        split(frame(rows), PIPELINE, 10)


def test_the_fewest_rows_that_do() -> None:
    rows = frame([(f"station {n}", n, 1, 1.0) for n in range(FEWEST_TRAINING_ROWS + 1)])
    parts = split(rows, PIPELINE, 0.5)
    assert (len(parts.training), len(parts.held_out)) == (10, 1)


def test_half_of_the_newest_batch_is_left_to_learn_from() -> None:
    pool = pooled(many(900, 1), many(100, 2))
    parts = split(pool.rows, KEYED, wanted_rows(pool, KEYED))
    training, held_out = sides(pool.rows, parts)
    assert set(hours(held_out)) == {2}
    assert len(held_out) == 50
    assert hours(training).count(2) == 50


def test_a_champion_is_not_judged_on_what_it_learnt_as_long_as_batches_bring_newer_rows() -> None:
    """Batch by batch, whatever their sizes and the share of rows that have a target."""
    rng = np.random.default_rng(3)
    batches: list[list[Row]] = []
    learnt: set[tuple[object, ...]] = set()
    for hour in range(1, 15):
        size = int(rng.integers(40, 200))
        known = rng.random(size) < rng.choice([0.3, 0.6, 1.0])
        batches.append([(f"s{n}", hour, n, 1.0 if has else None) for n, has in enumerate(known)])
        pool = pooled(*batches)
        training, held_out = sides(pool.rows, split(pool.rows, KEYED, wanted_rows(pool, KEYED)))
        judged_on = set(held_out[["at", "station"]].itertuples(index=False, name=None))
        assert not judged_on & learnt
        learnt = set(training[["at", "station"]].itertuples(index=False, name=None))
