"""Discord: a message as an embed within its limits, and the webhook that takes it."""

import re
import time
from typing import Any, Final

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from services.notifier.message import Message
from shared.failures import WillNotPass, WillPass

TITLE_LIMIT: Final = 256
DESCRIPTION_LIMIT: Final = 4096
FIELDS_LIMIT: Final = 25
FIELD_NAME_LIMIT: Final = 256
FIELD_VALUE_LIMIT: Final = 1024
EMBED_LIMIT: Final = 6000
_EMPTY: Final = "\u200b"
"""Discord refuses an empty name or value; this is a space without width."""

_TIMEOUT_SECONDS: Final = 15.0
_PATIENCE_SECONDS: Final = 5.0
"""A pause that Discord asks for is slept through if it is no longer than this."""

_MARKDOWN: Final = re.compile(r"([\\*_`~|>#\[\]()<@])")


class _Accepted(BaseModel):
    id: str


def embed(message: Message) -> dict[str, Any]:
    """The message as Discord's embed, cut where it is longer than Discord takes."""
    content: dict[str, Any] = {
        "title": _cut(_plain(message.title), TITLE_LIMIT),
        "description": _cut(_plain(message.text), DESCRIPTION_LIMIT),
        "color": message.colour,
    }
    if message.url:
        content["url"] = message.url
    room = EMBED_LIMIT - _units(content["title"]) - _units(content["description"])
    content["fields"] = []
    for field in message.fields[:FIELDS_LIMIT]:
        name = _cut(_plain(field.name), FIELD_NAME_LIMIT)
        value = _cut(_plain(field.value), FIELD_VALUE_LIMIT)
        room -= _units(name) + _units(value)
        if room < 0:
            break
        content["fields"].append({"name": name, "value": value, "inline": False})
    return content


def send_to_discord(message: Message, webhook: SecretStr) -> str:
    """Send a message and return its id at Discord.

    Raises:
        WillPass: no answer, a fault at Discord's side, or a longer pause was asked for. After a time
            out the message may have been kept: only then can a later try double it.
        WillNotPass: Discord refuses the message or the webhook.
    """
    payload = {"embeds": [embed(message)], "allowed_mentions": {"parse": []}}
    response = _post(webhook, payload)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        pause = _retry_after(response)
        if pause > _PATIENCE_SECONDS:
            raise WillPass("Discord asks for a pause", retry_after=pause)
        time.sleep(pause)
        response = _post(webhook, payload)
    _check(response)
    try:
        return _Accepted.model_validate_json(response.content).id
    except ValidationError:
        raise WillPass("Discord's answer holds no message id") from None


def _post(webhook: SecretStr, payload: dict[str, Any]) -> httpx.Response:
    """One request. The address is a secret, so no error of httpx is passed on: it may hold it."""
    try:
        return httpx.post(
            webhook.get_secret_value(),
            params={"wait": "true"},
            json=payload,
            timeout=_TIMEOUT_SECONDS,
        )
    except httpx.TransportError as error:
        raise WillPass(f"Discord is out of reach ({type(error).__name__})") from None
    except httpx.InvalidURL:
        raise WillNotPass("DISCORD_WEBHOOK_URL is no address") from None


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise WillPass("Discord asks for a pause", retry_after=_retry_after(response))
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.REQUEST_TIMEOUT:
        raise WillPass(f"Discord answered {status}")
    if status == httpx.codes.NOT_FOUND:
        raise WillNotPass(
            "Discord knows no such webhook (404): make a new one and set DISCORD_WEBHOOK_URL"
        )
    raise WillNotPass(f"Discord answered {status}: {response.text[:300]}")


def _retry_after(response: httpx.Response) -> float:
    """Seconds that Discord asks to wait; 1 where it does not say."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _plain(text: str) -> str:
    """The text without effect as Markdown or as a mention."""
    return _MARKDOWN.sub(r"\\\1", text)


def _units(text: str) -> int:
    """Length in UTF-16 code units, the larger of the ways in which Discord may count."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _cut(text: str, limit: int) -> str:
    if not text.strip():
        return _EMPTY
    if _units(text) <= limit:
        return text
    kept = text.encode("utf-16-le", "surrogatepass")[: 2 * (limit - 1)]
    return kept.decode("utf-16-le", "ignore").rstrip("\\") + "…"
