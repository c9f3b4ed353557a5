"""A far side to send messages to, and a promotion and a drift in the store."""

import json
import socket
import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message as Headers
from email.parser import BytesHeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

import apprise
import pytest

from services.drift.report.picture import render_png
from shared.drift import CellFinding, FeatureStats
from shared.events import DriftFound, ModelPromoted, deterministic_id
from shared.records import DriftReport, ModelVersion
from shared.settings import Settings
from shared.store import Store
from tests.unit.drift import sample_reports

TOKEN = "tokenPart-3vJq0Zb8dYw5_uT7rXk2LmNc9HsAeGf1RiPoQy6WzKtVxBnDjMl4"
"""As long and odd as a real webhook's, and found nowhere else."""


@dataclass(frozen=True)
class Answer:
    """What the far side says next. Status 0: it takes the request and closes the connection."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    after_seconds: float = 0


@dataclass(frozen=True)
class File:
    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class Request:
    path: str
    body: dict[str, Any]
    """The JSON: the whole body, or a form's part `payload_json`."""
    files: dict[str, File] = field(default_factory=dict)
    """A form's other parts."""


def read_request(path: str, headers: Headers, data: bytes) -> Request:
    """The request as a server reads it, a form split at its boundary byte by byte."""
    if headers.get_content_type() != "multipart/form-data":
        return Request(path, json.loads(data))
    boundary = f"--{headers.get_boundary()}".encode()
    before, *parts, after = data.split(boundary)
    assert (before, after) == (b"", b"--\r\n")
    found: dict[str, File] = {}
    for part in parts:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        about = BytesHeaderParser().parsebytes(head)
        name = str(about.get_param("name", header="Content-Disposition"))
        assert name not in found
        content = content.removesuffix(b"\r\n")
        found[name] = File(about.get_filename(""), about.get_content_type(), content)
    payload = found.pop("payload_json")
    assert (payload.name, payload.media_type) == ("", "application/json")
    return Request(path, json.loads(payload.data), found)


class FarSide(ThreadingHTTPServer):
    """Plays Discord, or any other HTTP channel, on a real socket.

    It gives the answers in `script`, and when they are used up takes every message as Discord does.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FarSideHandler)
        self.script: deque[Answer] = deque()
        self.requests: list[Request] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def webhook(self) -> str:
        return f"{self.origin}/api/webhooks/1430000000000000001/{TOKEN}"

    def apprise(self, name: str = "hook") -> str:
        return f"json://127.0.0.1:{self.server_port}/{name}/{TOKEN}"

    def say(self, *answers: Answer) -> None:
        self.script.extend(answers)

    def received_at(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]


class FarSideHandler(BaseHTTPRequestHandler):
    server: FarSide

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(read_request(self.path, cast("Headers", self.headers), body))
        taken = Answer(200, {"id": str(9_000 + len(self.server.requests))})
        answer = self.server.script.popleft() if self.server.script else taken
        time.sleep(answer.after_seconds)
        if answer.status == 0:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._give(answer)

    def _give(self, answer: Answer) -> None:
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's name
        pass


@pytest.fixture(scope="session", autouse=True)
def _apprise_loaded() -> None:
    """Apprise's plugins, which it imports at their first use: one imports a deprecated module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        apprise.Apprise.instantiate("json://localhost")


@pytest.fixture
def far_side() -> Iterator[FarSide]:
    server = FarSide()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def to_discord(settings: Settings, far_side: FarSide) -> Settings:
    return with_channels(settings, far_side.webhook)


def with_channels(settings: Settings, webhook: str | None, *apprise_urls: str) -> Settings:
    """The settings with these channels, read as from the environment."""
    return Settings(
        **settings.model_dump(exclude={"discord_webhook_url", "apprise_urls"}),
        discord_webhook_url=webhook,
        apprise_urls=" ".join(apprise_urls),
    )


KEPT: dict[str, Any] = {
    "pipeline": "air_quality",
    "trace_id": deterministic_id("a trace"),
    "recorded_at": datetime.now(UTC),
}


@pytest.fixture
def promotion(store: Store) -> ModelPromoted:
    """v3 takes the place of v2; its record and its drift report are in the store."""
    stats = FeatureStats(
        ref_mean=82.1, curr_mean=132.5, ref_std=9, curr_std=9, ref_rows=99, curr_rows=99
    )
    report = DriftReport(
        **KEPT,
        id="drift:report",
        verdict="drift",
        needs_retraining=True,
        reason="the columns' mean change 0.241 > 0.1",
        drift_score=0.241,
        threshold=0.1,
        policy="mean_std_change",
        feature_drifts={"pollutant_max": 0.61},
        feature_stats={"pollutant_max": stats},
        timestamp=datetime.now(UTC),
        sequence=7,
        batch_id="ingest:batch",
        batch_rows=3_300,
        reference_version=2,
        reference_rows=9_900,
    )
    model = ModelVersion(
        **KEPT,
        id="trainer:model",
        version=3,
        decision="promoted",
        reason="not worse than v2",
        model="0" * 64,
        seal="",
        model_bytes=1,
        metrics={"mae": 6.46, "champion": {"version": 2, "mae": 6.97}},
        champion_version=2,
        window="0" * 64,
        sequence=7,
        drift_report=report.id,
        lineage={},
    )
    store.record(report)
    store.record(model)
    return ModelPromoted(
        event_id=deterministic_id("a promotion"),
        trace_id=KEPT["trace_id"],
        pipeline="air_quality",
        occurred_at=datetime.now(UTC),
        model_version=3,
        replaced_version=2,
        sequence=7,
        window="0" * 64,
        window_rows=13_200,
    )


@pytest.fixture
def picture() -> bytes:
    """The chart of a drift report, as the drift stage draws it."""
    return render_png(sample_reports.air_quality())


@pytest.fixture
def drift(store: Store, picture: bytes) -> DriftFound:
    """Batch 124 drifted; its report and the report's chart are in the store."""
    cells = [
        CellFinding(
            kind="number",
            column=column,
            segment=segment,
            p=p,
            effect=effect,
            speaks=True,
            direction=direction,
            reference_rows=1_640,
            current_rows=1_190,
        )
        for (column, segment), (p, effect, direction) in sample_reports.SPEAKING.items()
    ]
    report = DriftReport(
        **KEPT,
        id="drift:124",
        verdict="drift",
        needs_retraining=True,
        reason="pollutant_avg in PM2.5: median 84 → 131 (p = 3.2e-8, threshold 0.00025)",
        policy="calibrated",
        p=3.2e-8,
        threshold=0.00025,
        drift_score=0.34,
        feature_drifts={"pollutant_avg": 0.34},
        feature_stats={},
        cells=cells,
        window_batches=24,
        incident=124,
        timestamp=datetime.now(UTC),
        sequence=124,
        batch_id="ingest:124",
        batch_rows=301,
        reference_version=2,
        reference_rows=10_000,
        chart=store.put_picture(picture),
    )
    store.record(report)
    return DriftFound(
        event_id=deterministic_id("a drift"),
        trace_id=KEPT["trace_id"],
        pipeline="air_quality",
        occurred_at=datetime.now(UTC),
        sequence=124,
        rows=301,
        report=report.id,
        reason=report.reason,
    )
