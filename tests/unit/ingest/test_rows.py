"""Rows against the schema: each is judged alone, by each of the rules."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.ingest.rows import Rows, validate_rows
from services.ingest.tables import FAULT, parse_json, read_file
from shared.failures import WillNotPass
from shared.pipeline import Pipeline, Schema

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "aqi"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
GOOD = {
    "country": "India",
    "state": "Delhi",
    "city": "Delhi",
    "station": "Anand Vihar, Delhi - DPCC",
    "last_update": "01-05-2026 17:00:00",
    "latitude": "28.647622",
    "longitude": "77.315809",
    "pollutant_id": "PM2.5",
    "pollutant_min": "12",
    "pollutant_max": "340",
    "pollutant_avg": "180",
}


def schema_of(columns: dict[str, Any], **others: Any) -> Schema:
    return Schema.model_validate({"columns": columns, **others})


def judge(schema: Schema, *rows: dict[str, str | None]) -> Rows:
    return validate_rows(pd.DataFrame(rows, dtype=object), schema, NOW)


def times_of(texts: list[str], **column: Any) -> Rows:
    table = pd.DataFrame({"at": texts}, dtype=object)
    return validate_rows(table, schema_of({"at": {"type": "time", **column}}), NOW)


def test_a_good_row_gets_its_types(air_quality: Pipeline) -> None:
    rows = judge(air_quality.data, GOOD)
    assert rows.reasons == {}
    assert rows.valid.columns.tolist() == list(air_quality.data.columns)
    (row,) = rows.valid.to_dict("records")
    assert row["last_update"] == datetime(2026, 5, 1, 11, 30, tzinfo=UTC)
    assert row["pollutant_max"] == 340.0
    assert row["station"] == "Anand Vihar, Delhi - DPCC"
    kinds = rows.valid.dtypes.astype("str").to_dict()
    assert kinds["last_update"] == "datetime64[us, Asia/Kolkata]"
    assert kinds["latitude"] == "float64"
    assert kinds["state"] == "str"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pollutant_min": "twelve"}, "pollutant_min: not a number"),
        ({"pollutant_min": "1_2"}, "pollutant_min: not a number"),
        ({"pollutant_min": "0x1f"}, "pollutant_min: not a number"),
        ({"pollutant_min": "nan"}, "pollutant_min: not a number"),
        ({"pollutant_max": "inf"}, "pollutant_max: not a number"),
        ({"pollutant_max": "-Infinity"}, "pollutant_max: not a number"),
        ({"pollutant_max": "1e999"}, "pollutant_max: not a number"),
        ({"pollutant_avg": "12\0"}, "pollutant_avg: not a number"),
        ({"pollutant_avg": "१२"}, "pollutant_avg: not a number"),
        ({"pollutant_min": "-1"}, "pollutant_min: below 0"),
        ({"latitude": "90.01"}, "latitude: above 90"),
        ({"longitude": "-181"}, "longitude: below -180"),
        ({"latitude": "NA"}, "latitude: missing"),
        ({"station": "  "}, "station: missing"),
        ({"last_update": "NA"}, "last_update: missing"),
        ({"last_update": "2026-05-01"}, "last_update: not a time"),
        ({"last_update": "31-04-2026 10:00:00"}, "last_update: not a time"),
        ({"last_update": "now"}, "last_update: not a time"),
        ({"last_update": "01-01-0001 00:00:00"}, "last_update: not a time"),
        ({"last_update": "01-05-2026 17:40:01"}, "last_update: in the future"),
        ({"pollutant_min": "341"}, "pollutant_min above pollutant_max"),
    ],
)
def test_a_bad_row_is_set_aside_and_the_others_go_on(
    air_quality: Pipeline, change: dict[str, str], reason: str
) -> None:
    rows = judge(air_quality.data, GOOD, GOOD | change, GOOD | {"station": "another"})
    assert rows.reasons == {reason: 1}
    assert rows.refused["reason"].tolist() == [reason]
    assert rows.valid["station"].tolist() == [GOOD["station"], "another"]


@pytest.mark.parametrize(
    "change",
    [
        {"pollutant_min": "NA", "pollutant_max": "NA", "pollutant_avg": "NA"},
        {"pollutant_min": "NA"},
        {"pollutant_max": " 1.2e1 ", "pollutant_avg": "+.5"},
        {"pollutant_min": "340"},
        {"latitude": "-90", "longitude": "180"},
        {"last_update": "01-05-2026 17:39:59"},
        {"last_update": "\t01-05-2026 17:00 "},
        {"state": None, "city": "NA"},
        {"station": "nul \0 inside"},
    ],
)
def test_what_is_no_fault(air_quality: Pipeline, change: dict[str, str | None]) -> None:
    assert judge(air_quality.data, GOOD | change).reasons == {}


def test_a_row_has_its_first_fault_only_and_reasons_are_counted(air_quality: Pipeline) -> None:
    twice = GOOD | {"latitude": "x", "pollutant_min": "-1"}
    rows = judge(air_quality.data, GOOD | {"pollutant_min": "-5"}, twice, twice)
    assert list(rows.reasons.items()) == [
        ("latitude: not a number", 2),
        ("pollutant_min: below 0", 1),
    ]


def test_refused_rows_keep_their_texts(air_quality: Pipeline) -> None:
    (row,) = judge(air_quality.data, GOOD | {"latitude": "91"}).refused.to_dict("records")
    assert row == GOOD | {"latitude": "91", "reason": "latitude: above 90"}


def test_a_row_of_a_wrong_form_is_set_aside(air_quality: Pipeline) -> None:
    rows = judge(
        air_quality.data, {**GOOD, FAULT: None}, {**GOOD, FAULT: "fewer values than columns"}
    )
    assert rows.reasons == {"row: fewer values than columns": 1}
    assert FAULT not in rows.refused
    assert len(rows.valid) == 1


@settings(deadline=None, max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(GOOD)),
            st.one_of(st.text(max_size=12), st.none(), st.floats().map(repr)),
        ),
        max_size=6,
    ),
)
@example([("last_update", "today"), ("latitude", "\0"), ("station", "\0")])
def test_the_verdict_on_a_row_does_not_depend_on_the_others(
    air_quality: Pipeline, changes: list[tuple[str, str | None]]
) -> None:
    table = [GOOD | {column: value} for column, value in changes] + [GOOD]
    together = judge(air_quality.data, *table)
    alone = [judge(air_quality.data, row) for row in table]
    assert len(together.valid) + len(together.refused) == len(table)
    assert sum(together.reasons.values()) == len(together.refused)
    pd.testing.assert_frame_equal(
        together.valid, pd.concat([each.valid for each in alone], ignore_index=True)
    )
    reasons = [reason for each in alone for reason in each.refused["reason"]]
    assert together.refused["reason"].tolist() == reasons


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_read_exactly(values: list[float]) -> None:
    table = pd.DataFrame({"x": [repr(value) for value in values]}, dtype=object)
    rows = validate_rows(table, schema_of({"x": {"type": "number"}}), NOW)
    assert rows.valid["x"].tolist() == values


def test_either_name_of_a_column_is_taken(air_quality: Pipeline) -> None:
    other = {
        name.replace("pollutant_", "") + "_value" if name[10:] in ("min", "max", "avg") else name: v
        for name, v in GOOD.items()
    }
    assert "min_value" in other
    (row,) = judge(air_quality.data, other).valid.to_dict("records")
    assert row["pollutant_min"] == 12.0
    assert row["pollutant_avg"] == 180.0


def test_both_names_in_one_table_are_one_column(air_quality: Pipeline) -> None:
    other = {**GOOD, "min_value": "13"}
    del other["pollutant_min"]
    rows = judge(air_quality.data, GOOD, other, GOOD | {"pollutant_min": "NA", "min_value": "14"})
    assert rows.valid["pollutant_min"].tolist() == [12.0, 13.0, 14.0]


def test_a_changed_form_names_what_is_missing_and_what_is_there(air_quality: Pipeline) -> None:
    changed = {("lat" if name == "latitude" else name): value for name, value in GOOD.items()}
    with pytest.raises(WillNotPass, match=r"no column latitude; it has .*\blat\b.*schema\.columns"):
        judge(air_quality.data, changed)


def test_the_text_about_a_changed_form_is_of_bounded_length(air_quality: Pipeline) -> None:
    with pytest.raises(WillNotPass) as caught:
        judge(air_quality.data, {f"column {number}": "" for number in range(5_000)})
    assert len(str(caught.value)) < 1_000


def test_other_columns_and_the_order_of_columns_do_not_matter(air_quality: Pipeline) -> None:
    shuffled = {"extra": "1", **dict(reversed(GOOD.items()))}
    expected = judge(air_quality.data, GOOD).valid
    pd.testing.assert_frame_equal(judge(air_quality.data, shuffled).valid, expected)


def test_the_event_time_is_required_even_if_its_column_is_not() -> None:
    schema = schema_of({"at": {"type": "time", "required": False}}, event_time="at")
    assert judge(schema, {"at": ""}).reasons == {"at: missing": 1}


def test_limits_are_written_in_full() -> None:
    schema = schema_of({"x": {"type": "number", "maximum": 12_345_678.5}})
    assert judge(schema, {"x": "1e9"}).reasons == {"x: above 12345678.5": 1}


ISO_TEXTS = {
    "2026-01-15": "2026-01-14T23:00Z",
    "2026-01-15T10:00:00": "2026-01-15T09:00Z",
    "2026-01-15 10:00": "2026-01-15T09:00Z",
    "2026-01-15T10:00Z": "2026-01-15T10:00Z",
    "20260115T100000Z": "2026-01-15T10:00Z",
    "2026-01-15T10:00:00.25+05:30": "2026-01-15T04:30:00.25Z",
    "2026-01-15T10:00:00 -0800": "2026-01-15T18:00Z",
    "2026-01-15T10+01": "2026-01-15T09:00Z",
}


@pytest.mark.parametrize("together", [True, False])
def test_iso_times_with_and_without_zone(together: bool) -> None:
    groups = [list(ISO_TEXTS)] if together else [[text] for text in ISO_TEXTS]
    frames = [times_of(group, timezone="Europe/Berlin").valid for group in groups]
    read = [time for frame in frames for time in frame["at"]]
    assert read == [datetime.fromisoformat(expected) for expected in ISO_TEXTS.values()]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(-8_000_000_000, 1_700_000_000),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
    st.sampled_from(["auto", "minutes", "seconds"]),
)
def test_a_stated_zone_is_kept_to(seconds: int, offset: int, sep: str, detail: str) -> None:
    moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).replace(tzinfo=None)
    sign, (hours, minutes) = ("-" if offset < 0 else "+"), divmod(abs(offset), 60)
    text = f"{moment.isoformat(sep, detail)}{sign}{hours:02}:{minutes:02}"
    (read,) = times_of([text], timezone="Asia/Kolkata").valid["at"]
    assert read.to_pydatetime() == datetime.fromisoformat(text)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.sampled_from("0123456789-+:.TZ nowtday/"), max_size=25), min_size=1))
def test_no_text_breaks_the_time_reader(texts: list[str]) -> None:
    rows = times_of(texts, timezone="Europe/Berlin", formats=("ISO8601", "%d-%m-%Y %H:%M"))
    assert len(rows.valid) + len(rows.refused) == len(texts)
    for time in rows.valid["at"]:
        assert time.to_pydatetime().astimezone(UTC) <= NOW + timedelta(minutes=10)


def test_formats_with_a_zone_of_their_own() -> None:
    rows = times_of(
        ["01/05/2026 10:00 +0200", "01/05/2026 10:00"],
        timezone="Asia/Kolkata",
        formats=("%d/%m/%Y %H:%M %z", "%d/%m/%Y %H:%M"),
    )
    assert rows.valid["at"].tolist() == [
        datetime(2026, 5, 1, 8, tzinfo=UTC),
        datetime(2026, 5, 1, 10, tzinfo=ZoneInfo("Asia/Kolkata")),
    ]


@pytest.mark.parametrize("text", ["2025-03-30 02:30", "2025-10-26 02:30"])
def test_local_times_that_a_change_of_the_clocks_skips_or_repeats(text: str) -> None:
    rows = times_of([text, f"{text}+01:00", "2025-03-30 03:30"], timezone="Europe/Berlin")
    assert rows.reasons == {"at: skipped or repeated by a change of the clocks": 1}
    assert len(rows.valid) == 2


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded answers are not here")
def test_all_rows_of_all_recorded_answers_are_good(air_quality: Pipeline) -> None:
    for path in sorted(RECORDED.glob("*.csv")):
        table = read_file(path)
        rows = validate_rows(table, air_quality.data, NOW)
        assert (path.name, rows.reasons) == (path.name, {})
        assert len(rows.valid) == len(table) > 3_000
        hour = datetime.fromisoformat(path.stem).replace(tzinfo=ZoneInfo("Asia/Kolkata"))
        assert set(rows.valid["last_update"]) == {hour}
        assert 0.02 < rows.valid["pollutant_avg"].isna().mean() < 0.1


def test_a_json_answer_and_a_csv_answer_are_the_same_rows(air_quality: Pipeline) -> None:
    numbers = ("latitude", "longitude", "pollutant_min", "pollutant_max", "pollutant_avg")
    bare = ",".join(
        f'"{name}": {value}' if name in numbers else f'"{name}": "{value}"'
        for name, value in GOOD.items()
    )
    rows = validate_rows(parse_json(f"[{{{bare}}}]"), air_quality.data, NOW)
    pd.testing.assert_frame_equal(rows.valid, judge(air_quality.data, GOOD).valid)
