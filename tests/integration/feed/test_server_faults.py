"""The feed's server and clients that misbehave, over real sockets."""

import logging
import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from services.feed.clock import ManualClock, RunningClock
from services.feed.recordings import RecordedAnswers
from services.feed.server import RESOURCE, FeedServer
from services.feed.stations import INDIA, SimulatedStations

PATH = f"/resource/{RESOURCE}"


@pytest.fixture
def recordings(tmp_path: Path) -> RecordedAnswers:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    return RecordedAnswers(tmp_path)


@pytest.fixture
def server(recordings: RecordedAnswers) -> Iterator[FeedServer]:
    """A server of one recorded hour, with a key."""
    server = FeedServer(recordings, ManualClock(1), api_key="the-key")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def exchange(server: FeedServer, request: bytes) -> bytes:
    """Send bytes, and read until the server closes the connection."""
    with socket.create_connection(server.server_address, timeout=5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(
    ("request_line", "begin"),
    [
        (b"GET /resource/x?api-key=the-key with spaces HTTP/1.1", b"HTTP/1.1 400"),
        (b"GET /resource/x?api-key=the-key HTTP/x", b'{"error": '),
        (b"DELETE /resource/x?api-key=the-key HTTP/1.1", b"HTTP/1.1 501"),
    ],
)
def test_a_malformed_request_is_answered_in_json_and_quoted_nowhere(
    server: FeedServer,
    request_line: bytes,
    begin: bytes,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = exchange(server, request_line + b"\r\n\r\n")
    assert b'{"error": ' in answer
    assert answer.startswith(begin)
    shown = answer.decode() + caplog.text + "".join(capfd.readouterr())
    assert "the-key" not in shown
    assert "Traceback" not in shown


def test_a_body_is_refused_before_it_can_be_taken_for_a_request(server: FeedServer) -> None:
    request = b"POST /clock/advance HTTP/1.1\r\nContent-Length: 16\r\n\r\nGET /clock HTTP/1"
    answer = exchange(server, request)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_client_that_leaves_disturbs_nobody(
    server: FeedServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(server.server_address, timeout=5) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.sendall(f"GET {PATH} HTTP/1.1\r\n\r\n".encode() * 50)
    answer = httpx.get(server.url + PATH, params={"api-key": "the-key"})
    assert answer.json()["total"] == 1
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_of_our_own_is_reported(
    server: FeedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> None:
        raise RuntimeError("our own fault")

    monkeypatch.setattr(server, "current", break_down)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(server.url + PATH, params={"api-key": "the-key"})
    assert "our own fault" in caplog.text


def test_pages_of_one_hour_bear_one_date(server: FeedServer) -> None:
    assert server.current() is server.current()


def test_a_recording_that_has_gone_bad_is_500_and_named(server: FeedServer, tmp_path: Path) -> None:
    (tmp_path / "a.csv").unlink()
    answer = httpx.get(server.url + PATH, params={"api-key": "the-key"})
    assert answer.status_code == 500
    assert "a.csv" in answer.json()["error"]


def test_a_running_clock_says_over_http_that_the_history_is_over() -> None:
    history = SimulatedStations(stations=1, start=datetime(2026, 1, 10, 9, tzinfo=INDIA), hours=2)
    server = FeedServer(history, RunningClock(1e-6, 2))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        assert httpx.get(f"{server.url}/clock").json() == {"hour": 1, "last": True}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
