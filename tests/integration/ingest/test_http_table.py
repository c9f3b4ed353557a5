"""A table at an HTTP address, against a server that plays faults."""

import asyncio
import gzip
import time
from typing import Any

import httpx
import pytest

from services.ingest.http_table import read_address
from services.ingest.redirects import PublicRedirects
from services.ingest.sources import read_source
from shared.failures import WillNotPass, WillPass
from shared.pipeline import HttpSource, Pipeline
from shared.settings import Settings
from tests.integration.ingest.fault_server import Connection, Play, says, serving

CSV = '\ufeffa,b\r\n1,x\r\n2,"y, z"\r\n'
PLAIN = CSV.removeprefix("\ufeff")
EXPECTED = [{"a": "1", "b": "x"}, {"a": "2", "b": "y, z"}]


def read(url: str, **options: Any) -> list[dict[Any, Any]]:
    source = HttpSource(kind="http", url=url, **({"deadline_seconds": 5} | options))
    return read_address(source).to_dict("records")


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (CSV, {}),
        ('[{"a": 1, "b": "x"}, {"a": 2, "b": "y, z"}]', {"format": "json"}),
        (
            '{"n": 2, "rows": [{"a": 1, "b": "x"}, {"a": 2, "b": "y, z"}]}',
            {"format": "json", "records": "rows"},
        ),
    ],
)
def test_every_form_of_a_table(body: str, options: dict[str, Any]) -> None:
    with serving(says(body)) as server:
        assert read(f"{server.url}/table?year=2026", **options) == EXPECTED
    assert server.asked == ["/table?year=2026"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (gzip.compress(PLAIN.encode(), mtime=0), "application/gzip"),
        (PLAIN.encode(), "text/csv; charset=us-ascii"),
        (PLAIN.encode("utf-16"), "text/csv"),
        ("a;b\n1;x\n2;y, z\n", "text/csv"),
        ("a\tb\n1\tx\n2\ty, z\n", "text/tab-separated-values"),
    ],
)
def test_every_packing_of_a_table(body: str | bytes, content_type: str) -> None:
    with serving(says(body, **{"Content-Type": content_type})) as server:
        assert read(f"{server.url}/table.csv.gz") == EXPECTED


def test_a_declared_charset() -> None:
    latin = {"Content-Type": "text/csv; charset=iso-8859-1"}
    with serving(says("a,b\n1,größe\n".encode("latin-1"), **latin)) as server:
        assert read(server.url) == [{"a": "1", "b": "größe"}]


@pytest.mark.parametrize(
    "fault", [says("", 503), says(""), says("a,b\n"), says("<html>"), says(CSV, length=9_999)]
)
def test_what_may_pass_is_asked_again(fault: Play) -> None:
    with serving(fault, says(CSV)) as server:
        assert read(server.url) == EXPECTED


@pytest.mark.parametrize(
    ("answer", "options", "text"),
    [
        (says("", 404), {}, "answered 404"),
        (says("\n\n\0"), {}, "answered what is not a CSV table"),
        (
            says(b"a,b\n1,\xe9\n"),
            {},
            "answered what is not UTF-8: byte 6 is 0xe9",
        ),
        (
            says(gzip.compress(b"a\n" * 9_999, mtime=0)),
            {"max_bytes": 9_000},
            "gzip of more than 9,000",
        ),
        (says(gzip.compress(CSV.encode(), mtime=0)[:-9]), {}, "answered what is broken gzip"),
        (says('{"error": "no"}'), {"format": "json"}, "not a JSON list of objects at the top"),
        (says(CSV), {"max_bytes": 10}, "more than 10 bytes"),
    ],
)
def test_what_cannot_pass_fails_at_once(answer: Play, options: dict[str, Any], text: str) -> None:
    with serving(answer) as server, pytest.raises(WillNotPass, match=text):
        read(f"{server.url}/?token=do-not-repeat", **options)
    assert len(server.asked) == 1


def redirect(connection: Connection) -> None:
    left = int(connection.query.get("left", "0"))
    if not left:
        connection.answer(CSV)
    else:
        connection.answer("", 302, Location=f"/?left={left - 1}")


def test_five_redirects_are_followed_and_no_more() -> None:
    with serving(redirect) as server:
        assert read(f"{server.url}/?left=5") == EXPECTED
        with pytest.raises(WillNotPass, match="TooManyRedirects"):
            read(f"{server.url}/?left=6")


def test_a_redirect_to_another_protocol() -> None:
    elsewhere = says("", 302, Location="ftp://127.0.0.1/")
    with serving(elsewhere) as server, pytest.raises(WillNotPass, match="UnsupportedProtocol"):
        read(server.url)


class TestRedirects:
    """From a server that the pipeline names to one that it does not."""

    def test_to_a_private_address_is_refused_before_anything_is_sent(self) -> None:
        with serving(says("a secret of the intranet")) as inside:
            target = inside.url.replace("127.0.0.1", "localhost")
            with (
                serving(says("", 302, Location=f"{target}/latest/meta-data?x=1")) as server,
                pytest.raises(WillNotPass, match=r"redirects to localhost, which is at (127|::1)"),
            ):
                read(server.url)
        assert inside.connections == set()

    def test_to_a_private_address_is_followed_if_that_is_meant(self) -> None:
        with serving(says(CSV)) as inside:
            target = inside.url.replace("127.0.0.1", "localhost")
            with serving(says("", 302, Location=target)) as server:
                assert read(server.url, private_redirects=True) == EXPECTED

    def test_to_another_port_of_its_host_is_to_another_host(self) -> None:
        with (
            serving(says("redis")) as inside,
            serving(says("", 302, Location=inside.url)) as server,
            pytest.raises(WillNotPass, match="not a public address"),
        ):
            read(server.url)

    def test_from_https_to_http_is_refused(self) -> None:
        transport = PublicRedirects(httpx.URL("https://feed.example/t.csv"), verify=True)
        request = httpx.Request("GET", "http://feed.example/t.csv")
        with pytest.raises(WillNotPass, match="redirects from https:// to http://"):
            asyncio.run(transport.handle_async_request(request))

    def test_to_a_name_without_an_address_may_pass(self) -> None:
        with (
            serving(says("", 302, Location="http://no-such-host.invalid/")) as server,
            pytest.raises(WillPass, match=r"no-such-host\.invalid"),
        ):
            read(server.url, deadline_seconds=1)

    def test_goes_to_the_address_that_was_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The name is looked up once: a second answer could be another one."""
        looked_up = []

        def is_public(address: object) -> bool:
            looked_up.append(address)
            return True

        hosts: list[str] = []

        def remember(connection: Connection) -> None:
            hosts.append(connection.headers["Host"])
            connection.answer(CSV)

        monkeypatch.setattr("services.ingest.redirects.is_public", is_public)
        with serving(remember) as inside:
            target = inside.url.replace("127.0.0.1", "localhost")
            with serving(says("", 302, Location=target)) as server:
                assert read(server.url) == EXPECTED
        assert looked_up
        assert hosts == [target.removeprefix("http://")]


def test_no_read_outlasts_its_deadline() -> None:
    def drip(connection: Connection) -> None:
        connection.send_response(200)
        connection.end_headers()
        connection.drip(b"a,b\n" * 200, 0.02)

    with serving(drip) as server:
        begun = time.monotonic()
        with pytest.raises(WillPass, match=r"no complete answer within 0\.5 s"):
            read(server.url, deadline_seconds=0.5)
        assert time.monotonic() - begun < 1.5


def test_credentials_of_the_address_are_sent_and_not_named(
    air_quality: Pipeline, settings: Settings
) -> None:
    heads = []

    def remember(connection: Connection) -> None:
        heads.append(connection.headers["Authorization"])
        connection.answer(CSV)

    with serving(remember) as server:
        url = server.url.replace("://", "://me:password@") + "/t.csv?token=secret"
        source = HttpSource(kind="http", url=url)
        pipeline = air_quality.model_copy(update={"source": source})
        answer = read_source(pipeline, settings, frozenset)
    assert heads[0].startswith("Basic ")
    assert answer.source == f"{server.url}/t.csv"
