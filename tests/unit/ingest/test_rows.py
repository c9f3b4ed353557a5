"""Rows against the schema: each is judged alone, by each of the rules."""

import time
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
from shared.frames import from_parquet, to_parquet
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


def reasons_of(rows: Rows) -> list[str]:
    """Column and reason of each refused row."""
    faults = rows.faults.to_dict("records")
    return [f"{fault['column'] or 'row'}: {fault['reason']}" for fault in faults]


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
        ({"pollutant_min": "341"}, "pollutant_min: above pollutant_max"),
    ],
)
def test_a_bad_row_is_set_aside_and_the_others_go_on(
    air_quality: Pipeline, change: dict[str, str], reason: str
) -> None:
    rows = judge(air_quality.data, GOOD, GOOD | change, GOOD | {"station": "another"})
    assert reasons_of(rows) == [reason]
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
        (
            "latitude: not a number (such as 'x'); "
            "accepted: a finite decimal number such as -1.5 or 2e3",
            2,
        ),
        ("pollutant_min: below 0 (such as '-5'); accepted: at least 0", 1),
    ]


def test_refused_rows_keep_their_texts(air_quality: Pipeline) -> None:
    rows = judge(air_quality.data, GOOD | {"latitude": "91"})
    assert rows.refused.to_dict("records") == [GOOD | {"latitude": "91"}]
    assert rows.faults.to_dict("records") == [
        {"column": "latitude", "value": "91", "reason": "above 90", "accepted": "at most 90"}
    ]


def test_a_row_of_a_wrong_form_is_set_aside(air_quality: Pipeline) -> None:
    rows = judge(
        air_quality.data, {**GOOD, FAULT: None}, {**GOOD, FAULT: "fewer values than columns"}
    )
    assert reasons_of(rows) == ["row: fewer values than columns"]
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
    faults = [fault for each in alone for fault in each.faults.to_dict("records")]
    assert together.faults.to_dict("records") == faults


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
    assert reasons_of(judge(schema, {"at": ""})) == ["at: missing"]


def test_limits_are_written_in_full() -> None:
    schema = schema_of({"x": {"type": "number", "maximum": 12_345_678.5}})
    assert reasons_of(judge(schema, {"x": "1e9"})) == ["x: above 12345678.5"]


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
    read = [at for frame in frames for at in frame["at"]]
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
    for at in rows.valid["at"]:
        assert at.to_pydatetime().astimezone(UTC) <= NOW + timedelta(minutes=10)


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
    texts = [text, f"{text}+01:00", "2025-03-30 03:30"]
    rows = times_of(texts, timezone="Europe/Berlin", clock_change="set_aside")
    assert reasons_of(rows) == ["at: skipped or repeated by a change of the clocks"]
    assert len(rows.valid) == 2


@pytest.mark.parametrize(
    ("text", "zone", "earlier", "later"),
    [
        ("2025-10-26 02:30", "Europe/Berlin", "2025-10-26T00:30Z", "2025-10-26T01:30Z"),
        ("2025-03-30 02:30", "Europe/Berlin", "2025-03-30T01:30Z", "2025-03-30T00:30Z"),
        ("2025-04-06 01:45", "Australia/Lord_Howe", "2025-04-05T14:45Z", "2025-04-05T15:15Z"),
    ],
)
def test_what_a_repeated_or_skipped_local_time_means_can_be_stated(
    text: str, zone: str, earlier: str, later: str
) -> None:
    for how, expected in ({}, earlier), ({"clock_change": "later"}, later):
        (read,) = times_of([text], timezone=zone, **how).valid["at"]
        # Python calls no time of a repeated hour equal to one of another zone
        assert read.tz_convert("UTC") == datetime.fromisoformat(expected)


MIDNIGHTS = [
    ("2024-10-26 24:00:00", "ISO8601", "2024-10-26T22:00Z"),
    ("2024-10-26T24:00", "ISO8601", "2024-10-26T22:00Z"),
    ("2024-10-26T24:00:00.000Z", "ISO8601", "2024-10-27T00:00Z"),
    ("2024-10-26T24:00:00+02:00", "ISO8601", "2024-10-26T22:00Z"),
    ("20241026T240000", "ISO8601", "2024-10-26T22:00Z"),
    ("26.10.2024 24:00", "%d.%m.%Y %H:%M", "2024-10-26T22:00Z"),
    ("24:00 26/10/24", "%H:%M %d/%m/%y", "2024-10-26T22:00Z"),
    ("2023-12-31 24:00", "ISO8601", "2023-12-31T23:00Z"),
    ("2024-02-28 24:00", "ISO8601", "2024-02-28T23:00Z"),
]


@pytest.mark.parametrize(("text", "form", "expected"), MIDNIGHTS)
def test_the_midnight_that_ends_a_day(text: str, form: str, expected: str) -> None:
    (read,) = times_of([text], timezone="Europe/Berlin", formats=(form,)).valid["at"]
    assert read.tz_convert("UTC") == datetime.fromisoformat(expected)


@pytest.mark.parametrize("text", ["2024-10-26 24:01", "2024-10-26 25:00", "2024-10-26 24:00:01"])
def test_what_is_no_midnight(text: str) -> None:
    assert reasons_of(times_of([text])) == ["at: not a time"]


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("1729929600", "epoch_seconds", "2024-10-26T08:00Z"),
        ("1729929600.25", "epoch_seconds", "2024-10-26T08:00:00.25Z"),
        ("1.7299296e9", "epoch_seconds", "2024-10-26T08:00Z"),
        ("-86400", "epoch_seconds", "1969-12-31T00:00Z"),
        ("1729929600250", "epoch_milliseconds", "2024-10-26T08:00:00.25Z"),
        ("45591", "excel_days", "2024-10-25T22:00Z"),
        ("45591.75", "excel_days", "2024-10-26T16:00Z"),
        ("45591.0416666667", "excel_days", "2024-10-25T23:00Z"),
    ],
)
def test_numbers_can_be_times(text: str, form: str, expected: str) -> None:
    formats = ("%d.%m.%Y %H:%M", form)
    (read,) = times_of([text], timezone="Europe/Berlin", formats=formats).valid["at"]
    assert read == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1729929600000", "epoch_seconds"),
        ("1e300", "epoch_milliseconds"),
        ("noon", "epoch_seconds"),
        ("60", "excel_days"),
        ("3000000", "excel_days"),
        ("1729929600", "ISO8601"),
    ],
)
def test_what_is_no_time_is_told_with_its_value_and_the_formats(text: str, form: str) -> None:
    rows = times_of([text], formats=("%d.%m.%Y", form))
    accepted = f"accepted: %d.%m.%Y, {form}"
    assert rows.reasons == {f"at: not a time (such as {text!r}); {accepted}": 1}


def test_a_misspelt_format_is_refused() -> None:
    with pytest.raises(ValueError, match="'epoch_second' is no format of a time; use a strptime"):
        schema_of({"at": {"type": "time", "formats": ["epoch_second"]}})


KEYED = schema_of({"id": {"type": "number"}, "x": {"type": "number"}}, key=["id"])
BIG = 2**53


def ids(*texts: str) -> Rows:
    return judge(KEYED, *({"id": text, "x": "1"} for text in texts))


def test_number_keys_beyond_the_reach_of_floats_are_kept_exactly() -> None:
    keys = [str(BIG + number) for number in range(40)] + ["9" * 38, f"-{BIG + 1}", "3", ""]
    rows = ids(*keys)
    assert rows.reasons == {}
    assert rows.valid["id"].tolist()[:43] == [int(key) for key in keys[:43]]
    assert rows.valid["id"].tolist()[43] is None
    assert rows.valid["id"].nunique() == 43
    stored = from_parquet(to_parquet(rows.valid))
    assert stored["id"].tolist() == rows.valid["id"].tolist()


@pytest.mark.parametrize(
    "text",
    ["9.007199254740993e15", "1.23e17", f"{BIG}.0", "1" * 39, "0.12345678901234567890", "1e-50"],
)
def test_a_key_that_has_lost_digits_is_told(text: str) -> None:
    rows = ids("1", text)
    assert reasons_of(rows) == ["id: a key that has lost digits"]
    (reason,) = rows.reasons
    assert text[:38] in reason
    assert "a whole number written in full" in reason
    assert "type category" in reason


@pytest.mark.parametrize(
    ("one", "other"), [("3", "3.0"), ("3", " 3 "), ("007", "7"), ("1e3", "1000"), ("-0", "0")]
)
def test_spellings_of_one_number_are_one_key(one: str, other: str) -> None:
    first, second = ids(one, other).valid["id"]
    assert first == second
    first, second, _ = ids(one, other, str(BIG + 1)).valid["id"]
    assert first == second


def test_of_a_category_each_spelling_is_another_key() -> None:
    schema = schema_of({"id": {"type": "category"}}, key=["id"])
    assert judge(schema, {"id": "007"}, {"id": "7"}).valid["id"].tolist() == ["007", "7"]


def test_numbers_that_are_no_keys_may_have_any_number_of_digits() -> None:
    rows = judge(KEYED, {"id": "1", "x": "1.23e17"}, {"id": "2", "x": "0.12345678901234567890"})
    assert rows.reasons == {}
    assert rows.valid.dtypes.astype(str).tolist() == ["float64", "float64"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, unique=True))
def test_different_whole_numbers_are_different_keys(numbers: list[int]) -> None:
    rows = ids(*map(str, numbers))
    assert from_parquet(to_parquet(rows.valid))["id"].nunique() == len(numbers)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("latitude", "1" * 160_000 + "x"),
        ("latitude", "1" * 401),
        ("last_update", "2026-01-01 " * 20_000),
        ("last_update", "1" * 160_000),
        ("station", "x" * 160_000),
        ("pollutant_id", "x" * 10_001),
    ],
)
def test_a_huge_cell_spoils_its_row_alone_and_takes_no_time(
    air_quality: Pipeline, column: str, cell: str
) -> None:
    begun = time.perf_counter()
    rows = judge(air_quality.data, GOOD, GOOD | {column: cell}, GOOD | {"station": "another"})
    assert time.perf_counter() - begun < 2
    assert len(rows.valid) == 2
    assert rows.faults["column"].tolist() == [column]
    assert all(len(reason) < 400 for reason in rows.reasons)


def test_half_characters_are_kept_as_what_can_be_stored(air_quality: Pipeline) -> None:
    rows = judge(air_quality.data, GOOD | {"station": "a \ud800 b"})
    assert rows.valid["station"].tolist() == ["a ? b"]


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
