"""Channels by Apprise, over its own HTTP client to a real socket; and what the notifier imports."""

import base64
import html
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.ntfy import NotifyNtfy
from apprise.plugins.slack import NotifySlack

from services.notifier.channels import channels
from services.notifier.message import Field, Message
from shared.failures import WillNotPass, WillPass
from shared.settings import read_settings
from tests.integration.notifier.conftest import TOKEN, Answer, FarSide

MESSAGE = Message("title", "what <happened> & why", (Field("a", "1"),), 0x123456)


def send(url: str, message: Message = MESSAGE) -> str:
    settings = read_settings(
        redis_url="redis://broker", mongodb_uri="mongodb://store", apprise_urls=url
    )
    (channel,) = channels(settings)
    return channel.send(message).answer


def test_the_message_arrives_as_plain_text(far_side: FarSide) -> None:
    assert send(far_side.apprise()) == "sent"
    (request,) = far_side.requests
    assert request.path == f"/hook/{TOKEN}"
    assert request.body["title"] == "title"
    assert request.body["message"] == "what <\u200bhappened> & why\n\na: 1"


def test_a_picture_goes_along_where_the_channel_takes_one(far_side: FarSide) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    assert send(far_side.apprise(), replace(MESSAGE, picture=png)) == "sent"
    (request,) = far_side.requests
    (attached,) = request.body["attachments"]
    assert (attached["filename"], attached["mimetype"]) == ("drift.png", "image/png")
    assert base64.b64decode(attached["base64"]) == png


def test_a_message_of_which_a_part_has_arrived_is_not_repeated(
    far_side: FarSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotifyNtfy, "request_rate_per_sec", 0)  # no pause between the parts
    in_parts = f"ntfy://127.0.0.1:{far_side.server_port}/{TOKEN}?overflow=split"
    far_side.say(Answer(200, {"id": "1"}), Answer(503))
    with pytest.raises(WillNotPass, match="answered 503, but has taken a part of the message"):
        send(in_parts, replace(MESSAGE, text="why " * 3_000))
    assert len(far_side.requests) == 2


def test_where_a_channel_shows_html_the_text_is_not_taken_for_markup(far_side: FarSide) -> None:
    send(far_side.apprise() + "?format=html")
    assert "&lt;\u200bhappened&gt;" in far_side.requests[0].body["message"]


HOSTILE = "@everyone @here <@123> <!channel> [click](http://evil.example) **b** `c` <b>d</b>"
COMMAND = "trimtab dead-letters show publisher:0a1b"
OF_DATA = Message(
    f"air_quality: {HOSTILE}",
    HOSTILE,
    (Field(HOSTILE, HOSTILE), Field("Look at it", COMMAND)),
    0x123456,
    url="https://host.example/a_/commit/__b__",
)
CHANNELS = {
    "json": "json://{place}/hook",
    "json, HTML": "json://{place}/hook?format=html",
    "json, Markdown": "json://{place}/hook?format=markdown",
    "Discord": "discord://1430000000000000001/token-of-it",
    "Discord, Markdown": "discord://1430000000000000001/token-of-it?format=markdown",
    "Mattermost": "mmost://{place}/tokentokentoken",
    "Mattermost, Markdown": "mmost://{place}/tokentokentoken?format=markdown",
    "Slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
    "Slack, Markdown": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general?format=markdown",
}
"""Services by Apprise's own code for them; those that only have one address are sent here."""


def texts_in(body: object) -> list[str]:
    """Every text of a JSON value."""
    if isinstance(body, dict):
        return [text for value in body.values() for text in texts_in(value)]
    if isinstance(body, list):
        return [text for value in body for text in texts_in(value)]
    return [body] if isinstance(body, str) else []


@pytest.mark.parametrize("channel", CHANNELS)
def test_text_from_data_pings_nobody_and_formats_nothing(
    far_side: FarSide, monkeypatch: pytest.MonkeyPatch, channel: str
) -> None:
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"{far_side.origin}/webhooks")
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{far_side.origin}/services")
    if channel.startswith("Slack"):
        far_side.say(Answer(200, "ok"))
    assert send(CHANNELS[channel].format(place=far_side.origin[7:]), OF_DATA) == "sent"
    (request,) = far_side.requests
    said = html.unescape("\n".join(texts_in(request.body)))
    assert "everyone" in said
    assert not re.search(r"@(everyone|here|123)|<[@!]|\]\(http|\*\*b|`c|<b>d", said), said
    assert not {"allow_mentions", "allowed_mentions"} & request.body.keys()
    read = said.replace("\xa0", " ").replace("\\", "")  # as a service shows them
    assert COMMAND in read, "a command can be copied"
    assert "https://host.example/a_/commit/__b__" in read, "so can our own address"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_cannot_pass(far_side: FarSide, status: int) -> None:
    far_side.say(Answer(status))
    with pytest.raises(WillNotPass, match=f"answered {status}; check its URL in APPRISE_URLS"):
        send(far_side.apprise())
    assert len(far_side.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_what_ails_the_far_side_may_pass(far_side: FarSide, status: int) -> None:
    far_side.say(Answer(status))
    with pytest.raises(WillPass, match=f"answered {status}"):
        send(far_side.apprise())
    assert len(far_side.requests) == 1


def test_a_lost_answer_may_pass(far_side: FarSide) -> None:
    far_side.say(Answer(0))
    with pytest.raises(WillPass, match="did not take the message"):
        send(far_side.apprise())


def test_where_nobody_listens_it_may_pass(nobody: str) -> None:
    with pytest.raises(WillPass, match="did not take the message"):
        send(f"json://{nobody}/{TOKEN}")


def test_a_url_with_several_targets_is_not_repeated_to_those_that_have_the_message(
    nobody: str,
) -> None:
    several = f"mailto://user:{TOKEN}@{nobody}?smtp=127.0.0.1&from=a@example.org"
    with pytest.raises(WillNotPass, match="2 targets may have the message"):
        send(f"{several}&to=b@example.org,c@example.org")


def test_apprises_own_repeats_are_not_taken_for_targets(nobody: str) -> None:
    with pytest.raises(WillPass):
        send(f"json://{nobody}/{TOKEN}?retry=1&wait=0.01")


@pytest.mark.parametrize("url", ["nosuchscheme://x", TOKEN, f"json://{TOKEN}:port:port/"])
def test_a_url_that_apprise_does_not_know_cannot_pass(url: str) -> None:
    with pytest.raises(WillNotPass, match="check its form in APPRISE_URLS") as failure:
        send(url)
    assert TOKEN not in str(failure.value)


IMPORTS = """
import sys
import services.notifier.tasks
assert "apprise" not in sys.modules, "Apprise is imported though nobody has asked for it"
import apprise
assert apprise.Apprise.instantiate("json://localhost")  # loads all its plugins
heavy = {"pandas", "numpy", "scipy", "sklearn", "pyarrow", "joblib"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_the_notifier_imports_no_data_science_and_apprise_only_when_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
