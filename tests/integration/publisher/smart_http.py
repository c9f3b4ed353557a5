"""A Git host: `git http-backend` behind a server that asks for basic authentication."""

import base64
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Host:
    """What the server is to do, and what it was asked."""

    folder: Path
    account: str
    url: str = ""
    fault: tuple[int, str] | None = None
    """Answer every request of somebody with the credentials with this status and text. With a
    `Location` among the headers the text is the page that stands there."""
    fault_headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/plain"})
    before_push: Callable[[], None] = lambda: None
    """What happens on the host before it answers the first request of a push."""
    authorizations: list[str | None] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        host: Host = self.server.host
        body = self._body()
        authorization = self.headers.get("Authorization")
        host.authorizations.append(authorization)
        host.queries.append(f"{self.command} {self.path}")
        expected = base64.b64encode(host.account.encode()).decode()
        if authorization != f"Basic {expected}":
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"who are you?")
        elif host.fault and self.path.startswith(host.fault_headers.get("Location", " ")):
            self._answer(200, {"Content-Type": "text/html"}, host.fault[1].encode())
        elif host.fault:
            status, text = host.fault
            self._answer(status, host.fault_headers, text.encode())
        else:
            if self.path.endswith("/info/refs?service=git-receive-pack"):
                host.before_push()
            self._backend(host, body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _backend(self, host: Host, body: bytes) -> None:
        url = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(host.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": host.account.partition(":")[0],
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        # What it refuses it says in its answer, and in its exit status as well.
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=body, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._answer(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(folder: Path, account: str) -> Iterator[Host]:
    """Serve the bare repositories of a folder to the one account `user:password`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    host = Host(folder, account, url=f"http://127.0.0.1:{server.server_port}")
    server.host = host  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
