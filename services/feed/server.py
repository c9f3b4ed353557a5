"""The HTTP server: data.gov.in's resource protocol, and the clock of a manual history.

`GET /resource/{id}` answers as data.gov.in does. `GET /clock` says which hour is served; with a
manual clock, `POST /clock/advance` goes on to the next.
"""

import logging
import sys
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from services.feed.answers import RESOURCE as RESOURCE
from services.feed.answers import (
    Answer,
    Hour,
    begins_reading,
    is_authorised,
    json_answer,
    resource_answer,
)
from services.feed.clock import Clock, ManualClock
from services.feed.history import History

log = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
_IDLE_SECONDS: Final = 30.0
_RESOURCES: Final = "/resource/"


class FeedServer(ThreadingHTTPServer):
    """Serves one hour of a history at a time."""

    daemon_threads = True

    def __init__(
        self,
        history: History,
        clock: Clock,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        api_key: str | None = None,
    ) -> None:
        """Listen; `serve_forever` answers.

        Args:
            history: what is served, hour by hour.
            clock: which hour it is; only a `ManualClock` can be advanced over HTTP.
            host: the address to listen on.
            port: the port to listen on; 0 takes a free one.
            api_key: the one key that is accepted; None accepts every request.

        Raises:
            OSError: the port is taken, or the address is not one of this machine.
        """
        super().__init__((host, port), _Handler)
        self.clock = clock
        self.api_key = api_key
        self._history = history
        self._lock = threading.Lock()
        self._served: tuple[int, Hour] | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def current(self) -> Hour:
        """What is served now: the same rows and date for every page of an hour.

        Raises:
            ValueError: a recording can no longer be read.
        """
        with self._lock:
            number = self.clock.hour()
            if self._served is None or self._served[0] != number:
                self._served = number, Hour(self._history.rows(number), datetime.now(UTC))
            return self._served[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Report what broke a connection, unless it was the client who left."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("a connection broke")


class _Handler(BaseHTTPRequestHandler):
    server: FeedServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    _reading: Hour | None = None
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self._send(self._clock() if path == "/clock" else self._resource(path, query))

    def do_POST(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the body is left unread
            self._send(json_answer(400, {"error": "a request without a body is expected"}))
        else:
            self._send(self._advance())

    def _clock(self) -> Answer:
        clock = self.server.clock
        return json_answer(200, {"hour": clock.hour(), "last": clock.at_end})

    def _advance(self) -> Answer:
        clock = self.server.clock
        if self.path != "/clock/advance" or not isinstance(clock, ManualClock):
            return json_answer(404, {"error": "Not found"})
        try:
            hour = clock.advance()
        except ValueError as error:
            return json_answer(409, {"error": str(error)})
        return json_answer(200, {"hour": hour, "last": clock.at_end})

    def _resource(self, path: str, query: str) -> Answer:
        if not path.startswith(_RESOURCES):
            return json_answer(404, {"error": "Not found"})
        key = self.server.api_key
        if key is not None and not is_authorised(query, key):
            return json_answer(403, {"error": "Key not authorised"})
        if path != _RESOURCES + RESOURCE:
            return json_answer(404, {"error": "Resource not found"})
        try:
            return resource_answer(self._hour_of_reading(query), query)
        except ValueError as error:
            return json_answer(500, {"error": str(error)})

    def _hour_of_reading(self, query: str) -> Hour:
        """The same hour for all pages that one connection reads, also if the clock moves on."""
        if self._reading is None or begins_reading(query):
            self._reading = self.server.current()
        return self._reading

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def send_error(self, code: int, message: object = None, explain: object = None) -> None:  # noqa: ARG002 - the base class's signature
        """Answer a malformed request in JSON, without quoting it, and close the connection."""
        self.close_connection = True
        self._send(json_answer(code, {"error": HTTPStatus(code).phrase}))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """The path without the query, which holds the key."""
        log.debug("%s %s %d", self.command, getattr(self, "path", "-").partition("?")[0], code)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the base class's messages may quote the request line, and so the key."""
