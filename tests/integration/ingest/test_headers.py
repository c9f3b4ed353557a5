"""The headers that a pipeline states: what is sent, to whom, and what is never said."""

import io
import json
import logging
import traceback
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.ingest.data_gov_in import read_resource
from services.ingest.http_table import read_address
from shared.failures import WillNotPass
from shared.pipeline import DataGovInSource, HttpSource
from shared.settings import read_settings
from tests.integration.ingest.fault_server import Connection, says, serving

TOKEN = "a-token-that-nobody-may-see"
SECRET = {
    "Authorization": {"environment": "FEED_TOKEN"},
    "X-Api-Key": {"environment": "FEED_TOKEN"},
}
CSV = says("a\n1\n")
OURS = f"trimtab/{version('trimtab')}"


def source(url: str, headers: dict[str, Any], **options: Any) -> HttpSource:
    given = {"kind": "http", "url": url, "headers": headers, "deadline_seconds": 3}
    return HttpSource.model_validate(given | options)


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that is logged on any level: the token may not be in it."""
    monkeypatch.setenv("FEED_TOKEN", TOKEN)
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    assert TOKEN not in stream.getvalue()


def test_who_asks_is_said_by_default() -> None:
    with serving(CSV) as server:
        read_address(source(server.url, {}))
    assert server.heard[0]["user-agent"] == OURS


def test_headers_of_the_file_and_of_the_environment_are_sent() -> None:
    with serving(CSV) as server:
        read_address(source(server.url, {"user-agent": "a name/2", "Accept": "text/csv", **SECRET}))
    (heard,) = server.heard
    assert (heard["user-agent"], heard["accept"]) == ("a name/2", "text/csv")
    assert (heard["authorization"], heard["x-api-key"]) == (TOKEN, TOKEN)


def test_a_secret_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.delenv("FEED_TOKEN")
    monkeypatch.setenv("FEED_TOKEN_FILE", str(tmp_path / "token"))
    with serving(CSV) as server:
        read_address(source(server.url, SECRET))
    assert server.heard[0]["x-api-key"] == TOKEN


def test_pages_of_a_resource_are_asked_for_with_headers() -> None:
    resource = DataGovInSource.model_validate(
        {
            "kind": "data_gov_in",
            "resource": "3b01bcb8-0b14-4abf-b6f2-c1bfd384ba69",
            "headers": {"User-Agent": "a name/2", **SECRET},
        }
    )
    page = says(json.dumps({"total": 1, "records": [{"a": "1"}]}))
    with serving(page) as server:
        settings = read_settings(redis_url="redis://127.0.0.1", feed_url=server.url)
        assert len(read_resource(resource, settings).rows) == 1
    assert {heard["user-agent"] for heard in server.heard} == {"a name/2"}
    assert {heard["x-api-key"] for heard in server.heard} == {TOKEN}


@pytest.mark.parametrize("agent", ["a name/2", {"environment": "FEED_TOKEN"}])
def test_another_host_hears_none_of_them(agent: Any) -> None:
    with serving(CSV) as other:
        target = other.url.replace("127.0.0.1", "localhost")
        with serving(says("", 302, Location=target)) as server:
            given = {"User-Agent": agent, "X-Client": "me", **SECRET}
            read_address(source(server.url, given, private_redirects=True))
    assert server.heard[0]["x-api-key"] == TOKEN
    (heard,) = other.heard
    assert not {"authorization", "x-api-key", "x-client"} & heard.keys()
    assert heard["user-agent"] == (agent if isinstance(agent, str) else OURS)


def test_a_redirect_on_the_same_host_keeps_them() -> None:
    with serving(says("", 302, Location="/there"), CSV) as server:
        read_address(source(server.url, SECRET))
    assert [heard["x-api-key"] for heard in server.heard] == [TOKEN, TOKEN]


def test_a_host_that_repeats_a_secret_is_not_quoted(said: io.StringIO) -> None:
    def echo(connection: Connection) -> None:
        connection.answer(json.dumps({"error": f"no: {connection.headers['X-Api-Key']}"}), 403)

    with serving(echo) as server, pytest.raises(WillNotPass, match=r"answered 403$") as caught:
        read_address(source(server.url, SECRET))
    logging.getLogger("a test").exception("failed", exc_info=caught.value)
    assert "failed" in said.getvalue()
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_what_the_environment_does_not_give_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEED_TOKEN")
    with serving(CSV) as server, pytest.raises(WillNotPass, match=r"needs the .* FEED_TOKEN, or"):
        read_address(source(server.url, SECRET))
    monkeypatch.setenv("FEED_TOKEN", "two\r\nlines")
    with serving(CSV) as server, pytest.raises(WillNotPass, match="cannot have") as caught:
        read_address(source(server.url, SECRET))
    assert "two" not in str(caught.value)
    assert server.heard == []


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Authorization": "Bearer x"}, "has no place in this file"),
        ({"X-Api-Key": "x"}, r"write X-Api-Key: \{environment: NAME\}"),
        ({"Host": "example.org"}, "Host is set by Trimtab itself"),
        ({"a b": "x"}, "'a b' is no name of a header"),
        ({"X-A": "1\r\nX-B: 2"}, "should match pattern"),
        ({"X-A": "1", "x-a": "2"}, "a header stands twice"),
        ({"X-A": {"environment": "MODEL_SIGNING_KEY"}}, "a setting of Trimtab's own"),
        ({"X-A": {"environment": "GITHUB_TOKEN_FILE"}}, "a setting of Trimtab's own"),
    ],
)
def test_headers_that_cannot_be_stated(headers: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        source("http://127.0.0.1", headers)
