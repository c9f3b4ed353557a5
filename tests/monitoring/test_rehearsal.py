"""A loop that drifts, the exporter beside it, and a real Prometheus: every panel shows data."""

from pathlib import Path

import pytest

from services.publisher.watch import watch_publications
from shared.events import STAGES
from shared.stage import Resources, StageRuntime
from tests.conftest import AIR_QUALITY
from tests.e2e.conftest import wait_for
from tests.integration import workers
from tests.integration.exporter.scrape import environment, exporting
from tests.monitoring.answers import values, without_data
from tests.monitoring.prometheus import prometheus_binary, watching

pytestmark = pytest.mark.timeout(300)

DRIFT_AT = 3
HOURS = 5
BINARY = prometheus_binary()


@pytest.mark.skipif(
    BINARY is None,
    reason="no Prometheus here, and Debian's package could not be fetched; the queries' names and "
    "labels are compared with those served in test_names.py",
)
def test_every_panel_shows_data(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert BINARY
    settings = resources.settings
    given = environment(
        settings.redis_url.get_secret_value(),
        settings.mongodb_uri.get_secret_value(),
        MONGODB_DATABASE=settings.mongodb_database,
        PIPELINES=str(AIR_QUALITY.parent),
    )
    monkeypatch.setattr(workers, "STATIONS", 130)  # enough for the segments to be compared
    loop = workers.workers_of(resources, DRIFT_AT, monkeypatch)
    with (
        exporting(given, tmp_path) as exporter,
        watching(BINARY, exporter.address.removeprefix("http://"), tmp_path) as prometheus,
    ):
        # A figure rises from what was seen before.
        assert wait_for(lambda: values(prometheus, "trimtab_batches_total"), 30)
        for _ in range(HOURS):
            loop.tick()
            loop.work()
            for part in (*(f"{stage}@a" for stage in STAGES), "beat", "sweep"):
                resources.broker.note_alive(part)
        watch_publications(resources)
        wait_for(lambda: not without_data(prometheus), 30)
        assert without_data(prometheus) == []
        drifted = values(prometheus, 'trimtab_checks_total{verdict="drift"}')
        assert drifted == [1]
        # A pending alert fires after its pause; those of the parts were pending at the start.
        assert wait_for(lambda: values(prometheus, "count(ALERTS)") == [], 30)
        StageRuntime("ingest", resources).bury_foreign("not JSON", "not a message of ours")
        assert wait_for(lambda: values(prometheus, 'ALERTS{alertname="DeadLetters"}') == [1], 30)
