"""Which rows of a window are held out."""

from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.trainer.window import FEWEST_TRAINING_ROWS, Split, split
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from tests.air_quality_rows import with_training

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

examples = settings(max_examples=40, deadline=None)

ROW = st.tuples(
    st.sampled_from(["Agra", "Delhi", "Kadapa", "Nagaon", "Pune", "Satna", "Surat", None]),
    st.integers(0, 3),
    st.integers(0, 20),
    st.sampled_from([1.0, 2.0, 3.0, None]),
)
Row = tuple[str | None, int | None, int, float | None]

ALL_NEW = 1_000_000
"""More rows in the newest batch than there are: the share alone decides."""


def frame(rows: list[Row]) -> pd.DataFrame:
    """Rows of station, hour, x and y; their index numbers them."""
    table = pd.DataFrame(rows, columns=["station", "at", "x", "y"])
    table["station"] = table["station"].astype("str")
    at = pd.to_datetime(table["at"].astype(float), unit="h").dt.as_unit("us")
    return table.assign(at=at.dt.tz_localize("UTC"), y=table["y"].astype(float))


def divided(rows: pd.DataFrame, pipeline: Pipeline) -> Split:
    try:
        return split(rows, pipeline, ALL_NEW)
    except WillNotPass:
        assume(False)
        raise


def rows_of(size: int) -> st.SearchStrategy[pd.DataFrame]:
    return st.lists(ROW, min_size=size, max_size=2 * size).map(frame)


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_GROUP, WITHOUT_TIME]))
def test_every_row_with_a_target_is_on_exactly_one_side(
    rows: pd.DataFrame, pipeline: Pipeline
) -> None:
    parts = divided(rows, pipeline)
    both = [*parts.training.index, *parts.held_out.index]
    assert sorted(both) == list(rows.index[rows["y"].notna()])


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_GROUP]))
def test_no_held_out_row_is_older_than_a_training_row(
    rows: pd.DataFrame, pipeline: Pipeline
) -> None:
    parts = divided(rows, pipeline)
    assert parts.held_out["at"].min() >= parts.training["at"].max()


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_TIME]))
def test_a_group_is_not_divided(rows: pd.DataFrame, pipeline: Pipeline) -> None:
    parts = divided(rows, pipeline)
    columns = ["station", "at"] if pipeline.data.event_time else ["station"]
    groups = [
        set(part[columns].itertuples(index=False, name=None)) for part in vars(parts).values()
    ]
    assert not groups[0] & groups[1]


@examples
@given(rows_of(40), st.sampled_from([WITHOUT_GROUP, with_training(WITHOUT_TIME, group=())]))
def test_equal_rows_are_not_divided_where_there_is_no_group(
    rows: pd.DataFrame, pipeline: Pipeline
) -> None:
    parts = divided(rows, pipeline)
    assert not set(parts.training.itertuples(index=False, name=None)) & set(
        parts.held_out.itertuples(index=False, name=None)
    )


@examples
@given(rows_of(40), st.sampled_from([0.1, 0.2, 0.5]))
def test_no_block_more_is_held_out_than_the_share_asks_for(
    rows: pd.DataFrame, share: float
) -> None:
    parts = divided(rows, with_training(PIPELINE, test_share=share))
    wanted = share * rows["y"].notna().sum()
    oldest = parts.held_out[parts.held_out["at"] == parts.held_out["at"].min()]
    largest = oldest["station"].value_counts(dropna=False).max()
    assert len(parts.held_out) - largest < wanted <= len(parts.held_out)


@examples
@given(rows_of(40), st.sampled_from([PIPELINE, WITHOUT_GROUP, WITHOUT_TIME]), st.randoms())
def test_the_order_of_the_rows_changes_nothing(
    rows: pd.DataFrame, pipeline: Pipeline, random: object
) -> None:
    parts = divided(rows, pipeline)
    shuffle: Callable[[list[int]], None] = random.shuffle  # type: ignore[attr-defined]
    order = list(range(len(rows)))
    shuffle(order)
    again = split(rows.iloc[order], pipeline, ALL_NEW)
    assert set(again.held_out.index) == set(parts.held_out.index)


@examples
@given(rows_of(40), rows_of(10))
def test_what_was_trained_on_is_not_held_out_when_newer_rows_come(
    rows: pd.DataFrame, newer: pd.DataFrame
) -> None:
    before = divided(rows, PIPELINE)
    newer = newer.assign(at=newer["at"] + pd.Timedelta(hours=24))
    after = divided(pd.concat([rows, newer], ignore_index=True), PIPELINE)
    assert not set(before.training.index) & set(after.held_out.index)


def test_the_groups_of_the_newest_hour_are_chosen_by_a_hash_that_stays_the_same() -> None:
    rows = frame([(f"station {number}", 0, 0, 1.0) for number in range(20)])
    assert sorted(split(rows, PIPELINE, ALL_NEW).held_out["station"]) == [
        "station 0",
        "station 13",
        "station 16",
        "station 6",
    ]


def test_rows_without_a_time_count_as_the_oldest() -> None:
    timeless: list[Row] = [(f"station {number}", None, number, 1.0) for number in range(15)]
    timed: list[Row] = [(f"station {number}", 1, number, 1.0) for number in range(5)]
    assert split(frame([*timeless, *timed]), PIPELINE, ALL_NEW).held_out["at"].notna().all()


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
        split(frame(rows), PIPELINE, ALL_NEW)


def test_the_fewest_rows_that_do() -> None:
    rows = frame([(f"station {n}", n, 1, 1.0) for n in range(FEWEST_TRAINING_ROWS + 1)])
    parts = split(rows, with_training(PIPELINE, test_share=0.05), ALL_NEW)
    assert (len(parts.training), len(parts.held_out)) == (10, 1)


def test_half_of_the_newest_batch_is_left_to_learn_from() -> None:
    old = pd.DataFrame({"station": [f"s{n}" for n in range(900)], "hour": 1})
    new = pd.DataFrame({"station": [f"s{n}" for n in range(100)], "hour": 2})
    rows = pd.concat([old, new], ignore_index=True).assign(x=1.0, y=1.0)
    rows["at"] = pd.to_datetime(rows["hour"], unit="h", utc=True)
    parts = split(rows, PIPELINE, len(new))
    assert list(parts.held_out["hour"].unique()) == [2]
    assert len(parts.held_out) == 50
    assert (parts.training["hour"] == 2).sum() == 50
