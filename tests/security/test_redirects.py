"""Whoever answers sends us on to somebody else: what we say to that one holds no credentials."""

import base64
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from services.notifier import discord
from services.notifier.channels import channels
from services.notifier.message import Message
from services.publisher.repository import ModelRepository
from shared.failures import WillNotPass, WillPass
from shared.settings import read_settings
from tests.integration.publisher.bare import Bare
from tests.integration.publisher.smart_http import serving
from tests.integration.publisher.test_repository import commit_of

TOKEN = "ghp_a1b2c3d4e5f6a7b8c9d0"
IN_BASE64 = base64.b64encode(f"publisher:{TOKEN}".encode()).decode()
MESSAGE = Message("title", "text", (), 0)


@dataclass
class Heard:
    """What was said to a server: the lines of its requests with all their headers and bodies."""

    url: str
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.heard.requests.append(f"{self.requestline}\n{self.headers}\n{body!r}")
        self.send_response(self.server.status)
        if self.server.sends_on_to:
            self.send_header("Location", self.server.sends_on_to + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering(
    status: int, sends_on_to: str = "", context: ssl.SSLContext | None = None
) -> Iterator[Heard]:
    """A server with one answer to everything, over TLS if there is a context."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if context else "http"
    server.heard = Heard(f"{scheme}://localhost:{server.server_port}")
    server.status, server.sends_on_to = status, sends_on_to
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare.make(tmp_path / "models.git")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def repository(url: str, tmp_path: Path) -> ModelRepository:
    return ModelRepository(
        f"{url}/models.git", "main", tmp_path / "cache", "publisher", SecretStr(TOKEN)
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_does_not_follow_to_another_host(bare: Bare, status: int, tmp_path: Path) -> None:
    with (
        serving(bare.path.parent, f"publisher:{TOKEN}") as thief,
        answering(status, thief.url) as host,
        pytest.raises(WillNotPass, match="set it to the repository's new address"),
    ):
        repository(host.url, tmp_path).publish(commit_of())
    assert thief.authorizations == []
    assert bare.refs() == {}
    assert IN_BASE64 in host.requests[0], "the token was never sent, so nothing was shown"


def test_the_token_does_not_follow_from_https_to_http(
    bare: Bare,
    authority: trustme.CA,
    context: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "authority.pem"))
    with (
        serving(bare.path.parent, f"publisher:{TOKEN}") as listener,
        answering(302, listener.url, context) as host,
        pytest.raises(WillNotPass, match="set it to the repository's new address"),
    ):
        repository(host.url, tmp_path).publish(commit_of())
    assert listener.authorizations == []
    assert IN_BASE64 in host.requests[0]


def test_the_machines_configuration_does_not_have_the_token_follow(
    bare: Bare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "home" / ".gitconfig"
    configuration.parent.mkdir()
    monkeypatch.setenv("HOME", str(configuration.parent))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'http.followredirects'='true'")
    with (
        serving(bare.path.parent, f"publisher:{TOKEN}") as thief,
        answering(302, thief.url) as host,
    ):
        setting = (f"http.{host.url}/.followRedirects", "true")
        subprocess.run(["git", "config", "--file", configuration, *setting], check=True)
        with pytest.raises(WillNotPass):
            repository(host.url, tmp_path).publish(commit_of())
    assert thief.authorizations == []


def test_no_variable_has_git_talk_to_a_host_that_nobody_vouches_for(
    context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSL_NO_VERIFY", "1")
    with (
        answering(404, context=context) as stranger,
        pytest.raises(WillNotPass, match="certificate is not trusted"),
    ):
        repository(stranger.url, tmp_path).publish(commit_of())
    assert stranger.requests == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_webhook_sends_nothing_on(status: int) -> None:
    with answering(204) as thief, answering(status, thief.url) as channel:
        with pytest.raises((WillPass, WillNotPass)):
            discord.post(SecretStr(f"{channel.url}/api/webhooks/1/{TOKEN}"), MESSAGE)
        assert len(channel.requests) == 1
    assert thief.requests == []


@pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("option", ["", "&redirect=yes"])
@pytest.mark.parametrize("status", [301, 307])
def test_a_channels_headers_do_not_follow(status: int, option: str) -> None:
    """Apprise's `+NAME=value` is a header of the request: keys travel there."""
    with answering(200) as thief, answering(status, thief.url) as host:
        place = host.url.removeprefix("http://")
        settings = read_settings(
            redis_url="redis://broker",
            mongodb_uri="mongodb://store",
            apprise_urls=f"json://{place}/hook?%2BX-Api-Key={TOKEN}{option}",
        )
        (channel,) = channels(settings)
        with pytest.raises((WillPass, WillNotPass)):
            channel.send(MESSAGE)
        assert TOKEN in host.requests[0], "the key was never sent, so nothing was shown"
    assert thief.requests == []
