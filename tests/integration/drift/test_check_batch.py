"""The drift stage on a real store: reports, incidents, requests, the reference."""

import gzip
from datetime import datetime

import pytest

from services.drift import Profile
from services.drift.report.model import DriftReport as FullReport
from services.drift.tables.roles import roles_of
from shared.events import DriftFound, RetrainRequested, effect_id
from shared.failures import NotYet, WillNotPass
from shared.frames import from_parquet
from shared.records import DriftReport, Reference, RetiredReference
from tests.integration.drift.loop import Loop, with_gate
from tests.keys import authenticate

COMPARED = {"pollutant_min", "pollutant_max", "pollutant_avg"}


def request_of(loop: Loop, report: DriftReport) -> RetrainRequested:
    (request,) = (e for e in loop.store.events_of(report) if isinstance(e, RetrainRequested))
    return request


def kinds(loop: Loop, report: DriftReport) -> list[str]:
    return [event.type for event in loop.store.events_of(report)]


def whole(loop: Loop, report: DriftReport) -> FullReport:
    assert report.details
    return FullReport.model_validate_json(gzip.decompress(loop.store.blob(report.details)))


def reference(loop: Loop) -> Reference:
    found = loop.store.reference("air_quality")
    assert found
    return found


def test_first_batch_asks_for_the_first_model(loop: Loop) -> None:
    report = loop.check(loop.ingest())
    assert report.verdict == "no reference"
    assert report.reason == "the first 120 rows make the first reference"
    request = request_of(loop, report)
    assert (request.reason, request.reference_version) == ("first_model", None)


def test_small_first_batches_wait_until_there_are_enough_rows(loop: Loop) -> None:
    reports = [loop.check(loop.ingest(stations=6)) for _ in range(3)]
    assert [r.verdict for r in reports] == ["insufficient data"] * 2 + ["no reference"]
    assert reports[1].reason == "A first reference needs at least 100 rows; there are 72."


def test_promotion_makes_the_window_the_reference(loop: Loop) -> None:
    loop.begin()
    made = reference(loop)
    assert (made.version, made.up_to_sequence, made.model_version) == (1, 1, 1)
    assert loop.store.collection(RetiredReference).count_documents({}) == 0
    assert made.profile
    stored = Profile.from_bytes(loop.store.blob(made.profile))
    rows = from_parquet(loop.store.blob(made.data))
    assert stored.to_bytes() == Profile.fit(rows, roles=roles_of(loop.pipeline)).to_bytes()


def test_stable_batch_asks_for_nothing(loop: Loop) -> None:
    loop.begin()
    report = loop.check(loop.ingest(bad_rows=3))
    assert report.verdict == "no drift"
    assert kinds(loop, report) == []
    assert report.p is not None
    assert report.p > report.threshold
    assert (report.incident, report.chart, report.cells) == (None, None, [])
    assert whole(loop, report).rows_set_aside == 3


def test_drifted_batch_asks_for_a_model_and_its_promotion_retires_the_reference(
    loop: Loop,
) -> None:
    loop.begin()
    report = loop.check(loop.ingest(level=150))
    assert report.verdict == "drift"
    assert report.p is not None
    assert report.p <= report.threshold
    assert set(report.feature_drifts) >= COMPARED
    request = request_of(loop, report)
    assert (request.reason, request.reference_version, request.sequence) == ("drift", 1, 2)
    loop.deliver(loop.train(request))
    assert reference(loop).version == 2
    retired = loop.store.newest(RetiredReference, {}, "version")
    assert retired
    assert (retired.version, retired.drift_score) == (1, report.drift_score)
    assert retired.feature_drifts == report.feature_drifts


def test_drift_is_told_with_its_cells_its_chart_and_the_whole_report(loop: Loop) -> None:
    loop.begin(hours=5)
    report = loop.check(loop.ingest(level=150))
    found, request = loop.store.events_of(report)
    assert isinstance(found, DriftFound)
    assert isinstance(request, RetrainRequested)
    assert (found.report, found.sequence, found.reason) == (report.id, 2, report.reason)
    assert 0 < len(report.cells) <= 10
    assert all(cell.speaks for cell in report.cells)
    assert report.chart
    assert loop.store.picture(report.chart).startswith(b"\x89PNG")
    full = whole(loop, report)
    assert (full.verdict, full.p, full.name) == ("drift", report.p, "air_quality")
    assert full.cells[: len(report.cells)] == report.cells
    assert {cell.segment for cell in full.cells} > {None, "PM2.5"}


def test_incident_is_told_once_and_ends_with_a_promotion(loop: Loop) -> None:
    loop.rejects = frozenset({2, 4})
    loop.pipeline = with_gate(loop.pipeline, cooldown=0)
    loop.begin()
    reports = [loop.go_round(loop.ingest(level=level)) for level in (150, 50, 150, 150, 150, 50)]
    assert [r.verdict for r in reports] == [
        *("drift", "no drift", "drift", "drift"),  # the third of these leads to a promotion
        "no drift",
        "drift",
    ]
    assert [r.incident for r in reports] == [2, 2, 2, 2, None, 7]
    told = [kinds(loop, report).count("DriftFound") for report in reports]
    assert told == [1, 0, 0, 0, 0, 1]
    assert [r.chart is not None for r in reports] == [count == 1 for count in told]
    asked = [kinds(loop, report).count("RetrainRequested") for report in reports]
    assert asked == [1, 0, 1, 1, 0, 1]


def test_batch_waits_for_the_one_before_it(loop: Loop) -> None:
    loop.begin()
    second, third = loop.ingest(), loop.ingest()
    with pytest.raises(NotYet, match=effect_id("drift", second.event_id)):
        loop.check(third)
    loop.check(second)
    assert loop.check(third).verdict == "no drift"


def test_batch_waits_until_the_drift_before_it_is_answered(loop: Loop) -> None:
    loop.begin()
    request = request_of(loop, loop.check(loop.ingest(level=150)))
    third = loop.ingest(level=150)
    with pytest.raises(NotYet, match=effect_id("trainer", request.event_id)):
        loop.check(third)
    promoted = loop.train(request)
    with pytest.raises(NotYet, match=effect_id("drift", promoted.event_id)):
        loop.check(third)
    loop.deliver(promoted)
    assert loop.check(third).verdict == "no drift"


def test_rejected_model_leaves_the_reference(loop: Loop) -> None:
    loop.rejects = frozenset({2})
    loop.begin()
    loop.go_round(loop.ingest(level=150))
    assert loop.check(loop.ingest(level=150)).verdict == "drift"
    assert loop.store.collection(Reference).count_documents({}) == 1


def test_reference_set_by_a_person_asks_for_a_model(loop: Loop) -> None:
    loop.begin()
    report = loop.check(loop.ingest(as_reference=True))
    assert report.verdict == "reference set"
    assert request_of(loop, report).reason == "reference_set"


def test_too_small_a_file_is_refused_as_the_reference(loop: Loop) -> None:
    loop.begin()
    report = loop.check(loop.ingest(stations=4, as_reference=True))
    assert (report.verdict, report.needs_retraining) == ("insufficient data", False)
    assert report.reason == "A reference needs at least 100 rows; this file has 24."
    assert loop.check(loop.ingest()).reference_version == 1


def test_reference_set_by_a_person_ends_an_incident(loop: Loop) -> None:
    loop.rejects = frozenset({2})
    loop.begin()
    loop.go_round(loop.ingest(level=150))
    assert loop.go_round(loop.ingest(level=150, as_reference=True)).incident == 2
    assert loop.check(loop.ingest(level=150)).incident is None
    assert reference(loop).version == 2


def test_batch_of_which_nothing_is_left_is_given_up(loop: Loop) -> None:
    loop.begin()
    event = loop.ingest()
    loop.store.database["batches"].delete_one({"sequence": 2})
    with pytest.raises(WillNotPass, match=r"no longer holds batch 2: RETENTION_DAYS"):
        loop.check(event)


def test_report_has_the_original_workflows_keys(loop: Loop) -> None:
    loop.begin()
    report = loop.check(loop.ingest(level=80)).model_dump(mode="json")
    assert {
        "drift_score",
        "needs_retraining",
        "threshold",
        "feature_drifts",
        "feature_stats",
        "timestamp",
    } <= set(report)
    stats = report["feature_stats"]["pollutant_avg"]
    assert {"ref_mean", "curr_mean", "ref_std", "curr_std"} <= set(stats)
    assert datetime.fromisoformat(report["timestamp"]).utcoffset() is not None


@pytest.mark.parametrize("profile", [None, b"of another version"])
def test_profile_that_is_missing_or_unreadable_is_fitted_anew(
    loop: Loop, profile: bytes | None
) -> None:
    loop.begin()
    event = loop.ingest(level=80)
    with_profile = loop.check(event)
    loop.store.database["drift_reports"].delete_one({"sequence": 2})
    digest = loop.store.put_blob(profile) if profile else None
    loop.store.database["references"].update_one({}, {"$set": {"profile": digest}})
    authenticate(loop.store)
    without = loop.check(event)
    assert (without.p, without.cells) == (with_profile.p, with_profile.cells)
    assert (without.profile, without.counts) == (with_profile.profile, with_profile.counts)
