"""Late targets find their rows by identity."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.labels import identity_of, join_labels
from shared.pipeline import Pipeline

IDENTITY = ["at", "place"]
KEYS = st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", None]))
TARGETS = st.one_of(st.none(), st.integers(0, 9))


def table(rows: list[tuple[tuple[int, str | None], float | None]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "at": pd.to_datetime([3600 * at for (at, _), _ in rows], unit="s", utc=True),
            "place": pd.Series([place for (_, place), _ in rows], dtype="str"),
            "y": pd.Series([y for _, y in rows], dtype="float64"),
        }
    )


@given(
    st.lists(st.tuples(KEYS, TARGETS)),
    st.lists(st.lists(st.tuples(KEYS, st.integers(0, 9))), max_size=3),
)
def test_a_row_keeps_its_own_target_else_has_the_first_that_came(
    rows: list[tuple[tuple[int, str | None], float | None]],
    labels: list[list[tuple[tuple[int, str | None], float | None]]],
) -> None:
    first: dict[tuple[int, str | None], float | None] = {}
    for each in labels:
        for key, target in each:
            first.setdefault(key, target)
    joined = join_labels(table(rows), [table(each) for each in labels], IDENTITY, "y")
    expected = [(key, first.get(key) if own is None else own) for key, own in rows]
    pd.testing.assert_frame_equal(joined, table(expected))


def test_rows_of_a_schema_without_the_target_get_theirs() -> None:
    rows = table([((0, "a"), None), ((1, "a"), None)]).drop(columns="y")
    rows.index = pd.Index([7, 3])
    joined = join_labels(rows, [table([((1, "a"), 4.0)])], IDENTITY, "y")
    assert joined["y"].isna().tolist() == [True, False]
    assert joined.loc[3, "y"] == 4.0


def test_a_changed_time_zone_does_not_part_rows_and_targets() -> None:
    rows = table([((0, "a"), None)])
    labels = table([((0, "a"), 4.0)])
    labels["at"] = labels["at"].dt.tz_convert("Asia/Kolkata")
    joined = join_labels(rows, [labels], IDENTITY, "y")
    assert joined["y"].tolist() == [4.0]
    assert joined["at"].dtype == rows["at"].dtype


@pytest.mark.parametrize("missing", ["at", "y"])
def test_labels_of_an_older_schema_are_left_out(missing: str) -> None:
    rows = table([((0, "a"), None)])
    assert join_labels(rows, [rows.drop(columns=missing)], IDENTITY, "y") is rows


def test_identity_is_the_time_and_the_key_or_all_columns(air_quality: Pipeline) -> None:
    schema = air_quality.data
    assert identity_of(schema) == ["last_update", "station", "pollutant_id"]
    keyless = schema.model_copy(update={"key": ()})
    assert identity_of(keyless)[0] == "last_update"
    assert set(identity_of(keyless)) == set(schema.columns)
