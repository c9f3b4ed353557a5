"""Batches in a real store: what is new, what is known, what is refused, and the order of it all."""

import os
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

import services.ingest.batch as batch_module
from services.ingest.batch import ingest, ingest_batch, known_files
from services.ingest.set_aside import load_refused
from services.ingest.sources import Answer
from services.ingest.tables import read_file
from services.ingest.waiting import waiting_files
from shared.events import BatchIngested, IngestionDue, first_event_fields
from shared.failures import WillNotPass
from shared.frames import from_parquet, to_parquet
from shared.labels import identity_of, join_labels
from shared.outcome import Outcome
from shared.pipeline import FilesSource, ManualSource, Pipeline, ReferenceFile, Schema
from shared.records import Batch
from shared.settings import Settings
from shared.store import Conflict, Store
from tests.integration.ingest.fault_server import Resource, serving
from tests.unit.ingest.test_files import unreachable

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "aqi"
HOUR = datetime(2026, 4, 7, 21)  # noqa: DTZ001 - as the feed writes it
NO_TARGET = {"pollutant_avg": "NA"}
_slots = count(1)


def due() -> IngestionDue:
    number = next(_slots)
    slot = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    return IngestionDue(**first_event_fields("air_quality", "slot", number), slot=slot)


def row(station: int, hour: int = 0, **others: str) -> dict[str, str]:
    return {
        "country": "India",
        "state": "Delhi",
        "city": "Delhi",
        "station": f"Station {station:03}",
        "last_update": (HOUR + timedelta(hours=hour)).strftime("%d-%m-%Y %H:%M:%S"),
        "latitude": "28.6",
        "longitude": "77.3",
        "pollutant_id": "PM2.5",
        "pollutant_min": "1",
        "pollutant_max": "3",
        "pollutant_avg": "2",
        **others,
    }


def answer(*rows: dict[str, str], **others: Any) -> Answer:
    return Answer(pd.DataFrame(rows, dtype=object), "a test", **others)


class Ingestion:
    """The ingest stage with its store, without the runtime around it."""

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self.store = store
        self.pipeline = pipeline

    def take(self, given: Answer, **how: Any) -> Batch:
        return self.record(ingest_batch(due(), given, self.pipeline, self.store, **how))

    def record(self, outcome: Outcome) -> Batch:
        assert self.store.record(outcome.record, outcome.events)
        return cast("Batch", outcome.record)

    def rows(self, batch: Batch) -> pd.DataFrame:
        assert batch.data
        return from_parquet(self.store.blob(batch.data))


@pytest.fixture
def stage(store: Store, air_quality: Pipeline) -> Ingestion:
    return Ingestion(store, air_quality)


def with_schema(pipeline: Pipeline, **changes: Any) -> Pipeline:
    schema = Schema.model_validate(pipeline.data.model_dump() | changes)
    target = pipeline.training.target
    training = pipeline.training.model_copy(
        update={"target": target if target in schema.columns else next(reversed(schema.columns))}
    )
    return pipeline.model_copy(update={"data": schema, "training": training})


def test_an_answer_becomes_a_batch(stage: Ingestion) -> None:
    event = due()
    outcome = ingest_batch(
        event, answer(row(2), row(1, hour=1), row(1)), stage.pipeline, stage.store
    )
    batch = stage.record(outcome)
    assert batch.id == f"ingest:{event.event_id}"
    assert batch.trace_id == event.trace_id
    assert (batch.outcome, batch.sequence, batch.rows) == ("ingested", 1, 3)
    assert (batch.rows_received, batch.rows_known, batch.set_aside.rows) == (3, 0, 0)
    assert batch.first_event_at == datetime(2026, 4, 7, 15, 30, tzinfo=UTC)
    assert batch.last_event_at == datetime(2026, 4, 7, 16, 30, tzinfo=UTC)
    rows = stage.rows(batch)
    assert rows.columns.tolist() == list(stage.pipeline.data.columns)
    assert rows["station"].tolist() == ["Station 001", "Station 002", "Station 001"]
    assert str(rows["last_update"].dtype) == "datetime64[us, Asia/Kolkata]"
    (emitted,) = outcome.events
    assert isinstance(emitted, BatchIngested)
    assert (emitted.sequence, emitted.rows, emitted.data) == (1, 3, batch.data)
    assert not emitted.as_reference
    assert emitted.trace_id == event.trace_id


def test_the_same_answer_twice_is_one_batch(stage: Ingestion) -> None:
    same = answer(row(1), row(2))
    stage.take(same)
    outcome = ingest_batch(due(), same, stage.pipeline, stage.store)
    second = stage.record(outcome)
    assert outcome.events == ()
    assert (second.outcome, second.sequence, second.data) == ("nothing new", None, None)
    assert (second.rows, second.rows_received, second.rows_known) == (0, 2, 2)


def test_the_order_of_the_answer_does_not_change_the_bytes(stage: Ingestion) -> None:
    rows = [row(station, hour) for station in range(20) for hour in range(2)]
    forth = ingest_batch(due(), answer(*rows), stage.pipeline, stage.store).record
    back = ingest_batch(due(), answer(*reversed(rows)), stage.pipeline, stage.store).record
    assert cast("Batch", forth).data == cast("Batch", back).data


def test_only_new_rows_go_on_and_batches_are_numbered(stage: Ingestion) -> None:
    stage.take(answer(row(1), row(2)))
    stage.take(answer(row(1), row(2)))
    third = stage.take(answer(row(2), row(3), row(3), row(1, hour=1)))
    assert (third.sequence, third.rows, third.rows_known) == (2, 2, 2)
    assert stage.rows(third)["station"].tolist() == ["Station 003", "Station 001"]


def test_of_rows_with_one_identity_the_first_stays(stage: Ingestion) -> None:
    batch = stage.take(answer(row(1, pollutant_avg="2"), row(1, pollutant_avg="3")))
    assert stage.rows(batch)["pollutant_avg"].tolist() == [2.0]
    assert stage.take(answer(row(1, pollutant_avg="4"))).outcome == "nothing new"


def known(batch: Batch) -> tuple[int, int, int]:
    assert batch.known
    counts = batch.known
    assert batch.rows_known == counts.taken_in_before + counts.repeated + counts.changed
    return counts.taken_in_before, counts.repeated, counts.changed


def test_known_rows_are_counted_by_why_they_are_known(stage: Ingestion) -> None:
    stage.take(answer(row(1), row(2), row(3, pollutant_max="5.0000001")))
    given = answer(
        row(1),
        row(1),
        row(2, pollutant_max="9"),
        row(3, pollutant_max="5"),
        row(4),
        row(4),
        row(4, latitude="28.7"),
    )
    outcome = ingest_batch(due(), given, stage.pipeline, stage.store)
    batch = stage.record(outcome)
    assert batch.rows == 1
    assert known(batch) == (2, 2, 2)
    facts = batch.facts()
    assert (facts["taken_in_before"], facts["repeated"], facts["changed"]) == (2, 2, 2)
    assert batch.known
    assert batch.known.in_words() == [
        "2 taken in before",
        "2 twice in the answer",
        "2 known with other values",
    ]


def test_a_late_target_changes_no_row_and_another_target_does(stage: Ingestion) -> None:
    stage.take(answer(row(1, **NO_TARGET), row(2, **NO_TARGET)))
    late = stage.take(answer(row(1, pollutant_avg="2")))
    assert (late.labelled_rows, known(late)) == (1, (1, 0, 0))
    assert known(stage.take(answer(row(1, pollutant_avg="2")))) == (1, 0, 0)
    assert known(stage.take(answer(row(1, **NO_TARGET)))) == (1, 0, 0)
    assert known(stage.take(answer(row(1, pollutant_avg="3")))) == (0, 0, 1)


def test_a_record_of_before_says_nothing_of_why_rows_are_known(stage: Ingestion) -> None:
    batch = stage.take(answer(row(1)))
    document = batch.model_dump(by_alias=True)
    del document["known"], document["rows_missing"]
    before = Batch.model_validate(document)
    assert (before.known, before.rows_missing) == (None, 0)
    assert "taken_in_before" not in before.facts()


def test_rows_known_from_several_batches_of_overlapping_times(stage: Ingestion) -> None:
    stage.take(answer(row(1, hour=0), row(1, hour=4)))
    stage.take(answer(row(1, hour=2)))
    stage.take(answer(row(1, hour=9)))
    batch = stage.take(answer(*(row(1, hour=hour) for hour in range(10))))
    assert batch.rows_known == 4
    kept = [time.hour for time in stage.rows(batch)["last_update"]]
    assert kept == [22, 0, 2, 3, 4, 5]


def test_batches_of_other_pipelines_do_not_count(stage: Ingestion, air_quality: Pipeline) -> None:
    stage.take(answer(row(1), files=["a.csv 1 1"]))
    other = air_quality.model_copy(update={"name": "other"})
    event = IngestionDue(**first_event_fields("other", "slot", 1), slot=datetime.now(UTC))
    outcome = ingest_batch(event, answer(row(1)), other, stage.store)
    assert cast("Batch", outcome.record).sequence == 1
    assert known_files("other", stage.store) == frozenset()


def test_two_ingestions_side_by_side_cannot_both_take_a_row(stage: Ingestion) -> None:
    first = ingest_batch(due(), answer(row(1)), stage.pipeline, stage.store)
    second = ingest_batch(due(), answer(row(1)), stage.pipeline, stage.store)
    stage.record(first)
    with pytest.raises(Conflict):
        stage.store.record(second.record, second.events)
    assert stage.take(answer(row(1))).outcome == "nothing new"


def test_an_ingestion_recorded_while_another_looks_up_known_rows(
    stage: Ingestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = batch_module._held

    def overtaken(*args: Any) -> Any:
        known = look_up(*args)
        monkeypatch.setattr(batch_module, "_held", look_up)
        stage.take(answer(row(1)))
        return known

    monkeypatch.setattr(batch_module, "_held", overtaken)
    late = ingest_batch(due(), answer(row(1)), stage.pipeline, stage.store)
    with pytest.raises(Conflict):
        stage.store.record(late.record, late.events)


def test_bad_rows_are_kept_apart_with_their_reasons(stage: Ingestion) -> None:
    batch = stage.take(
        answer(row(1), row(2), row(3), row(4, latitude="95"), row(5, pollutant_min="NaN"))
    )
    assert batch.rows == 3
    assert batch.rows_received == 5
    assert batch.set_aside.rows == 2
    assert batch.set_aside.reasons == {
        "latitude: above 90 (such as '95'); accepted: at most 90": 1,
        "pollutant_min: not a number (such as 'NaN'); "
        "accepted: a finite decimal number such as -1.5 or 2e3": 1,
    }
    assert batch.set_aside.data
    first, second = load_refused(stage.store.blob(batch.set_aside.data), limit=10)
    assert (first.column, first.value, first.reason) == ("latitude", "95", "above 90")
    assert first.row == row(4, latitude="95")
    assert (second.column, second.reason) == ("pollutant_min", "not a number")
    assert second.row["station"] == "Station 005"


@pytest.mark.parametrize("bad", [2, 3])
def test_a_batch_with_too_many_bad_rows_fails_as_a_whole(stage: Ingestion, bad: int) -> None:
    rows = [row(number, latitude="95" if number < bad else "28") for number in range(4)]
    if bad == 2:  # the share that is just allowed
        assert stage.take(answer(*rows)).rows == 2
        return
    text = r"3 of 4 rows are bad.*= 0\.5 .*3 rows: latitude: above 90 \(such as '95'\)"
    with pytest.raises(WillNotPass, match=text):
        ingest_batch(due(), answer(*rows), stage.pipeline, stage.store)
    assert list(stage.store.find(Batch, {})) == []


def test_bad_rows_are_counted_even_if_the_good_ones_are_known(stage: Ingestion) -> None:
    stage.take(answer(row(1)))
    batch = stage.take(answer(row(1), row(2, longitude="east")))
    assert batch.outcome == "nothing new"
    assert batch.rows_known == 1
    assert list(batch.set_aside.reasons.values()) == [1]


def test_a_table_of_another_form_fails(stage: Ingestion) -> None:
    with pytest.raises(WillNotPass, match="no column country"):
        stage.take(answer({"a": "1"}))
    with pytest.raises(WillNotPass, match="no column country"):
        stage.take(Answer(pd.DataFrame(index=[0]), "rows without columns"))


def test_a_reading_without_rows_is_nothing_new(stage: Ingestion) -> None:
    batch = stage.take(
        Answer(pd.DataFrame(), "a folder", files_set_aside={"bad.csv 1 2": "not UTF-8"})
    )
    assert (batch.outcome, batch.rows_received) == ("nothing new", 0)
    assert known_files("air_quality", stage.store) == {"bad.csv 1 2"}


def test_marks_of_all_readings_are_known(stage: Ingestion) -> None:
    stage.take(answer(row(1), files=["$a.csv 1 1"]))
    stage.take(answer(row(1), files=["b.csv 1 1"], files_set_aside={"$c.csv 1 1": "broken"}))
    assert known_files("air_quality", stage.store) == {"$a.csv 1 1", "b.csv 1 1", "$c.csv 1 1"}


def test_a_new_reference_is_announced_as_one(stage: Ingestion) -> None:
    outcome = ingest_batch(due(), answer(row(1)), stage.pipeline, stage.store, as_reference=True)
    (event,) = outcome.events
    assert cast("BatchIngested", event).as_reference
    assert cast("Batch", outcome.record).as_reference


def labels_of(stage: Ingestion, batch: Batch) -> list[tuple[str, float]]:
    assert batch.labels
    labels = from_parquet(stage.store.blob(batch.labels))
    assert labels.columns.tolist() == ["last_update", "station", "pollutant_id", "pollutant_avg"]
    return list(zip(labels["station"], labels["pollutant_avg"], strict=True))


def test_a_target_that_comes_later_is_a_batch_of_labels_alone(stage: Ingestion) -> None:
    first = stage.take(answer(row(1, **NO_TARGET), row(2), row(3, **NO_TARGET)))
    assert (first.labels, first.labelled_rows) == (None, 0)
    outcome = ingest_batch(due(), answer(row(1), row(2), row(3)), stage.pipeline, stage.store)
    batch = stage.record(outcome)
    assert (batch.outcome, batch.sequence, batch.rows, batch.data) == ("ingested", 2, 0, None)
    assert (batch.first_event_at, batch.last_event_at) == (None, None)
    assert (batch.rows_known, batch.labelled_rows) == (3, 2)
    assert labels_of(stage, batch) == [("Station 001", 2.0), ("Station 003", 2.0)]
    assert batch.labels_first_event_at == batch.labels_last_event_at == first.first_event_at
    (event,) = outcome.events
    assert isinstance(event, BatchIngested)
    assert (event.sequence, event.rows, event.data) == (2, 0, None)
    assert event.labels == batch.labels


def test_each_label_comes_once(stage: Ingestion) -> None:
    stage.take(answer(row(1, **NO_TARGET), row(2, **NO_TARGET)))
    stage.take(answer(row(1, pollutant_avg="2")))
    assert stage.take(answer(row(1, pollutant_avg="3"))).outcome == "nothing new"
    third = stage.take(answer(row(1, pollutant_avg="2.5"), row(2, pollutant_avg="3")))
    assert labels_of(stage, third) == [("Station 002", 3.0)]


def test_of_two_targets_in_one_answer_the_first_counts(stage: Ingestion) -> None:
    stage.take(answer(row(1, **NO_TARGET)))
    batch = stage.take(answer(row(1, **NO_TARGET), row(1), row(1, pollutant_avg="3")))
    assert labels_of(stage, batch) == [("Station 001", 2.0)]


def test_labels_go_with_new_rows_and_their_times(stage: Ingestion) -> None:
    stage.take(answer(row(1, **NO_TARGET), row(1, hour=1, **NO_TARGET)))
    batch = stage.take(answer(row(1), row(1, hour=1), row(1, hour=9)))
    assert (batch.rows, batch.labelled_rows) == (1, 2)
    assert batch.last_event_at
    assert batch.labels_first_event_at
    assert batch.labels_last_event_at
    hours = batch.last_event_at - batch.labels_first_event_at
    assert (hours, batch.last_event_at - batch.labels_last_event_at) == (
        timedelta(hours=9),
        timedelta(hours=8),
    )


def test_a_target_that_is_known_or_still_missing_is_no_label(stage: Ingestion) -> None:
    stage.take(answer(row(1), row(2, **NO_TARGET)))
    again = answer(row(1, pollutant_avg="3"), row(2, **NO_TARGET))
    assert stage.take(again).outcome == "nothing new"


def test_two_ingestions_side_by_side_cannot_both_bring_a_label(stage: Ingestion) -> None:
    stage.take(answer(row(1, **NO_TARGET)))
    first, second = (
        ingest_batch(due(), answer(row(1)), stage.pipeline, stage.store) for _ in range(2)
    )
    stage.record(first)
    with pytest.raises(Conflict):
        stage.store.record(second.record, second.events)


def test_a_new_reference_is_taken_whole_with_its_targets(stage: Ingestion) -> None:
    stage.take(answer(row(1, **NO_TARGET), row(2, pollutant_avg="2")))
    given = answer(row(1), row(2, pollutant_avg="7"), row(3), row(3))
    batch = stage.take(given, as_reference=True)
    assert (batch.sequence, batch.rows, batch.labels) == (2, 3, None)
    assert stage.rows(batch)["pollutant_avg"].tolist() == [2.0, 7.0, 2.0]
    assert known(batch) == (0, 1, 0)
    again = stage.take(given)
    assert (again.outcome, known(again)) == ("nothing new", (3, 1, 0))


def test_a_file_that_was_taken_in_whole_can_become_the_reference(stage: Ingestion) -> None:
    same = answer(row(1), row(2))
    stage.take(same)
    batch = stage.take(same, as_reference=True)
    assert (batch.outcome, batch.sequence, batch.rows) == ("ingested", 2, 2)


def test_a_target_that_the_reference_lacks_can_still_come(stage: Ingestion) -> None:
    """A model's window does not reach behind the reference, so earlier targets do not count."""
    stage.take(answer(row(1), row(2, **NO_TARGET)))
    stage.take(answer(row(2)))
    stage.take(answer(row(1, **NO_TARGET), row(2, **NO_TARGET)), as_reference=True)
    late = stage.take(answer(row(1), row(2)))
    assert labels_of(stage, late) == [("Station 001", 2.0), ("Station 002", 2.0)]
    assert stage.take(answer(row(1), row(2))).outcome == "nothing new"


@pytest.mark.parametrize("key", [(), ("station", "pollutant_id", "pollutant_avg")])
def test_where_the_target_makes_the_row_there_are_no_labels(
    store: Store, air_quality: Pipeline, key: tuple[str, ...]
) -> None:
    stage = Ingestion(store, with_schema(air_quality, key=key))
    stage.take(answer(row(1, **NO_TARGET)))
    batch = stage.take(answer(row(1)))
    assert (batch.rows, batch.labels) == (1, None)


def test_rows_of_a_schema_without_the_target_can_be_labelled(
    store: Store, air_quality: Pipeline
) -> None:
    columns = air_quality.data.model_dump()["columns"]
    target = columns.pop("pollutant_avg")
    narrow = with_schema(air_quality, columns=columns)
    Ingestion(store, narrow).take(answer(row(1)))
    wide = Ingestion(store, with_schema(air_quality, columns=columns | {"pollutant_avg": target}))
    assert labels_of(wide, wide.take(answer(row(1)))) == [("Station 001", 2.0)]


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from(["NA", "1", "2"])),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_row_has_the_first_target_that_came_and_no_target_comes_twice(
    store: Store, air_quality: Pipeline, answers: list[list[tuple[int, int, str]]]
) -> None:
    store.database["batches"].delete_many({})
    stage = Ingestion(store, air_quality)
    expected: dict[tuple[str, int], float | None] = {}
    for given_rows in answers:
        stage.take(answer(*(row(s, hour, pollutant_avg=y) for s, hour, y in given_rows)))
        said: dict[tuple[str, int], list[str]] = {}
        for s, hour, y in given_rows:
            said.setdefault((f"Station {s:03}", hour), []).append(y)
        for identity, targets in said.items():
            # of a new row the first spelling counts; a known one takes the first target
            new = identity not in expected
            found = targets[:1] if new else [y for y in targets if y != "NA"]
            if new or (expected[identity] is None and found):
                expected[identity] = None if found[0] == "NA" else float(found[0])
    batches = store.batches_between("air_quality", 0, 99)
    rows = pd.concat([stage.rows(batch) for batch in batches if batch.data])
    labels = [from_parquet(store.blob(batch.labels)) for batch in batches if batch.labels]
    joined = join_labels(rows, labels, identity_of(air_quality.data), "pollutant_avg")
    hours = (joined["last_update"].dt.tz_localize(None) - HOUR) // timedelta(hours=1)
    found_targets = joined["pollutant_avg"].astype(object).where(joined["pollutant_avg"].notna())
    keys = zip(joined["station"], hours, strict=True)
    assert {
        key: None if pd.isna(target) else target
        for key, target in zip(keys, found_targets, strict=True)
    } == expected
    assert not pd.concat([rows.head(0), *labels]).duplicated(identity_of(air_quality.data)).any()


PLAIN = {
    "columns": {"name": {"type": "category"}, "value": {"type": "number"}},
    "key": (),
    "event_time": None,
    "not_above": (),
}
values = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "", "NA"]), "value": st.sampled_from(["1", "1.0", "2", ""])}
)


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(values, min_size=1), min_size=1, max_size=3))
def test_without_key_and_time_a_row_is_known_by_all_its_columns(
    store: Store, air_quality: Pipeline, answers: list[list[dict[str, str]]]
) -> None:
    store.database["batches"].delete_many({})
    stage = Ingestion(store, with_schema(air_quality, **PLAIN))
    seen: set[tuple[str | None, float | None]] = set()
    for given_rows in answers:
        batch = stage.take(answer(*given_rows))
        rows = {
            (
                None if given_row["name"] in ("", "NA") else given_row["name"],
                float(given_row["value"]) if given_row["value"] else None,
            )
            for given_row in given_rows
        }
        assert batch.rows == len(rows - seen)
        assert batch.rows_known == len(given_rows) - batch.rows
        assert batch.first_event_at is None
        seen |= rows


def test_a_batch_of_an_older_schema_holds_none_of_the_rows(
    store: Store, air_quality: Pipeline
) -> None:
    Ingestion(store, with_schema(air_quality, **PLAIN)).take(answer({"name": "a", "value": "1"}))
    columns = cast("dict[str, Any]", PLAIN["columns"]) | {"more": {"type": "number"}}
    wider = Ingestion(store, with_schema(air_quality, **PLAIN | {"columns": columns}))
    assert wider.take(answer({"name": "a", "value": "1", "more": "1"})).sequence == 2


def test_a_changed_time_zone_does_not_make_known_rows_new(
    store: Store, air_quality: Pipeline
) -> None:
    column = {"type": "time", "timezone": "Asia/Kolkata"}
    local = {"columns": {"at": column}, "key": (), "event_time": "at", "not_above": ()}
    Ingestion(store, with_schema(air_quality, **local)).take(answer({"at": "2026-04-07T21:00Z"}))
    local["columns"] = {"at": column | {"timezone": "UTC"}}
    moved = Ingestion(store, with_schema(air_quality, **local))
    assert moved.take(answer({"at": "2026-04-07T21:00Z"})).outcome == "nothing new"


def test_an_hour_that_the_clocks_repeat_and_fractions_of_milliseconds(
    store: Store, air_quality: Pipeline
) -> None:
    column = {"type": "time", "timezone": "Europe/Berlin"}
    schema = {"columns": {"at": column}, "key": (), "event_time": "at", "not_above": ()}
    stage = Ingestion(store, with_schema(air_quality, **schema))
    times = ["2025-10-26T02:30:00.0001+02:00", "2025-10-26T02:30:00.0009+01:00"]
    batch = stage.take(answer(*({"at": time} for time in times)))
    assert batch.rows == 2
    assert batch.first_event_at == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    assert batch.last_event_at == datetime(2025, 10, 26, 1, 30, 0, 1_000, tzinfo=UTC)
    assert stage.take(answer({"at": times[1]})).outcome == "nothing new"


def folder_pipeline(air_quality: Pipeline, folder: Path) -> Pipeline:
    source = FilesSource(kind="files", path=folder, pattern="*.csv")
    return air_quality.model_copy(update={"source": source})


def put(path: Path, *rows: dict[str, str]) -> None:
    pd.DataFrame(rows).to_csv(path, index=False)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def test_a_watched_folder_is_read_once(
    store: Store, air_quality: Pipeline, settings: Settings, tmp_path: Path
) -> None:
    pipeline = folder_pipeline(air_quality, tmp_path)
    stage = Ingestion(store, pipeline)
    put(tmp_path / "a.csv", row(1))
    (tmp_path / "broken.csv").write_bytes(b"\xff")
    os.utime(tmp_path / "broken.csv", (1_000_000_000, 1_000_000_000))
    first = stage.record(ingest(due(), pipeline, store, settings))
    assert (first.outcome, first.rows) == ("ingested", 1)
    assert [mark.split()[0] for mark in first.files] == ["a.csv"]
    assert [mark.split()[0] for mark in first.files_set_aside] == ["broken.csv"]
    second = stage.record(ingest(due(), pipeline, store, settings))
    assert (second.outcome, second.rows_received) == ("nothing new", 0)
    assert (second.files, second.files_set_aside) == ([], {})
    put(tmp_path / "b.csv", row(1), row(2))
    third = stage.record(ingest(due(), pipeline, store, settings))
    assert (third.rows, third.rows_known) == (1, 1)


def test_a_file_that_cannot_be_read_once_is_taken_in_later(
    store: Store,
    air_quality: Pipeline,
    settings: Settings,
    tmp_path: Path,
) -> None:
    pipeline = folder_pipeline(air_quality, tmp_path)
    stage = Ingestion(store, pipeline)
    put(tmp_path / "a.csv", row(1))
    put(tmp_path / "b.csv", row(2))
    with unreachable(tmp_path / "a.csv"):
        first = stage.record(ingest(due(), pipeline, store, settings))
    assert (first.rows, first.files_set_aside) == (1, {})
    (mark,) = waiting_files("air_quality", store)
    assert first.facts()["files_waiting"] == [mark]
    too_early = stage.record(ingest(due(), pipeline, store, settings))
    assert (too_early.outcome, list(too_early.files_waiting or {})) == ("nothing new", [mark])
    stage.take(answer(row(9)))  # by hand: says nothing of the folder
    passed = too_early.model_copy(
        update={
            "id": "ingest:later",
            "recorded_at": datetime.now(UTC),
            "files_waiting": {
                mark: waiting.model_copy(update={"next_try_at": datetime.now(UTC)})
                for mark, waiting in (too_early.files_waiting or {}).items()
            },
        }
    )
    store.record(passed)
    last = stage.record(ingest(due(), pipeline, store, settings))
    assert (last.rows, last.files_waiting) == (1, {})
    assert waiting_files("air_quality", store) == {}


def test_the_first_ingestion_takes_in_the_reference_file(
    store: Store, air_quality: Pipeline, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    put(tmp_path / "reference.csv", row(1))
    put(tmp_path / "new" / "a.csv", row(2))
    pipeline = folder_pipeline(air_quality, tmp_path / "new").model_copy(
        update={"reference": ReferenceFile(file=tmp_path / "reference.csv")}
    )
    stage = Ingestion(store, pipeline)
    first = stage.record(ingest(due(), pipeline, store, settings))
    assert (first.as_reference, first.source) == (True, "file reference.csv")
    second = stage.record(ingest(due(), pipeline, store, settings))
    assert (second.as_reference, second.sequence) == (False, 2)


def test_a_pipeline_without_a_source_cannot_be_read(
    store: Store, air_quality: Pipeline, settings: Settings
) -> None:
    pipeline = air_quality.model_copy(update={"source": ManualSource(kind="manual")})
    with pytest.raises(WillNotPass, match="use `trimtab ingest FILE`"):
        ingest(due(), pipeline, store, settings)


def simulated_snapshots() -> list[pd.DataFrame]:
    return [
        pd.DataFrame([row(station, hour) for station in range(400)], dtype=object)
        for hour in range(3)
    ]


def recorded_snapshots() -> list[pd.DataFrame]:
    return [read_file(path) for path in sorted(RECORDED.glob("*.csv"))]


@pytest.mark.parametrize(
    "snapshots",
    [
        simulated_snapshots,
        pytest.param(
            recorded_snapshots,
            marks=pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded answers here"),
        ),
    ],
)
def test_hours_of_the_feed_become_batches_and_no_row_is_lost_or_doubled(
    stage: Ingestion, snapshots: Any
) -> None:
    for sequence, table in enumerate(snapshots(), start=1):
        batch = stage.take(Answer(table, "an hour"))
        again = stage.take(Answer(table.sample(frac=1, random_state=1), "the same hour"))
        assert (batch.sequence, batch.rows, batch.set_aside.rows) == (sequence, len(table), 0)
        assert (again.outcome, again.rows_known) == ("nothing new", len(table))
        identity = stage.rows(batch)[["station", "pollutant_id", "last_update"]]
        assert not identity.duplicated().any()


def test_the_feed_is_read_and_its_key_is_not_kept(
    store: Store, air_quality: Pipeline, settings: Settings
) -> None:
    (table, *_) = simulated_snapshots()
    with serving(Resource(table.to_dict("records"))) as server:
        feed = settings.model_copy(
            update={"feed_url": server.url, "data_gov_in_api_key": SecretStr("do-not-keep-me")}
        )
        batch = Ingestion(store, air_quality).record(ingest(due(), air_quality, store, feed))
    assert any("api-key=do-not-keep-me" in path for path in server.asked)
    assert (batch.rows, batch.source.partition(" ")[0]) == (400, "data.gov.in")
    assert "do-not-keep-me" not in repr(list(store.database["batches"].find()))


def test_a_batch_file_can_be_taken_in_again(stage: Ingestion, tmp_path: Path) -> None:
    batch = stage.take(answer(row(1), row(2, state="NA", pollutant_avg="NA")))
    (tmp_path / "batch.parquet").write_bytes(to_parquet(stage.rows(batch)))
    local = with_schema(
        stage.pipeline,
        columns={
            **stage.pipeline.data.model_dump()["columns"],
            "last_update": {"type": "time", "timezone": "Asia/Kolkata"},
        },
    )
    answered = Answer(read_file(tmp_path / "batch.parquet"), "a file")
    again = Ingestion(stage.store, local).take(answered)
    assert (again.outcome, again.rows_known, again.set_aside.rows) == ("nothing new", 2, 0)
