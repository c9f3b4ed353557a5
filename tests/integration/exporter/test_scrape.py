"""The exporter as a process beside a real store and broker: what it serves is what is there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from services.cli.embedded.servers import Mongo, Valkey
from services.cli.status import status
from services.exporter import metrics
from services.exporter.pipelines import PipelineFigures
from services.exporter.reading import ANSWER_SECONDS
from shared.drift import ColumnTest
from shared.events import STAGES, IngestionDue, dump_event, first_event_fields
from shared.failures import NotYet, WillNotPass, WillPass
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline, load_pipelines
from shared.records import Batch, DeadLetter
from shared.stage import Resources, StageRuntime
from shared.store import Store
from tests.conftest import AIR_QUALITY
from tests.e2e.conftest import wait_for
from tests.integration.drift.loop import Loop, with_drift, with_gate
from tests.integration.exporter.scrape import COMMAND, ROOT, Exporter, environment, exporting
from tests.integration.plain_records import dead_letter
from tests.integration.profiler import profiled

pytestmark = pytest.mark.timeout(240)  # servers come and go, beside other tests

A = "air_quality"
STATIONS = 60
HOURS = 3
"""Of a batch; enough for its segments to be compared."""


@pytest.fixture
def exporter(resources: Resources, tmp_path: Path) -> Iterator[Exporter]:
    settings = resources.settings
    given = environment(
        settings.redis_url.get_secret_value(),
        settings.mongodb_uri.get_secret_value(),
        MONGODB_DATABASE=settings.mongodb_database,
        PIPELINES=str(AIR_QUALITY.parent),
    )
    with exporting(given, tmp_path) as running:
        yield running


def due(age: timedelta) -> IngestionDue:
    now = datetime.now(UTC)
    fields = first_event_fields(A, "slot", age) | {"occurred_at": now - age}
    return IngestionDue(**fields, slot=now)


def read_nothing(event: IngestionDue, _resources: Resources) -> Outcome:
    record = Batch(
        **record_fields(event, "ingest"), outcome="nothing new", rows_received=0, source="a test"
    )
    return Outcome(record)


class Failing:
    """A handler that fails as told before it succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)

    def __call__(self, event: IngestionDue, resources: Resources) -> Outcome:
        if self._failures:
            raise self._failures.pop(0)
        return read_nothing(event, resources)


def test_an_empty_system_has_zeros_and_no_nonsense(exporter: Exporter) -> None:
    scrape = exporter.scrape()
    assert exporter.health() == (200, "healthy")
    assert scrape("trimtab_batches_total", pipeline=A) == 0
    assert scrape("trimtab_dead_letters_open", pipeline=A, stage="trainer") == 0
    assert scrape("trimtab_part_alive", part="beat") == 0
    assert scrape("trimtab_unchecked_batches", pipeline=A) == 0
    assert scrape("trimtab_slots_without_batch", pipeline=A) == 0
    assert scrape("trimtab_champion_version", pipeline=A) is None
    assert scrape("trimtab_drift_score", pipeline=A) is None


def test_a_loop_that_has_drifted(exporter: Exporter, store: Store, air_quality: Pipeline) -> None:
    pipeline = with_gate(with_drift(air_quality, windows=(1,)), cooldown=0)
    loop = Loop(store, pipeline, rejects=frozenset({3, 4}))
    loop.begin(stations=STATIONS, hours=HOURS)
    loop.go_round(loop.ingest(stations=STATIONS, hours=HOURS, bad_rows=2))
    for _ in range(2):
        report = loop.go_round(loop.ingest(level=150, stations=STATIONS, hours=HOURS))
    scrape = exporter.scrape()

    batches = list(store.find(Batch, {}))
    assert scrape("trimtab_batches_total", pipeline=A) == 4
    for result, rows in {
        "new": sum(batch.rows for batch in batches),
        "taken_in_before": sum(batch.rows_known for batch in batches),
        "changed": 0,
        "set_aside": 2,
    }.items():
        assert scrape("trimtab_rows_total", pipeline=A, result=result) == rows
    newest = max(batch.recorded_at for batch in batches).timestamp()
    assert scrape("trimtab_newest_batch_timestamp_seconds", pipeline=A) == newest

    assert scrape("trimtab_checks_total", pipeline=A, verdict="drift") == 2
    assert scrape("trimtab_newest_check_verdict", pipeline=A, verdict="drift") == 1
    assert scrape("trimtab_newest_check_verdict", pipeline=A, verdict="no drift") == 0
    assert scrape("trimtab_drift_score", pipeline=A) == report.drift_score
    assert scrape("trimtab_drift_p_value", pipeline=A) == report.p
    assert scrape("trimtab_drift_threshold", pipeline=A) == report.threshold
    assert scrape("trimtab_open_drift_checks", pipeline=A) == 2
    for feature, score in report.feature_drifts.items():
        assert scrape("trimtab_feature_drift_score", pipeline=A, feature=feature) == score
    for cell in report.cells:
        if cell.kind == "number":
            served = scrape(
                "trimtab_segment_drift_effect_ratio",
                pipeline=A,
                feature=cell.column,
                segment=cell.segment or "",
            )
            assert served is not None
            assert served >= cell.effect
    segments = {dict(labels)["segment"] for labels in scrape.of("trimtab_segment_drift_p_value")}
    assert segments > {"", "PM2.5"}

    finding = report.performance
    assert finding
    assert finding.interval_at_promotion
    assert scrape("trimtab_champion_error", pipeline=A, metric="mae") == finding.error
    bounds = [
        scrape("trimtab_champion_promotion_error_bound", pipeline=A, metric="mae", bound=bound)
        for bound in ("lower", "upper")
    ]
    assert bounds == list(finding.interval_at_promotion)
    then = scrape("trimtab_champion_promotion_error", pipeline=A, metric="mae")
    assert then == finding.error_at_promotion
    assert bounds[0] < then < bounds[1]  # type: ignore[operator]

    assert scrape("trimtab_champion_version", pipeline=A) == 1
    assert scrape("trimtab_models_total", pipeline=A, decision="promoted") == 1
    assert scrape("trimtab_models_total", pipeline=A, decision="rejected") == 2
    assert scrape("trimtab_rejections_in_a_row", pipeline=A) == 3  # versions are batch numbers here


def test_drift_ends_with_a_promotion(
    exporter: Exporter, store: Store, air_quality: Pipeline
) -> None:
    loop = Loop(store, air_quality)
    loop.begin(stations=STATIONS)
    report = loop.check(loop.ingest(level=150, stations=STATIONS))
    assert exporter.scrape()("trimtab_open_drift_checks", pipeline=A) == 1
    for request in store.events_of(report):
        if request.type == "RetrainRequested":
            loop.adopt(loop.train(request))  # type: ignore[arg-type]
    scrape = exporter.scrape()
    assert scrape("trimtab_open_drift_checks", pipeline=A) == 0
    assert scrape("trimtab_champion_version", pipeline=A) == 2
    assert scrape("trimtab_champion_error", pipeline=A, metric="mae") is None  # not checked yet


def test_promotions_that_are_not_on_the_repository_are_counted(
    exporter: Exporter, store: Store, air_quality: Pipeline
) -> None:
    loop = Loop(store, air_quality)
    loop.begin(stations=STATIONS)
    scrape = exporter.scrape()
    assert scrape("trimtab_published_version", pipeline=A) is None
    assert scrape("trimtab_unpublished_promotions", pipeline=A) == 1


def test_a_record_that_cannot_be_read_takes_no_other_figure_away(
    exporter: Exporter, resources: Resources, store: Store, tmp_path: Path
) -> None:
    """A record of a later version, after going back to this one, or one that was altered."""
    for event in (due(timedelta(minutes=1)), due(timedelta(minutes=2))):
        StageRuntime("ingest", resources).handle(dump_event(event), read_nothing)
    batches = store.collection(Batch)
    numbered = {"sequence": 1, "data": "0" * 64, "rows": "from a row of data"}
    batches.update_one({}, {"$set": numbered | {"outcome": "ingested"}})
    assert exporter.health() == (200, "healthy")
    scrape = exporter.scrape()
    assert scrape("trimtab_source_up", source="store") == 1
    assert scrape("trimtab_pipeline_readable", pipeline=A) == 0
    assert scrape("trimtab_unchecked_batches", pipeline=A) is None
    assert scrape("trimtab_dead_letters_open", pipeline=A, stage="ingest") == 0
    assert scrape("trimtab_readings_total", pipeline=A) == 1
    assert scrape("trimtab_unreadable_records_total") == 1
    log = (tmp_path / "exporter.log").read_text()
    assert log.count("Batch.rows cannot be read") == 1
    assert "from a row of data" not in log
    batches.update_one({"sequence": 1}, {"$set": {"rows": 5}})
    scrape = exporter.scrape()
    assert scrape("trimtab_pipeline_readable", pipeline=A) == 1
    assert scrape("trimtab_unchecked_batches", pipeline=A) == 1


def test_letters_of_unknown_pipelines_make_no_labels(exporter: Exporter, store: Store) -> None:
    for number, name in enumerate(("unknown", "taken_away", "made_up_by_whoever_can_send", A)):
        store.bury(dead_letter(f"drift:{number}", pipeline=name))
    letters = store.collection(DeadLetter)
    letters.insert_one({"_id": "drift:9", "state": "open", "recorded_at": datetime.now(UTC)})
    letters.insert_one(
        {"_id": "drift:8", "state": "open", "recorded_at": datetime.now(UTC)}
        | {"pipeline": ["x"], "stage": "none of ours", "attempts": 1}
    )
    assert exporter.health() == (200, "healthy")
    scrape = exporter.scrape()
    assert scrape("trimtab_dead_letters_open", pipeline="unknown", stage="unknown") == 2
    assert scrape("trimtab_dead_letters_open", pipeline="unknown", stage="drift") == 3
    assert scrape("trimtab_dead_letters_open", pipeline=A, stage="drift") == 1
    named = {dict(labels)["pipeline"] for labels in scrape.of("trimtab_dead_letters_open")}
    assert named == {"unknown", *load_pipelines(AIR_QUALITY.parent)}


def test_a_check_without_a_reference_has_no_threshold(
    exporter: Exporter, store: Store, air_quality: Pipeline
) -> None:
    loop = Loop(store, air_quality)
    loop.check(loop.ingest(stations=STATIONS))
    scrape = exporter.scrape()
    assert scrape("trimtab_newest_check_verdict", pipeline=A, verdict="no reference") == 1
    assert scrape("trimtab_drift_threshold", pipeline=A) is None
    assert scrape("trimtab_champion_checks_above_interval", pipeline=A) is None


@pytest.mark.parametrize(("number", "is_score"), [("ks", False), ("jensen_shannon", True)])
def test_p_values_of_columns_are_not_served_as_scores(
    number: str, is_score: bool, store: Store, air_quality: Pipeline
) -> None:
    pipeline = with_drift(
        air_quality, policy="columns", column_test=ColumnTest.model_validate({"number": number})
    )
    loop = Loop(store, pipeline)
    loop.begin(stations=STATIONS)
    report = loop.check(loop.ingest(level=150, stations=STATIONS))
    assert report.feature_drifts
    served = PipelineFigures(store, {A: pipeline}).read()
    assert (metrics.FEATURE_DRIFT in served) == is_score
    assert served[metrics.DRIFT_SCORE][A,] == report.drift_score


def test_checks_above_the_interval_are_counted_from_the_newest(
    exporter: Exporter, store: Store, air_quality: Pipeline
) -> None:
    loop = Loop(store, with_drift(air_quality, trigger="both", columns=("longitude",)))
    loop.begin(stations=STATIONS)
    for lean in (0.5, 0.9, 0.9):
        loop.go_round(loop.ingest(stations=STATIONS, lean=lean))
    for lean in (0.9, 0.9, 0.9, 0.9, 0.9):
        # So few rows are not tested, and may be above the interval by chance.
        few = loop.go_round(loop.ingest(stations=4, lean=lean))
        loop.go_round(loop.ingest(stations=STATIONS, lean=lean))
    few = loop.go_round(loop.ingest(stations=4, lean=0.9))
    assert few.performance
    assert few.performance.interval_at_promotion
    assert (few.performance.error or 0) > few.performance.interval_at_promotion[1]
    for _ in range(12):  # targets may come much more rarely than rows
        loop.go_round(loop.ingest(stations=STATIONS, target=False))
    scrape = exporter.scrape()
    assert scrape("trimtab_champion_checks_above_interval", pipeline=A) == 7
    assert scrape("trimtab_champion_error", pipeline=A, metric="mae") == few.performance.error


def test_tries_letters_queues_and_parts_are_those_of_status(
    exporter: Exporter, resources: Resources
) -> None:
    handled, given_up = due(timedelta(minutes=1)), due(timedelta(minutes=2))
    failing = Failing(WillPass("busy"), NotYet("drift:" + "0" * 32), WillPass("busy"))
    for _ in range(4):
        StageRuntime("ingest", resources).handle(dump_event(handled), failing)
        time.sleep(0.05)  # the next try is due by then
    StageRuntime("ingest", resources).handle(dump_event(given_up), Failing(WillNotPass("no key")))
    resources.broker.send_to("ingest", due(timedelta(hours=2)))
    resources.broker.note_alive("trainer@a")
    resources.broker.note_alive("beat")

    scrape, told = exporter.scrape(), status(resources)
    assert scrape("trimtab_retries_total", stage="ingest") == 2
    assert scrape("trimtab_handled_events_total", stage="ingest") == 1
    assert scrape("trimtab_dead_letters_total", pipeline=A, stage="ingest") == 1
    assert scrape("trimtab_dead_letters_open", pipeline=A, stage="ingest") == told["dead_letters"]
    for stage in STAGES:
        queue = told["queues"][stage]
        assert scrape("trimtab_queue_messages", stage=stage) == queue["queued"]
        assert scrape("trimtab_unfinished_events", stage=stage) == queue["unfinished"]
        age = scrape("trimtab_oldest_event_age_seconds", stage=stage)
        assert age == pytest.approx(queue["oldest_seconds"] or 0, abs=10)
    assert scrape("trimtab_queue_messages", stage="ingest") == 1
    assert scrape("trimtab_oldest_event_age_seconds", stage="ingest") >= 7200  # type: ignore[operator]
    for part, found in told["parts"].items():
        assert scrape("trimtab_part_alive", part=part) == found["alive"]
    assert len(scrape.of("trimtab_part_last_seen_timestamp_seconds")) == 2


def test_counters_do_not_fall_when_records_expire(
    exporter: Exporter, resources: Resources, store: Store
) -> None:
    for minutes in range(3):
        event = due(timedelta(minutes=minutes))
        StageRuntime("ingest", resources).handle(dump_event(event), read_nothing)
    assert exporter.scrape()("trimtab_readings_total", pipeline=A) == 3
    store.collection(Batch).delete_many({})
    assert exporter.scrape()("trimtab_readings_total", pipeline=A) == 3


def test_it_writes_nothing(exporter: Exporter, store: Store, valkey: Valkey) -> None:
    redis = Redis.from_url(valkey.url)
    before = set(store.database.list_collection_names()), redis.dbsize()
    with profiled(store.database) as entries:
        exporter.scrape()
    done = {next(iter(entry["command"])) for entry in entries}
    assert "find" in done
    assert done <= {"find", "getMore", "aggregate", "distinct", "count"}
    after = set(store.database.list_collection_names()) - {"system.profile"}, redis.dbsize()
    assert after == before


@pytest.fixture
def own_mongo(tmp_path: Path) -> Iterator[Mongo]:
    server = Mongo(tmp_path / "mongo", "drift_detection")
    server.start()
    assert server.process
    yield server
    server.process.stop()


OF_THE_BROKER = {"trimtab_queue_messages", "trimtab_part_alive", "trimtab_oldest_event_age_seconds"}
OF_THE_STORE = {"trimtab_unfinished_events", "trimtab_unsent_records", "trimtab_unchecked_batches"}
COUNTERS = {"trimtab_readings_total", "trimtab_rows_total", "trimtab_dead_letters_total"}


def test_a_store_or_a_broker_that_is_stopped_or_gone(
    own_mongo: Mongo, own_valkey: Valkey, tmp_path: Path
) -> None:
    given = environment(own_valkey.url, own_mongo.uri, PIPELINES=str(AIR_QUALITY.parent))
    with exporting(given, tmp_path) as exporter:
        assert exporter.scrape().names() >= OF_THE_STORE | OF_THE_BROKER | COUNTERS
        for server, source, lost, kept in (
            (own_mongo, "store", OF_THE_STORE, OF_THE_BROKER | COUNTERS),
            (own_valkey, "broker", {"trimtab_part_alive"}, OF_THE_STORE | COUNTERS),
        ):
            assert server.process
            assert server.process.pid
            os.kill(server.process.pid, signal.SIGSTOP)
            began = time.monotonic()
            scrape = exporter.scrape()
            status_code, said = exporter.health()
            assert time.monotonic() - began < 2 * ANSWER_SECONDS + 2
            os.kill(server.process.pid, signal.SIGCONT)
            assert scrape("trimtab_source_up", source=source) == 0
            assert not scrape.names() & lost
            assert scrape.names() >= kept
            assert status_code == 503
            assert said.startswith(f"the {source} does not answer: ")
            assert wait_for(lambda: exporter.health()[0] == 200, 30)
            assert exporter.scrape()("trimtab_source_up", source=source) == 1
        assert own_mongo.process
        own_mongo.process.kill()
        scrape = exporter.scrape()
        assert scrape("trimtab_source_up", source="store") == 0
        assert scrape("trimtab_source_up", source="broker") == 1
        password = (tmp_path / "mongo" / "password").read_text()
        assert exporter.process.exit_status is None
        assert password not in (tmp_path / "exporter.log").read_text()


def test_it_starts_before_store_and_broker(
    own_mongo: Mongo, own_valkey: Valkey, tmp_path: Path
) -> None:
    given = environment(own_valkey.url, own_mongo.uri, PIPELINES=str(AIR_QUALITY.parent))
    for server in (own_mongo, own_valkey):
        assert server.process
        server.process.kill()
    with exporting(given, tmp_path) as exporter:
        scrape = exporter.scrape()
        assert scrape.of("trimtab_source_up").values() != {1.0}
        assert exporter.health()[0] == 503
        for server in (own_mongo, own_valkey):
            assert server.process
            server.process.start()
        assert wait_for(lambda: exporter.health()[0] == 200, 30)
        assert exporter.scrape()("trimtab_readings_total", pipeline=A) == 0


def refused(settings: dict[str, str]) -> str:
    """What it says on its error output before it exits with 2."""
    done = subprocess.run(
        [sys.executable, *COMMAND],
        env=settings | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr.strip()


def test_what_it_cannot_start_with_is_named(exporter: Exporter, tmp_path: Path) -> None:
    given = environment("redis://localhost", "mongodb://localhost")
    port = exporter.address.rpartition(":")[2]
    said = refused(given | {"EXPORTER_PORT": port, "PIPELINES": str(AIR_QUALITY.parent)})
    assert (
        f"the exporter cannot listen on 127.0.0.1:{port}: Address already in use; set "
        "EXPORTER_ADDRESS and EXPORTER_PORT to what this machine has free"
    ) in said
    assert "EXPORTER_PORT" in refused(given | {"EXPORTER_PORT": "0"})
    assert "MONGODB_URI" in refused({"REDIS_URL": "redis://localhost"})
    assert "no pipeline file" in refused(given | {"PIPELINES": str(tmp_path)})


def test_it_ends_when_told_to(exporter: Exporter) -> None:
    exporter.process.ask_to_stop()
    assert wait_for(lambda: exporter.process.exit_status is not None, 5)
    assert exporter.process.exit_status == 0
