"""One HTTP answer, within a deadline: tried again while it may pass, never longer than asked.

No text of an error holds the address's query or credentials, where keys travel.
"""

import asyncio
import json
import logging
import math
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from io import BytesIO
from time import monotonic
from typing import Any, Final, TypeVar

import httpx
import tenacity

from services.ingest.headers import USER_AGENT, headers_of, kept_at_home
from shared.failures import WillNotPass, WillPass
from shared.gunzip import PIECE_BYTES, BrokenGzip, Gunzip, GzipRefused
from shared.pipeline import HeaderValue
from shared.tables.content import UnreadableTable, decode, text_blocks, text_chunks, unpacked

for _talker in ("httpx", "httpcore"):  # below WARNING they log whole addresses and headers
    logging.getLogger(_talker).setLevel(logging.WARNING)

T = TypeVar("T")
Query = dict[str, str | int]

_RETRIED_BELOW_500: Final = {408, 425, 429}
_BACKOFF: Final = tenacity.wait_random_exponential(multiplier=0.5, max=10)
_ERROR_BODY_BYTES: Final = 4_096
_QUOTED: Final = 200
_LARGEST_PORT: Final = 65_535
_SHORTEST_SECRET: Final = 8
_PLAIN_HEADERS: Final = {"host", "accept", "accept-encoding", "connection"}
_GZIP_NAMES: Final = {"gzip", "x-gzip"}
_LONGEST_DATE: Final = 100
"""Characters of a Retry-After header."""


@dataclass(frozen=True)
class Limits:
    """How long and how large an answer may be."""

    deadline_seconds: float
    """With all its tries, pauses and redirects, an answer is given up after this time."""
    max_bytes: int
    """Of an answer, and of what it unpacks to."""
    max_redirects: int = 0


@dataclass(frozen=True)
class Body:
    """What a successful answer brought."""

    data: bytes | bytearray
    """Unpacked."""
    charset: str | None
    """That the answer declares."""

    def chunks(self) -> Iterator[str]:
        """The text, as `text_chunks` cuts it.

        Raises:
            UnreadableTable: as there.
        """
        return text_chunks(BytesIO(self.data), self.charset)

    def blocks(self, longest_line: int | None = None) -> Iterator[str]:
        """The text, as `text_blocks` cuts it.

        Raises:
            UnreadableTable: as there.
        """
        return text_blocks(BytesIO(self.data), self.charset, longest_line=longest_line)

    @property
    def text(self) -> str:
        """All of the text.

        Raises:
            UnreadableTable: names the first byte that is not of the encoding.
        """
        return decode(self.data, self.charset)


def open_client(
    url: str,
    limits: Limits,
    headers: Mapping[str, HeaderValue],
    *,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client for one reading; a silent server leaves time for two more tries.

    Args:
        url: the source's address; `headers` go to its host alone.
        transport: what connects, where the environment names no proxy.

    Raises:
        WillNotPass: the address is none, or the environment does not give a header's value.
    """
    place(url)
    sent = httpx.Headers({"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"})
    sent.update({name: value.get_secret_value() for name, value in headers_of(headers).items()})
    return httpx.AsyncClient(
        verify=trusted(),
        mounts={"all://": transport} if transport else None,
        timeout=limits.deadline_seconds / 3,
        headers=sent,
        event_hooks={"request": [kept_at_home(httpx.URL(url), headers)]},
    )


@cache
def trusted() -> ssl.SSLContext:
    """The certificates that are trusted: those that httpx brings, or SSL_CERT_FILE."""
    return httpx.create_ssl_context()


async def fetch(
    client: httpx.AsyncClient, url: str, query: Query, limits: Limits, read: Callable[[Body], T]
) -> T:
    """What `read` makes of a successful answer.

    `read` may raise WillPass for an answer that is not what was asked for: it is asked for again.

    Raises:
        WillPass: no such answer in time.
        WillNotPass: an answer that every further try would meet.
    """
    where = place(url)
    until = monotonic() + limits.deadline_seconds
    failures: list[str] = []
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(WillPass),
        wait=_pause,
        stop=tenacity.stop_before_delay(limits.deadline_seconds),
        before_sleep=lambda state: failures.append(
            str(state.outcome and state.outcome.exception())
        ),
        reraise=True,
    )
    request = client.build_request("GET", url, params=query or None)
    try:
        async with asyncio.timeout(limits.deadline_seconds):
            async for attempt in retrying:
                with attempt:
                    return read(await _body(client, request, limits, until, where))
    except TimeoutError:
        pass
    earlier = f"; the try before: {failures[-1]}" if failures else ""
    raise WillPass(f"{where} gave no complete answer within {limits.deadline_seconds:g} s{earlier}")


def place(url: str) -> str:
    """The address without its query and credentials, as texts may name it.

    Raises:
        WillNotPass: it is no address.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if not parsed.host or (parsed.port or 0) > _LARGEST_PORT:
        raise WillNotPass("the source's address is not a valid URL")
    port = f":{parsed.port}" if parsed.port else ""
    return f"{parsed.scheme}://{parsed.host}{port}{parsed.path}"


def _pause(state: tenacity.RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.retry_after if isinstance(failure, WillPass) else None
    return max(asked or 0.0, _BACKOFF(state))


async def _body(
    client: httpx.AsyncClient, request: httpx.Request, limits: Limits, until: float, where: str
) -> Body:
    """One answer, without another try. What it says is unpacked until `until`."""
    try:
        response = await _answer(client, request, limits.max_redirects)
        async with aclosing(response):
            await _check_status(response, where, _sent(request), until)
            body = await _read_body(response, where, limits.max_bytes, until)
    except BrokenGzip as error:
        raise WillPass(f"{where} broke off its answer ({error})") from None
    except GzipRefused as error:
        raise WillNotPass(f"{where} answers with {error}") from None
    except httpx.TimeoutException as error:
        raise WillPass(f"{where} did not answer in time ({type(error).__name__})") from None
    except (
        httpx.TooManyRedirects,
        httpx.UnsupportedProtocol,
        httpx.LocalProtocolError,
    ) as error:
        raise WillNotPass(f"{where} cannot be asked ({type(error).__name__})") from None
    except httpx.ConnectError as error:
        raise WillPass(f"{where} is out of reach: {error}") from None
    except httpx.RequestError as error:
        raise WillPass(f"{where} broke off its answer ({type(error).__name__})") from None
    return _table_of(response, body, limits.max_bytes, until, where)


async def _answer(
    client: httpx.AsyncClient, request: httpx.Request, max_redirects: int
) -> httpx.Response:
    """The answer at the end of the redirects.

    Only its head is read. httpx itself would read the body of each redirect, however long it is.
    """
    for _ in range(max_redirects + 1):
        response = await client.send(request, stream=True)
        if not max_redirects or response.next_request is None:
            return response
        await response.aclose()
        request = response.next_request
    raise httpx.TooManyRedirects("", request=request)


def _sent(request: httpx.Request) -> list[str]:
    """What the request said that may be a secret."""
    headers = (value for name, value in request.headers.items() if name not in _PLAIN_HEADERS)
    return [*request.url.params.values(), *(word for value in headers for word in value.split())]


async def _check_status(
    response: httpx.Response, where: str, sent: Iterable[str], until: float
) -> None:
    status = response.status_code
    if status >= 500 or status in _RETRIED_BELOW_500:
        raise WillPass(f"{where} answered {status}", retry_after=_retry_after(response))
    if response.is_redirect:
        raise WillNotPass(f"{where} answered {status}, a redirect, which is not followed")
    if not response.is_success:
        said = _said(await _beginning(response, where, until), sent)
        raise WillNotPass(f"{where} answered {status}{said and f': {said}'}")


async def _read_body(
    response: httpx.Response, where: str, max_bytes: int, until: float
) -> bytearray:
    body = bytearray()
    async for piece in _pieces(response, where, max_bytes, until):
        body += piece
        if len(body) > max_bytes:
            raise WillNotPass(f"{where} answers with more than {max_bytes:,} bytes")
    return body


async def _beginning(response: httpx.Response, where: str, until: float) -> bytearray:
    """The beginning of an error's body; nothing if it cannot be unpacked."""
    body = bytearray()
    try:
        async with aclosing(_pieces(response, where, PIECE_BYTES, until)) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > _ERROR_BODY_BYTES:
                    break
    except WillNotPass:
        body.clear()
    return body


async def _pieces(
    response: httpx.Response, where: str, max_bytes: int, until: float
) -> AsyncGenerator[bytes, None]:
    """The body piece by piece, unpacked if it is packed for the way.

    Raises:
        GzipRefused: it is broken, or unpacks to more than `max_bytes`, or to gzip.
        TimeoutError: it is too late.
        WillNotPass: it is packed in another way than ours, or more than once.
    """
    unpacking = Gunzip(max_bytes, until) if _is_packed(response, where) else None
    async for chunk in response.aiter_raw():
        for piece in unpacking.pieces(chunk) if unpacking else (chunk,):
            yield piece
    if unpacking:
        unpacking.finish()


def _is_packed(response: httpx.Response, where: str) -> bool:
    encodings = [
        name.strip().lower()
        for name in response.headers.get("content-encoding", "").split(",")
        if name.strip().lower() not in ("", "identity")
    ]
    if not encodings:
        return False
    if len(encodings) > 1 or encodings[0] not in _GZIP_NAMES:
        said = ", ".join(encodings)[:_QUOTED]
        raise WillNotPass(
            f"{where} answers in the content encoding {said!r}; only gzip is read, once"
        )
    return True


def _said(body: bytearray, sent: Iterable[str]) -> str:
    """What a JSON error says, unless it repeats what was sent, which may be a key."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    said = error_text(content)
    secrets = (value for value in sent if len(value) >= _SHORTEST_SECRET)
    return "" if any(secret in said for secret in secrets) else said[:_QUOTED]


def error_text(content: Any) -> str:
    """The words of a JSON error body; empty if there are none."""
    if not isinstance(content, dict):
        return ""
    words = str(content.get("error") or content.get("message") or "")
    return " ".join(words.encode("utf-8", "replace").decode().split())


def _table_of(
    response: httpx.Response, data: bytearray, max_bytes: int, until: float, where: str
) -> Body:
    try:
        body = Body(unpacked(data, max_bytes, until), response.charset_encoding)
        beginning = next(body.chunks())
    except UnreadableTable as error:
        raise UnreadableTable(f"{where} answered what is {error}") from None
    is_html = "html" in response.headers.get("content-type", "")
    if is_html or beginning.lstrip()[:15].lower().startswith(("<!doctype", "<html")):
        raise WillPass(f"{where} answered an HTML page instead of data")
    return body


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of the header; `WillPass` bounds them."""
    text = response.headers.get("retry-after", "")
    if len(text) > _LONGEST_DATE:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text)
    if not math.isfinite(seconds):
        return None
    return max(seconds, 0.0)


def _seconds_until(date: str) -> float:
    """Seconds until an HTTP date; not a number if it is none."""
    try:
        at = parsedate_to_datetime(date)
        return (at - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return math.nan
