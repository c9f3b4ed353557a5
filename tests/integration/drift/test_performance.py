"""The champion's error in the check: when it asks for a model, and when it cannot be known."""

import gzip
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import joblib
import pandas as pd
import pytest

from services.drift.ingested import check_batch
from services.drift.labelled_rows import evenly_chosen, labelled_rows
from services.drift.report.model import DriftReport as FullReport
from services.drift.tasks import tasks
from shared.artifacts import sealed
from shared.drift import PerformanceFinding
from shared.events import BatchIngested, DriftFound, RetrainRequested
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, ModelVersion
from shared.settings import read_settings
from shared.store import Store
from tests.integration.drift.loop import KEY, Loop, with_drift, with_gate
from tests.keys import authenticate

WITHOUT_KEY = read_settings(redis_url="redis://unused")

STATIONS = 60
WORSE = 0.9
"""Where the average lies between minimum and maximum; the champion has learnt 0.5."""
INPUTS = ("pollutant_min", "pollutant_max")
"""They do not change when only the average moves."""


def loop_with(store: Store, pipeline: Pipeline, **drift: object) -> Loop:
    loop = Loop(store, with_gate(with_drift(pipeline, columns=INPUTS, **drift), cooldown=0))
    loop.begin(stations=STATIONS)
    return loop


@pytest.fixture
def watched(store: Store, air_quality: Pipeline) -> Loop:
    """A champion whose error is watched beside the data of its inputs."""
    return loop_with(store, air_quality)


def finding(report: DriftReport) -> PerformanceFinding:
    assert report.performance
    return report.performance


def requests(loop: Loop, report: DriftReport) -> list[RetrainRequested]:
    return [each for each in loop.store.events_of(report) if isinstance(each, RetrainRequested)]


def whole(loop: Loop, report: DriftReport) -> FullReport:
    assert report.details
    return FullReport.model_validate_json(gzip.decompress(loop.store.blob(report.details)))


def change_champion(loop: Loop, **fields: object) -> None:
    """The champion as the trainer would have made it."""
    champion = loop.store.champion("air_quality")
    assert champion
    seal = sealed(champion.model_copy(update=fields), KEY).seal
    alter_champion(loop, **fields, seal=seal)
    authenticate(loop.store)


def alter_champion(loop: Loop, **fields: object) -> None:
    """The champion as somebody with access to the store leaves it."""
    loop.store.collection(ModelVersion).update_one({"version": 1}, {"$set": fields})


def untested(loop: Loop) -> str:
    """Why the champion's error is not tested on a batch on which it would alarm."""
    report = loop.check(loop.ingest(stations=STATIONS, lean=WORSE))
    found = finding(report)
    assert (found.p, found.drift, report.verdict) == (None, False, "no drift")
    return found.reason


def test_error_that_stays_asks_for_nothing(watched: Loop) -> None:
    report = watched.check(watched.ingest(stations=STATIONS))
    found = finding(report)
    assert (report.verdict, report.needs_retraining, found.drift) == ("no drift", False, False)
    assert (found.model_version, found.metric, found.threshold) == (1, "mae", 0.0005)
    assert found.p is not None
    assert found.p > 0.05
    assert found.groups == STATIONS
    assert 300 < found.rows < 360
    assert "nothing beyond chance" in found.reason
    assert report.reason.startswith("nothing beyond chance")
    full = whole(watched, report)
    assert full.performance == found
    assert "about 0.5 false alarms per 1,000 checks of its own" in full.assumptions[-1]


def test_error_that_rises_is_performance_drift(watched: Loop) -> None:
    report = watched.check(watched.ingest(stations=STATIONS, lean=WORSE))
    found = finding(report)
    assert (report.verdict, report.incident, found.drift) == ("no drift", 2, True)
    assert found.p is not None
    assert found.p <= found.threshold
    assert found.error is not None
    assert found.error_at_promotion is not None
    assert found.error > 2 * found.error_at_promotion
    assert report.reason == found.reason
    assert found.reason.startswith("the champion's mean absolute error rose from ")
    told, request = watched.store.events_of(report)
    assert isinstance(told, DriftFound)
    assert isinstance(request, RetrainRequested)
    assert (told.reason, request.reason) == (report.reason, "performance")
    assert report.chart
    full = whole(watched, report)
    assert (full.needs_retraining, full.performance) == (True, found)


def test_new_champion_ends_performance_drift(watched: Loop) -> None:
    assert watched.go_round(watched.ingest(stations=STATIONS, lean=WORSE)).needs_retraining
    report = watched.check(watched.ingest(stations=STATIONS, lean=WORSE))
    assert (finding(report).model_version, finding(report).drift) == (2, False)
    assert report.incident is None


def test_both_kinds_of_drift_are_said_in_one_sentence(watched: Loop) -> None:
    report = watched.check(watched.ingest(stations=STATIONS, lean=WORSE, level=150))
    assert report.verdict == "drift"
    assert finding(report).drift
    assert report.reason.endswith(f"; {finding(report).reason}")
    assert [each.reason for each in requests(watched, report)] == ["drift"]


@pytest.mark.parametrize(
    ("trigger", "data", "performance", "both"),
    [
        ("data", True, False, True),
        ("performance", False, True, True),
        ("either", True, True, True),
        ("both", False, False, True),
    ],
)
def test_trigger_says_which_drift_asks_for_a_model(
    store: Store, air_quality: Pipeline, trigger: str, data: bool, performance: bool, both: bool
) -> None:
    loop = loop_with(store, air_quality, trigger=trigger)
    loop.rejects = frozenset(range(2, 9))
    # Twice the values at the same error: the average closer to what was learnt.
    moved = loop.next_rows(150, STATIONS)
    moved["pollutant_avg"] = predicted_by(loop, moved)
    for table, asks in (
        (moved, data),
        (loop.next_rows(50, STATIONS, lean=WORSE), performance),
        (loop.next_rows(150, STATIONS, lean=WORSE), both),
    ):
        *_, event = loop.take_in(table)
        assert isinstance(event, BatchIngested)
        report = loop.go_round(event)
        assert report.needs_retraining == asks, report.reason
        speaks = report.verdict == "drift" or bool(report.performance and report.performance.drift)
        unasked = f"that alone asks for no model (drift.trigger: {trigger})"
        assert report.reason.endswith(unasked) == (speaks and not asks)
        assert (report.performance is None) == (trigger == "data")


def predicted_by(loop: Loop, table: pd.DataFrame) -> list[str]:
    """What the champion would say, as the feed writes it."""
    champion = loop.store.champion("air_quality")
    assert champion
    model = joblib.load(BytesIO(loop.store.blob(champion.model)))
    there = table["pollutant_min"] != "NA"
    inputs = table.loc[there, list(INPUTS)].astype(float)
    said = pd.Series("NA", index=range(len(table)))
    said[there.to_numpy()] = [f"{max(value, 0):.0f}" for value in model.predict(inputs)]
    return said.tolist()


def test_incident_opens_once_for_either_kind(watched: Loop) -> None:
    watched.rejects = frozenset({2, 3})
    reports = [
        watched.go_round(watched.ingest(stations=STATIONS, lean=WORSE)),
        watched.go_round(watched.ingest(stations=STATIONS, level=150)),
    ]
    assert [report.incident for report in reports] == [2, 2]
    told = [
        sum(isinstance(event, DriftFound) for event in watched.store.events_of(report))
        for report in reports
    ]
    assert told == [1, 0]


def test_batch_without_a_target_is_checked_for_data_drift_alone(watched: Loop) -> None:
    report = watched.check(watched.ingest(stations=STATIONS, target=False))
    found = finding(report)
    assert (found.rows, found.error, found.p) == (0, None, None)
    assert found.reason == "no row has a value of pollutant_avg"
    assert report.verdict == "no drift"


def test_targets_that_come_later_are_tested_when_they_come(watched: Loop) -> None:
    late = watched.next_rows(50, STATIONS, lean=WORSE)
    *_, first = watched.take_in(late.assign(pollutant_avg="NA"))
    assert isinstance(first, BatchIngested)
    assert finding(watched.check(first)).rows == 0
    (labels,) = watched.take_in(late)
    assert isinstance(labels, BatchIngested)
    report = watched.check(labels)
    assert (report.verdict, report.batch_rows) == ("no data", 0), report.reason
    assert finding(report).drift
    assert finding(report).rows == int((late["pollutant_avg"] != "NA").sum())
    told, request = watched.store.events_of(report)
    assert isinstance(told, DriftFound)
    assert told.rows == 0
    assert isinstance(request, RetrainRequested)
    assert request.reason == "performance"


def test_own_rows_and_late_targets_are_tested_together(watched: Loop) -> None:
    late = watched.next_rows(50, STATIONS)
    *_, first = watched.take_in(late.assign(pollutant_avg="NA"))
    assert isinstance(first, BatchIngested)
    watched.check(first)
    own = watched.next_rows(50, STATIONS)
    *_, both = watched.take_in(pd.concat([late, own]))
    assert isinstance(both, BatchIngested)
    assert both.rows == len(own)
    with_target = sum(int((table["pollutant_avg"] != "NA").sum()) for table in (late, own))
    assert finding(watched.check(both)).rows == with_target


def test_batches_of_labels_alone_count_as_empty_in_a_window(
    store: Store, air_quality: Pipeline
) -> None:
    loop = loop_with(store, air_quality, windows=(1, 3), trigger="data")
    late = loop.next_rows(50, STATIONS)
    *_, first = loop.take_in(late.assign(pollutant_avg="NA"))
    assert isinstance(first, BatchIngested)
    loop.check(first)
    (labels,) = loop.take_in(late)
    assert isinstance(labels, BatchIngested)
    assert loop.check(labels).verdict == "no data"
    report = loop.check(loop.ingest(stations=STATIONS))
    (_, window) = whole(loop, report).windows
    assert (window.batches, window.rows) == (3, 2 * len(late))


@pytest.mark.parametrize("change", [{"seal": "0" * 64}, {"metrics": {"mae": 0.1}}], ids=str)
def test_no_batch_is_checked_against_an_altered_champion(
    watched: Loop, change: dict[str, object]
) -> None:
    alter_champion(watched, **change)
    with pytest.raises(WillNotPass, match="was not written by this system"):
        untested(watched)


def test_no_batch_is_checked_against_altered_bytes(watched: Loop) -> None:
    champion = watched.store.champion("air_quality")
    assert champion
    file = watched.store.database["blobs.files"].find_one({"filename": champion.model})
    assert file
    watched.store.database["blobs.chunks"].update_one(
        {"files_id": file["_id"]}, {"$set": {"data": bytes(file["length"])}}
    )
    with pytest.raises(WillNotPass, match=r"v1, is not to be trusted: the stored bytes of .* were"):
        untested(watched)


def test_champion_of_other_columns_is_told_and_the_check_goes_on(watched: Loop) -> None:
    champion = watched.store.champion("air_quality")
    assert champion
    columns = watched.pipeline.data.model_dump()["columns"]
    renamed = {name: columns[name] for name in columns if name != "pollutant_max"}
    schema = watched.pipeline.data.model_copy(
        update={
            "columns": type(watched.pipeline.data).model_validate({"columns": renamed}).columns,
            "not_above": (),
        }
    )
    watched.pipeline = with_drift(
        watched.pipeline.model_copy(update={"data": schema}), columns=("pollutant_min",)
    )
    reason = untested(watched)
    assert reason.startswith("the champion, v1, cannot predict these rows (ValueError: ")
    assert "pollutant_max" in reason


def test_without_a_key_no_model_is_loaded(watched: Loop) -> None:
    event = watched.ingest(stations=STATIONS, lean=WORSE)
    outcome = check_batch(event, watched.pipeline, watched.store, WITHOUT_KEY)
    assert isinstance(outcome.record, DriftReport)
    assert "MODEL_SIGNING_KEY is not set" in finding(outcome.record).reason


def test_champion_whose_losses_were_not_kept_is_not_tested(watched: Loop) -> None:
    change_champion(watched, held_out_losses=None)
    assert untested(watched) == "the champion's errors at its promotion were not kept"
    change_champion(watched, held_out_losses="0" * 64)
    assert untested(watched) == "the champion's errors at its promotion were not kept"


def test_few_groups_or_rows_are_not_tested(watched: Loop) -> None:
    report = watched.check(watched.ingest(stations=4, lean=WORSE))
    expected = "in this batch 22 rows in 4 groups have a target, and a test takes 20 in 5"
    assert finding(report).reason.replace("\N{NO-BREAK SPACE}", " ") == expected
    assert finding(report).error is not None


def test_error_is_in_the_metric_that_the_champion_was_judged_by(watched: Loop) -> None:
    change_champion(watched, metrics={"deciding_metric": "rmse"})
    found = finding(watched.check(watched.ingest(stations=STATIONS)))
    assert found.metric == "rmse"
    assert "root mean squared error" in found.reason


def test_small_rise_is_no_drift_however_certain(
    watched: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.drift.performance.rise_p_value", lambda *_: 0.0001)
    monkeypatch.setattr("services.drift.performance.LEAST_RISE", 100.0)
    report = watched.check(watched.ingest(stations=STATIONS, lean=WORSE))
    assert not finding(report).drift
    assert "by less than " in finding(report).reason


def test_large_batch_is_predicted_in_part_and_the_reason_says_so(
    watched: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.drift.performance.MOST_ROWS", 150)
    watched.pipeline = with_drift(watched.pipeline, chunk_rows=100)
    *chunks, event = watched.ingest_in_chunks(50, STATIONS)
    for chunk in chunks:
        watched.deliver(chunk)
    assert isinstance(event, BatchIngested)
    found = finding(watched.check(event))
    assert 100 < found.rows <= 150
    said = found.reason.replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r", on 1[2-5]\d of the 360 rows$", said)


def test_rows_of_a_part_are_those_of_the_whole(watched: Loop) -> None:
    watched.pipeline = with_drift(watched.pipeline, chunk_rows=100)
    late = watched.next_rows(50, STATIONS)
    watched.take_in(late.assign(pollutant_avg="NA"))
    own = watched.next_rows(50, STATIONS)
    *_, event = watched.take_in(pd.concat([late, own]))
    assert isinstance(event, BatchIngested)
    (batch,) = watched.store.batches_between("air_quality", event.sequence - 1, event.sequence)
    assert isinstance(batch, Batch)
    everything = labelled_rows(batch, watched.pipeline, watched.store, at_most=10_000)
    assert (everything.chosen, everything.of) == (batch.rows + batch.labelled_rows,) * 2
    part = labelled_rows(batch, watched.pipeline, watched.store, at_most=400)
    assert part.chosen == 400
    merged = part.rows.merge(everything.rows, how="left", indicator=True)
    assert (merged["_merge"] == "both").all()
    assert set(everything.rows["last_update"].unique()) == set(part.rows["last_update"].unique())


def test_rows_are_chosen_evenly_and_out_of_step_with_their_period() -> None:
    chosen = evenly_chosen(600_000, 100_000, seed=1)
    assert len(chosen) == 100_000
    share_by_place = pd.Series(chosen % 6).value_counts(normalize=True)
    assert share_by_place.between(0.16, 0.174).all()
    assert pd.Series(chosen // 60_000).value_counts().between(9_999, 10_001).all()
    assert evenly_chosen(10, 10, seed=1).tolist() == list(range(10))
    odd = evenly_chosen(150, 100, seed=2)
    assert 80 < len(odd) <= 100
    assert odd[-1] < 150


def test_first_batches_and_new_references_have_no_champion_to_ask(loop: Loop) -> None:
    assert loop.check(loop.ingest(stations=10)).performance is None
    assert loop.go_round(loop.ingest(stations=10)).performance is None
    assert loop.check(loop.ingest(as_reference=True)).performance is None


def test_watching_the_data_alone_takes_no_key_and_no_scikit_learn(
    store: Store, air_quality: Pipeline
) -> None:
    loop = loop_with(store, air_quality, trigger="data")
    outcome = check_batch(loop.ingest(stations=STATIONS), loop.pipeline, store, WITHOUT_KEY)
    assert isinstance(outcome.record, DriftReport)
    assert outcome.record.performance is None
    assert all(name != "model_signing_key" for name, _ in tasks._required([loop.pipeline]))
    code = "import sys, services.drift.tasks; print({'sklearn', 'joblib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
