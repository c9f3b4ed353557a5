"""The channels that are set: Discord, any Apprise address, or else standard output."""

import sys
from collections.abc import Callable
from functools import partial

from pydantic import SecretStr

from services.notifier.discord import send_to_discord
from services.notifier.message import Message
from shared.failures import WillNotPass, WillPass
from shared.settings import Settings

Channel = Callable[[Message], str]
"""Sends a message and returns what the far side said, in a word or two."""


def channels(settings: Settings) -> dict[str, Channel]:
    """The channels by name. Names hold no address: many an address is a secret."""
    found: dict[str, Channel] = {}
    if settings.discord_webhook_url:
        found["Discord"] = partial(_discord, webhook=settings.discord_webhook_url)
    for number, url in enumerate(settings.apprise_urls, start=1):
        scheme = url.get_secret_value().partition("://")[0]
        found[f"Apprise {number} ({scheme})"] = partial(_apprise, url=url)
    return found or {"console": _console}


def _discord(message: Message, *, webhook: SecretStr) -> str:
    return f"sent as {send_to_discord(message, webhook)}"


def _apprise(message: Message, *, url: SecretStr) -> str:
    import apprise  # half a second that only those pay who use it

    target = apprise.Apprise()
    if not target.add(url.get_secret_value()):
        raise WillNotPass("Apprise does not understand this address in APPRISE_URLS")
    if not target.notify(title=message.title, body=message.as_text()):
        raise WillPass("Apprise could not deliver the message")
    return "sent"


def _console(message: Message) -> str:
    sys.stdout.write(f"{message.as_text()}\n\n")
    sys.stdout.flush()
    return "printed"
