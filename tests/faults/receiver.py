"""A receiver that plays Discord: keeps what it accepts, and fails when it is told to."""

import json
import threading
import time
from collections import deque
from dataclasses import dataclass
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_PATH = "/api/webhooks/123456789/a-webhook-token-for-the-fault-harness"

SLOW_SECONDS = 2.0


@dataclass(frozen=True)
class Accepted:
    """One message that was kept, and whether its sender was told so."""

    title: str
    at: float
    """Seconds since the epoch."""
    answered: bool


class Receiver(ThreadingHTTPServer):
    """Listens on loopback. `fail` says how the next posts are answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accepted: list[Accepted] = []
        self._failures: deque[str] = deque()
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def webhook(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{SECRET_PATH}"

    def fail(self, how: str, times: int) -> None:
        """Answer the next posts with '429', '500', '404', 'slow', or lose the answer to them."""
        with self._lock:
            self._failures.extend([how] * times)

    def heal(self) -> int:
        """Accept everything from now on; returns how many posts were still to fail."""
        with self._lock:
            left = len(self._failures)
            self._failures.clear()
            return left

    def next_failure(self) -> str | None:
        with self._lock:
            return self._failures.popleft() if self._failures else None

    def keep(self, title: str, *, answered: bool) -> int:
        with self._lock:
            self.accepted.append(Accepted(title, time.time(), answered))
            return len(self.accepted)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that was killed in the middle is no news here."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        title = _title(self.headers["Content-Type"], body)
        failure = self.server.next_failure()
        if failure == "slow":
            time.sleep(SLOW_SECONDS)
            failure = None
        if failure == "429":
            self._answer(429, {"retry_after": 0.3}, {"Retry-After": "1"})
        elif failure and failure.isdecimal():
            self._answer(int(failure), {"message": "as told"})
        else:
            number = self.server.keep(title, answered=failure is None)
            if failure is None:
                self._answer(200, {"id": str(number)})
            else:
                self.close_connection = True  # kept, and the answer is lost

    def _answer(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _title(content_type: str, body: bytes) -> str:
    """The title of the embed, from JSON or from a form with a picture."""
    payload: Any = body
    if content_type.startswith("multipart/"):
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        parts = message_from_bytes(head + body, policy=policy.HTTP).iter_parts()
        named = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in parts
        }
        payload = named["payload_json"]
    title: str = json.loads(payload)["embeds"][0]["title"]
    return title.replace("\\", "")
