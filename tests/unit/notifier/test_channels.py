"""Which channels the settings name, and printing."""

from typing import Any

import pytest

from services.notifier.channels import channels
from services.notifier.message import Field, Message
from shared.settings import Settings, read_settings


def settings_with(**values: Any) -> Settings:
    return read_settings(redis_url="redis://broker", mongodb_uri="mongodb://store", **values)


def names(settings: Settings) -> list[str]:
    return [channel.name for channel in channels(settings)]


def test_discord_and_every_apprise_url_is_a_channel() -> None:
    settings = settings_with(
        discord_webhook_url="https://discord.example/api/webhooks/1/secret",
        apprise_urls="mailto://user:secret@example.org JSONS://secret.example.org",
    )
    assert names(settings) == ["discord", "apprise 1 (mailto)", "apprise 2 (jsons)"]


@pytest.mark.parametrize(
    "url", ["secret", "se.cret://x", "://secret", "$secret://", "s" * 99 + "://"]
)
def test_a_url_without_a_scheme_is_not_named(url: str) -> None:
    assert names(settings_with(apprise_urls=url)) == ["apprise 1 (no scheme)"]


def test_without_any_the_message_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (console,) = channels(settings_with())
    receipt = console.send(Message("title", "text", (Field("a", "1"),), 0))
    assert console.name == "console"
    assert receipt.answer == "printed"
    assert capsys.readouterr().out == "title\ntext\n\na: 1\n\n"


def test_the_address_is_not_in_what_a_channel_shows_of_itself() -> None:
    settings = settings_with(
        discord_webhook_url="https://discord.example/api/webhooks/1/secret",
        apprise_urls="mailto://user:secret@example.org",
    )
    assert "secret" not in repr(channels(settings))
