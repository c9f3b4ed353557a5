"""The Discord client: a message as an embed, posted to a webhook.

A webhook's address is its password. The HTTP client gets only its origin as the address; path and
query travel as the request's target, so that they stand in no log line and no exception.
"""

import json
import math
import re
import time
from collections.abc import Iterable
from typing import Any, Final

import httpx
from pydantic import SecretStr

from services.notifier.message import PICTURE_NAME, Field, Message
from shared.failures import WillNotPass, WillPass
from shared.plain_text import printable

# Limits of one embed, in characters; EMBED counts all its texts together.
TITLE: Final = 256
DESCRIPTION: Final = 4_096
FIELDS: Final = 25
FIELD_NAME: Final = 256
FIELD_VALUE: Final = 1_024
EMBED: Final = 6_000
URL: Final = 2_048
PICTURE: Final = 10_000_000
"""Bytes. A request may have 10 MiB; the rest is room for the message around the picture."""

FOOTER_ROOM: Final = 100
LONGEST_PAUSE: Final = 5.0
"""Seconds that a 429 is waited out in place; a longer wait is left to the stage runtime."""
PAUSES: Final = 2

_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_JSON: Final = "application/json"
_MARKUP: Final = re.compile(r"[\\*_~`|\[\]<>#@]|^[-+](?= )|(?<=\d)\.(?= )", re.MULTILINE)
_LONGEST_ANSWER: Final = 65_536
"""Bytes of an answer that are read; Discord's have a few thousand."""
_LONGEST_ID: Final = 100
_READ_HEADERS: Final = ("Retry-After",)
_LINK: Final = re.compile(r"https?://[!-~]+")
_SECRET_PART: Final = re.compile(r"[^/?&=]{12,}")
"""Of a webhook's address."""
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.WriteError,
    httpx.WriteTimeout,
)


def embed(message: Message) -> dict[str, Any]:
    """The message as a Discord embed, within all of Discord's limits whatever it holds.

    Texts are cut with '…', and fields that find no room are counted in the footer. Characters are
    counted in UTF-16 code units, which are never fewer than code points.
    """
    title, description = _fit(message.title, TITLE), _fit(message.text, DESCRIPTION)
    room = EMBED - FOOTER_ROOM - _length(title) - _length(description)
    fields = _fields(message.fields, room)
    content: dict[str, Any] = {
        "title": title,
        "description": description,
        "color": message.colour,
        "fields": fields,
    }
    if footer := _footer(message, len(message.fields) - len(fields)):
        content["footer"] = {"text": footer}
    if message.url and _LINK.fullmatch(message.url) and len(message.url) <= URL:
        content["url"] = message.url
    if _is_shown(message.picture):
        content["image"] = {"url": f"attachment://{PICTURE_NAME}"}
    return content


def _footer(message: Message, left_out: int) -> str:
    """At most FOOTER_ROOM characters."""
    parts = (f"{left_out} more left out" if left_out else "", message.way_back or "")
    return " · ".join(filter(None, parts))


def post(webhook: SecretStr, message: Message) -> str:
    """Post the message and return the id that Discord gave it.

    Short waits that Discord asks for are slept through.

    Raises:
        WillPass: Discord could not be reached, was not well (5xx), asks for a longer wait (with
            `retry_after`), or its answer was lost: only then may the message have arrived.
        WillNotPass: Discord refused the message, in its own words, or the address is none.
    """
    origin, target = _address(webhook)
    body = _body(message)
    with httpx.Client(timeout=_TIMEOUT) as client:
        for _ in range(PAUSES):
            answer = _send(client, origin, target, body)
            wait = _asked_wait(answer)
            if wait is None or wait > LONGEST_PAUSE:
                return _message_id(answer, target)
            time.sleep(wait)
        return _message_id(_send(client, origin, target, body), target)


def _is_shown(picture: bytes | None) -> bool:
    return picture is not None and 0 < len(picture) <= PICTURE


def _body(message: Message) -> dict[str, Any]:
    """The request's body as the HTTP client takes it: JSON, or with a picture a form."""
    payload = {"embeds": [embed(message)], "allowed_mentions": {"parse": []}}
    if not _is_shown(message.picture):
        return {"json": payload}
    picture = {"id": 0, "filename": PICTURE_NAME, "description": printable(message.title)[:TITLE]}
    return {
        "files": {
            "payload_json": (None, json.dumps(payload | {"attachments": [picture]}), _JSON),
            "files[0]": (PICTURE_NAME, message.picture, "image/png"),
        }
    }


def _fields(fields: Iterable[Field], room: int) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for field in fields:
        name, value = _fit(field.name, FIELD_NAME), _fit(field.value, FIELD_VALUE)
        room -= _length(name) + _length(value)
        if room < 0 or len(shown) == FIELDS:
            break
        shown.append({"name": name, "value": value, "inline": field.inline})
    return shown


def _fit(text: str, limit: int) -> str:
    """The text with its markup escaped, cut to the limit, and never empty."""
    escaped = _MARKUP.sub(r"\\\g<0>", printable(text)) or "–"
    if _length(escaped) <= limit:
        return escaped
    cut = escaped.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", errors="ignore")
    return cut.rstrip("\\") + "…"


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _address(webhook: SecretStr) -> tuple[httpx.URL, bytes]:
    """The origin, which may be shown, and the request's target, which may not."""
    fault = "DISCORD_WEBHOOK_URL is not an address; set it anew"
    try:
        url = httpx.URL(webhook.get_secret_value()).copy_merge_params({"wait": "true"})
    except httpx.InvalidURL:
        raise WillNotPass(fault) from None
    if not url.host:
        raise WillNotPass(fault)
    return httpx.URL(scheme=url.scheme, host=url.host, port=url.port), url.raw_path


def _send(
    client: httpx.Client, origin: httpx.URL, target: bytes, body: dict[str, Any]
) -> httpx.Response:
    plain = {"Accept-Encoding": "identity"}
    try:
        with client.stream(
            "POST", origin, **body, headers=plain, extensions={"target": target}
        ) as answer:
            return _bounded(answer)
    except _NOT_SENT as error:
        reason = f"Discord could not be reached: {type(error).__name__}: {error}"
        raise WillPass(reason) from None
    except httpx.RequestError as error:
        reason = f"Discord's answer was lost ({type(error).__name__}); it may have the message"
        raise WillPass(reason) from None


def _bounded(answer: httpx.Response) -> httpx.Response:
    """The answer with the beginning of its body, which is never unpacked.

    Raises:
        httpx.DecodingError: it is packed.
    """
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise httpx.DecodingError("packed, though that was not asked for")
    content = bytearray()
    for chunk in answer.iter_raw():
        content += chunk[: _LONGEST_ANSWER - len(content)]
        if len(content) == _LONGEST_ANSWER:
            break
    headers = {name: answer.headers[name] for name in _READ_HEADERS if name in answer.headers}
    return httpx.Response(answer.status_code, headers=headers, content=bytes(content))


def _message_id(answer: httpx.Response, target: bytes) -> str:
    status = answer.status_code
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise WillPass("Discord asks to wait (429)", retry_after=_asked_wait(answer))
    if answer.is_server_error or status == httpx.codes.REQUEST_TIMEOUT:
        raise WillPass(f"Discord answered {status}")
    if not answer.is_success:
        raise WillNotPass(_refusal(status, _own_words(answer, target)))
    message_id = _json(answer).get("id")
    if not message_id:
        raise WillNotPass(
            f"the answer ({status}) names no message, so it is not known to be kept; "
            "check that DISCORD_WEBHOOK_URL is the address of a Discord webhook"
        )
    return str(message_id)[:_LONGEST_ID]


def _refusal(status: int, words: str) -> str:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND):
        return (
            f"Discord does not accept the webhook ({status}: {words}); make a new one in the "
            "channel's settings and set DISCORD_WEBHOOK_URL"
        )
    return f"Discord refused the message ({status}: {words})"


def _own_words(answer: httpx.Response, target: bytes) -> str:
    """What Discord says of its refusal, without the parts of the address that are secret."""
    body = _json(answer)
    words = str(body.get("message") or "no reason given")
    if details := body.get("errors"):
        words = f"{words}: {json.dumps(details)}"
    for part in _SECRET_PART.findall(target.decode("ascii")):
        words = words.replace(part, "…")
    return printable(words)[:500]


def _asked_wait(answer: httpx.Response) -> float | None:
    """The seconds that a 429 asks to wait: the longer of its header's and its body's."""
    if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
        return None
    named = (answer.headers.get("Retry-After"), _json(answer).get("retry_after"))
    waits = [wait for wait in map(_seconds, named) if wait is not None]
    return max(waits, default=None)


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
