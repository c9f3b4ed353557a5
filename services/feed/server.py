"""The HTTP server: data.gov.in's resource protocol, and the clock of a manual history."""

import csv
import io
import json
import logging
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from services.feed.clock import Clock, ManualClock
from services.feed.history import History, Row

log = logging.getLogger(__name__)

RESOURCE: Final = "3b01bcb8-0b14-4abf-b6f2-c1bfd384ba69"
TITLE: Final = "Real time Air Quality Index from various locations"
_DEFAULT_LIMIT: Final = 10


class ProtocolError(Exception):
    """A request that the protocol answers with an error."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class FeedServer(ThreadingHTTPServer):
    """Serves one hour of a history at a time, on the loopback interface."""

    daemon_threads = True

    def __init__(
        self, history: History, clock: Clock, *, port: int = 0, api_key: str | None = None
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.clock = clock
        self.api_key = api_key
        self.rows = lru_cache(maxsize=2)(history.rows)

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FeedServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/clock":
            self._answer_clock()
            return
        try:
            query = {name: values[0] for name, values in parse_qs(path.query).items()}
            body, kind = self._resource(path.path, query)
        except ProtocolError as error:
            self._answer(error.status, json.dumps({"error": str(error)}), "application/json")
        else:
            self._answer(HTTPStatus.OK, body, kind)

    def do_POST(self) -> None:
        clock = self.server.clock
        if self.path != "/clock/advance" or not isinstance(clock, ManualClock):
            self._answer(HTTPStatus.NOT_FOUND, '{"error": "Not found"}', "application/json")
            return
        try:
            clock.advance()
        except ValueError as error:
            self._answer(HTTPStatus.CONFLICT, json.dumps({"error": str(error)}), "application/json")
        else:
            self._answer_clock()

    def _answer_clock(self) -> None:
        clock = self.server.clock
        at_end = isinstance(clock, ManualClock) and clock.at_end
        body = json.dumps({"hour": clock.hour(), "last": at_end})
        self._answer(HTTPStatus.OK, body, "application/json")

    def _resource(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        if self.server.api_key is not None and query.get("api-key") != self.server.api_key:
            raise ProtocolError(HTTPStatus.FORBIDDEN, "Key not authorised")
        if path != f"/resource/{RESOURCE}":
            raise ProtocolError(HTTPStatus.NOT_FOUND, "Resource not found")
        offset, limit = _whole(query, "offset", 0), _whole(query, "limit", _DEFAULT_LIMIT)
        rows = _filtered(self.server.rows(self.server.clock.hour()), query)
        page = rows[offset : offset + limit]
        if query.get("format") == "csv":
            return _as_csv(page, list(rows[0]) if rows else []), "text/csv; charset=utf-8"
        envelope = _envelope(page, total=len(rows), offset=offset, limit=limit)
        return json.dumps(envelope), "application/json"

    def _answer(self, status: HTTPStatus, body: str, kind: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The path without the query, which holds the key."""
        log.debug("%s %s %s %s", self.command, urlsplit(self.path).path, code, size)


def _whole(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise ProtocolError(HTTPStatus.BAD_REQUEST, f"{name} has to be a whole number")
    return int(text)


def _filtered(rows: list[Row], query: dict[str, str]) -> list[Row]:
    wanted = {
        name.removeprefix("filters[").removesuffix("]"): value
        for name, value in query.items()
        if name.startswith("filters[")
    }
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def _as_csv(rows: list[Row], header: list[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _envelope(page: list[Row], *, total: int, offset: int, limit: int) -> dict[str, Any]:
    return {
        "index_name": RESOURCE,
        "title": TITLE,
        "status": "ok",
        "message": "Resource detail",
        "version": "2.2.0",
        "total": total,
        "count": len(page),
        "limit": str(limit),
        "offset": str(offset),
        "updated_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "field": [{"id": name, "name": name, "type": "keyword"} for name in (page or [{}])[0]],
        "records": page,
    }
