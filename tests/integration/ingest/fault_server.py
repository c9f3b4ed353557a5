"""An HTTP server that plays the faults which a feed has been seen to have."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

Play = Callable[["Connection"], None]


class Connection(BaseHTTPRequestHandler):
    """One request, with ways to answer it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet

    @property
    def query(self) -> dict[str, str]:
        """The query of the request."""
        query = parse_qs(urlsplit(self.path).query)
        return {name: values[0] for name, values in query.items()}

    def answer(
        self,
        body: str | bytes,
        status: int = 200,
        *,
        length: int | None = None,
        **headers: str,
    ) -> None:
        """Send an answer whose Content-Length may lie."""
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)
        if length is not None:
            self.close_connection = True

    def drip(self, data: bytes, seconds: float) -> None:
        """Send byte after byte, none of which takes long."""
        self.wfile.flush()
        for byte in data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(seconds)

    def do_GET(self) -> None:
        server = cast("FaultServer", self.server)
        server.asked.append(self.path)
        server.heard.append({name.lower(): value for name, value in self.headers.items()})
        server.connections.add(self.client_address)
        with server.lock:
            play = server.plays.pop(0) if len(server.plays) > 1 else server.plays[0]
        try:
            play(self)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class FaultServer(ThreadingHTTPServer):
    """Plays its answers in turn, the last one for ever."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *plays: Play) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.plays = list(plays)
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self.heard: list[dict[str, str]] = []
        self.connections: set[Any] = set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up is what these tests are about."""


@contextmanager
def serving(*plays: Play) -> Iterator[FaultServer]:
    """A server for the time of a test."""
    server = FaultServer(*plays)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(body: str | bytes, status: int = 200, **how: Any) -> Play:
    """Answers so, whatever is asked."""
    return lambda connection: connection.answer(body, status, **how)


@dataclass
class Resource:
    """Pages of a table, as data.gov.in answers them."""

    rows: list[dict[str, Any]]
    largest_page: int = 10_000
    numbers_as: type = str
    envelope: dict[str, Any] = field(default_factory=dict)

    def __call__(self, connection: Connection) -> None:
        """Answer the page that is asked for."""
        offset = int(connection.query["offset"])
        limit = min(int(connection.query["limit"]), self.largest_page)
        page = self.rows[offset : offset + limit]
        is_csv = connection.query["format"] == "csv"
        connection.answer(self._csv(page) if is_csv else self._json(page, offset, limit))

    def _json(self, page: list[dict[str, Any]], offset: int, limit: int) -> str:
        number = self.numbers_as
        envelope = {
            "status": "ok",
            "total": number(len(self.rows)),
            "count": len(page),
            "limit": number(limit),
            "offset": number(offset),
            "records": page,
        }
        return json.dumps(envelope | self.envelope)

    def _csv(self, page: list[dict[str, Any]]) -> str:
        header = ",".join(self.rows[0])
        lines = [",".join(f'"{value}"' for value in row.values()) for row in page]
        return "\n".join([header, *lines]) + "\n"
