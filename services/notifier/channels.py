"""Where messages go: Discord, whatever Apprise knows, or else standard output."""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final, Literal

from pydantic import SecretStr

from services.notifier import discord
from services.notifier.message import PICTURE_NAME, Message, as_text
from shared.failures import WillNotPass, WillPass
from shared.plain_text import without_markup
from shared.settings import Settings

_CAN_PASS: Final = {408, 425, 429}
"""The statuses below 500 that another try may not meet."""
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+-]{0,30}(?=://)")
_STATUS: Final = re.compile(r"\berror=(\d{3})\b")
"""In Apprise's log entries."""


@dataclass(frozen=True)
class Receipt:
    """A channel has taken a message."""

    answer: Literal["sent", "printed"]
    message_id: str | None = None
    """The far side's name for the message, if it gave one."""


@dataclass(frozen=True)
class Channel:
    """Somewhere a message can go.

    `send` raises `WillPass` for what another try may not meet, and `WillNotPass` for a refusal.
    """

    name: str
    send: Callable[[Message], Receipt]


def channels(settings: Settings) -> tuple[Channel, ...]:
    """The channels that are set; standard output if none is.

    An Apprise channel is named by its place in APPRISE_URLS and its scheme: the rest is secret.
    """
    found = []
    if settings.discord_webhook_url:
        found.append(Channel("discord", partial(_send_to_discord, settings.discord_webhook_url)))
    for number, url in enumerate(settings.apprise_urls, start=1):
        name = f"apprise {number} ({_scheme(url)})"
        found.append(Channel(name, partial(_send_by_apprise, url)))
    return tuple(found) or (Channel("console", _print),)


def _scheme(url: SecretStr) -> str:
    scheme = _SCHEME.match(url.get_secret_value())
    return scheme[0].lower() if scheme else "no scheme"


def _print(message: Message) -> Receipt:
    sys.stdout.write(f"{message.title}\n{as_text(message)}\n\n")
    sys.stdout.flush()
    return Receipt("printed")


def _send_to_discord(webhook: SecretStr, message: Message) -> Receipt:
    return Receipt("sent", discord.post(webhook, message))


def _send_by_apprise(url: SecretStr, message: Message) -> Receipt:
    apprise = _apprise()
    asset = apprise.AppriseAsset(app_id="Trimtab", http_redirects=False)
    service = apprise.Apprise.instantiate(url.get_secret_value(), asset=asset)
    if service is None:
        raise WillNotPass(
            "Apprise cannot use this URL; check its form in APPRISE_URLS, and that the library "
            "that its scheme needs is installed"
        )
    service.redirects = False  # also if the URL says `redirect=yes`: its headers hold secrets
    sender = apprise.Apprise(service)
    text = apprise.NotifyFormat.TEXT
    with _as_file(message.picture) as picture:
        result = sender.notify(
            title=without_markup(message.title),
            body=as_text(message, without_markup),
            body_format=text,
            attach=picture,
            log_level=logging.INFO,
        )
    if not result:
        raise _failure(result, targets=len(service) // (service.retry + 1))
    return Receipt("sent")


@contextmanager
def _as_file(picture: bytes | None) -> Iterator[str | None]:
    """A file with the picture, which all of Apprise's services can read; some read no memory."""
    if not picture:
        yield None
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / PICTURE_NAME
        file.write_bytes(picture)
        yield str(file)


@cache
def _apprise() -> ModuleType:
    """Apprise, imported at its first use.

    Its log lines and those of the HTTP client below it hold whole URLs, so they go nowhere.
    """
    import apprise

    for name in ("apprise", "urllib3"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    logging.getLogger("apprise").setLevel(logging.INFO)  # its result's entries, which we read
    module: ModuleType = apprise
    return module


def _failure(result: Any, targets: int) -> WillPass | WillNotPass:
    """What a failed delivery means. Apprise tells the far side's status in its log entries only."""
    entries = [entry.message for entry in result.logs()]
    statuses = [int(digits) for digits in _STATUS.findall(" ".join(entries))]
    answered = f"answered {statuses[-1]}" if statuses else "did not take the message"
    if targets > 1:
        return WillNotPass(
            f"{answered}; some of its {targets} targets may have the message and would get it "
            "again: give each target a URL of its own in APPRISE_URLS"
        )
    if any(entry.startswith("Sent ") for entry in entries):
        return WillNotPass(
            f"{answered}, but has taken a part of the message and would get it again: "
            "see there what is missing"
        )
    if statuses and statuses[-1] < 500 and statuses[-1] not in _CAN_PASS:
        return WillNotPass(f"{answered}; check its URL in APPRISE_URLS")
    return WillPass(answered)
