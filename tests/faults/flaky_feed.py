"""The feed simulator's answers, some of which go wrong when they are told to."""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from services.feed.answers import Answer, Hour, begins_reading, json_answer, resource_answer
from services.feed.history import Row

WAYS = ("time-out", "500", "429", "cut off", "empty", "html", "rows twice", "rows reordered")

SILENT_SECONDS = 4.0
SINCE = datetime(2026, 1, 10, tzinfo=UTC)
_WRONG = {
    "500": json_answer(500, {"error": "as told"}),
    "403": json_answer(403, {"error": "Key not authorised"}),
    "429": json_answer(429, {"error": "as told"}),
    "empty": Answer(200, "application/json", b""),
    "html": Answer(200, "text/html", b"<html><body>Under maintenance</body></html>"),
}


_REARRANGED: dict[str, Callable[[list[Row]], list[Row]]] = {
    "rows twice": lambda rows: rows * 2,
    "rows reordered": lambda rows: rows[::-1],
}


class Hours(Protocol):
    """A history without an end."""

    def rows(self, hour: int) -> list[Row]:
        """The rows of an hour."""


class FlakyFeed(ThreadingHTTPServer):
    """Serves one hour of a history; its clock is turned by hand, in either direction."""

    daemon_threads = True

    def __init__(self, history: Hours) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._history = history
        self._ways: deque[str] = deque()
        self._lock = threading.Lock()
        self._changes = 0
        self._served = self._hour(0)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def show(self, hour: int) -> None:
        """Serve that hour from now on."""
        self._changes += 1
        served = self._hour(hour)
        with self._lock:
            self._served = served

    def _hour(self, hour: int) -> Hour:
        """Each change has a date of its own, so that a reader sees that the table has changed."""
        return Hour(self._history.rows(hour), SINCE + timedelta(hours=self._changes))

    def fail(self, how: str, times: int) -> None:
        """Answer the next requests in one of the WAYS."""
        with self._lock:
            self._ways.extend([how] * times)

    def heal(self) -> int:
        """Answer well from now on; returns how many requests were still to go wrong."""
        with self._lock:
            left = len(self._ways)
            self._ways.clear()
            return left

    def next_way(self) -> str | None:
        with self._lock:
            return self._ways.popleft() if self._ways else None

    @property
    def served(self) -> Hour:
        with self._lock:
            return self._served

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that was killed in the middle is no news here."""


class _Handler(BaseHTTPRequestHandler):
    server: FlakyFeed
    protocol_version = "HTTP/1.1"
    _reading: Hour | None = None

    def do_GET(self) -> None:
        query = self.path.partition("?")[2]
        way = self.server.next_way()
        if self._reading is None or begins_reading(query):
            served = self.server.served
            rows = _REARRANGED.get(way or "", list)(served.rows)
            self._reading = Hour(rows, served.served_since)
        if way == "time-out":
            time.sleep(SILENT_SECONDS)
            self.close_connection = True
        else:
            answer = _WRONG.get(way or "") or resource_answer(self._reading, query)
            self._send(answer, cut=way == "cut off")

    def _send(self, answer: Answer, *, cut: bool) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        if answer.status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if cut:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
