"""One HTTP answer, within a deadline: tried again while it may pass, never longer than asked.

No text of an error holds the address's query, where keys travel.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import structlog
import tenacity

from shared.failures import WillNotPass, WillPass

log = structlog.get_logger(__name__)

_RETRIED_STATUS: Final = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_LONGEST_STEP_SECONDS: Final = 20.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Fetch:
    """How one address is read."""

    deadline_seconds: float
    """With all its tries and pauses, an answer is given up after this time."""
    max_bytes: int


def fetch(
    client: httpx.Client,
    url: str,
    query: dict[str, str | int],
    limits: Fetch,
    *,
    may_be_empty: bool,
) -> str:
    """The body of a successful answer.

    Raises:
        WillPass: no answer in time, or one that another try may not meet.
        WillNotPass: an answer that every further try would meet.
    """
    deadline = time.monotonic() + limits.deadline_seconds

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None) or 0.0
        return max(asked, tenacity.wait_random_exponential(
            multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS)(state))  # fmt: skip

    def stop(state: tenacity.RetryCallState) -> bool:
        return time.monotonic() + state.upcoming_sleep >= deadline

    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(WillPass), wait=wait, stop=stop, reraise=True
    ):
        with attempt:
            body = _try_once(client, url, query, deadline, limits.max_bytes)
            if not body.strip() and not may_be_empty:
                raise WillPass(f"{_place(url)} answered 200 with nothing in it")
            return body
    raise AssertionError("unreachable: the last try returns or raises")


def _try_once(
    client: httpx.Client, url: str, query: dict[str, str | int], deadline: float, max_bytes: int
) -> str:
    left = max(deadline - time.monotonic(), 0.05)
    try:
        with client.stream(
            "GET", url, params=query or None, timeout=min(left, _LONGEST_STEP_SECONDS)
        ) as response:
            body = _read(response, url, deadline, max_bytes)
    except httpx.TimeoutException as error:
        raise WillPass(f"{_place(url)} did not answer in time ({type(error).__name__})") from None
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise WillPass(f"{_place(url)} is out of reach ({type(error).__name__})") from None
    except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise WillNotPass(f"{_place(url)}: {type(error).__name__}") from None
    _check_status(response, body, url)
    return _decode(response, body, url)


def _read(response: httpx.Response, url: str, deadline: float, max_bytes: int) -> bytes:
    """The body, as long as it comes within the deadline and is not too large."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise WillNotPass(f"{_place(url)} answers with more than {max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise WillPass(f"{_place(url)} answers too slowly")
    return bytes(body)


def _check_status(response: httpx.Response, body: bytes, url: str) -> None:
    status = response.status_code
    if status in _RETRIED_STATUS:
        raise WillPass(f"{_place(url)} answered {status}", retry_after=_retry_after(response))
    if not response.is_success:
        said = " ".join(body[:200].decode("utf-8", "replace").split())
        raise WillNotPass(f"{_place(url)} answered {status}: {said}")


def _decode(response: httpx.Response, body: bytes, url: str) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WillNotPass(f"{_place(url)} did not answer in UTF-8 (byte {error.start})") from None
    kind = response.headers.get("content-type", "")
    if "html" in kind or text.lstrip()[:15].lower().startswith(("<!doctype", "<html")):
        raise WillPass(f"{_place(url)} answered an HTML page instead of data")
    return text


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of the header."""
    text = response.headers.get("retry-after", "")
    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, (at - datetime.now(UTC)).total_seconds()) if at.tzinfo else None


def _place(url: str) -> str:
    """The address without its query and without credentials."""
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.host}{parsed.path}"
