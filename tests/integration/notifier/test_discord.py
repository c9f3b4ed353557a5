"""The Discord client against a server on a real socket."""

import time
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from services.notifier import discord
from services.notifier.discord import embed, post
from services.notifier.message import Field, Message
from shared.failures import WillNotPass, WillPass
from tests.integration.notifier.conftest import TOKEN, Answer, FarSide, File

MESSAGE = Message("title @everyone", "text", (Field("a", "1"),), 0x123456)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40 + b"\r\n--\r\n\r\n"
"""Bytes that would suffer if anything took them for text."""
PICTURED = replace(MESSAGE, picture=PNG)


def send(far_side: FarSide) -> str:
    return post(SecretStr(far_side.webhook), MESSAGE)


def test_the_message_is_posted_once_as_an_embed_that_pings_nobody(far_side: FarSide) -> None:
    assert send(far_side) == "9001"
    (request,) = far_side.requests
    assert request.path == f"/api/webhooks/1430000000000000001/{TOKEN}?wait=true"
    assert request.body == {"embeds": [embed(MESSAGE)], "allowed_mentions": {"parse": []}}


def test_a_picture_goes_along_byte_for_byte(far_side: FarSide) -> None:
    assert post(SecretStr(far_side.webhook), PICTURED) == "9001"
    (request,) = far_side.requests
    assert request.path.endswith(f"{TOKEN}?wait=true")
    assert request.files == {"files[0]": File("drift.png", "image/png", PNG)}
    (shown,) = request.body.pop("attachments")
    assert shown == {"id": 0, "filename": "drift.png", "description": "title @everyone"}
    assert request.body == {"embeds": [embed(PICTURED)], "allowed_mentions": {"parse": []}}
    assert request.body["embeds"][0]["image"] == {"url": "attachment://drift.png"}


def test_a_picture_larger_than_discord_takes_stays_behind(far_side: FarSide) -> None:
    post(SecretStr(far_side.webhook), replace(MESSAGE, picture=bytes(10_000_001)))
    assert far_side.requests[0].body == {
        "embeds": [embed(MESSAGE)],
        "allowed_mentions": {"parse": []},
    }


def test_a_wait_repeats_the_message_with_its_picture(far_side: FarSide) -> None:
    far_side.say(*[Answer(429, {"retry_after": 0.01})] * 2)
    assert post(SecretStr(far_side.webhook), PICTURED) == "9003"
    assert [request.files["files[0]"].data for request in far_side.requests] == [PNG] * 3
    assert [request.body for request in far_side.requests] == [far_side.requests[0].body] * 3


def test_a_thread_in_the_address_is_kept(far_side: FarSide) -> None:
    post(SecretStr(far_side.webhook + "?thread_id=42&wait=false"), MESSAGE)
    path, _, query = far_side.requests[0].path.partition("?")
    assert path.endswith(TOKEN)
    assert set(query.split("&")) == {"thread_id=42", "wait=true"}


@pytest.mark.parametrize(
    "asked",
    [
        Answer(429, {"retry_after": 0.15}, {"Retry-After": "0"}),
        Answer(429, {"retry_after": 0.15}),
        Answer(429, "slow down", {"Retry-After": "0.15"}),
    ],
)
def test_a_short_wait_is_slept_through_to_its_end(far_side: FarSide, asked: Answer) -> None:
    far_side.say(asked)
    started = time.monotonic()
    assert send(far_side) == "9002"
    assert time.monotonic() - started >= 0.15


def test_after_two_short_waits_the_stage_runtime_takes_over(far_side: FarSide) -> None:
    far_side.say(*[Answer(429, {"retry_after": 0.01})] * 3)
    with pytest.raises(WillPass, match="429") as failure:
        send(far_side)
    assert failure.value.retry_after == 0.01
    assert len(far_side.requests) == 3


@pytest.mark.parametrize(
    ("asked", "retry_after"),
    [
        (Answer(429, {"retry_after": 61.5}), 61.5),
        (Answer(429, {"retry_after": 2}, {"Retry-After": "90"}), 90),
        (Answer(429, None, {"Retry-After": "1e300"}), 3_600),
        (Answer(429, {"retry_after": "nan"}), None),
        (Answer(429, {"retry_after": -1}), None),
        (Answer(429, '{"retry_after": 1' + "0" * 400 + "}"), None),
        (Answer(429, "", {"Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT"}), None),
    ],
)
def test_a_long_or_unreadable_wait_is_left_to_the_stage_runtime(
    far_side: FarSide, asked: Answer, retry_after: float | None
) -> None:
    far_side.say(asked)
    with pytest.raises(WillPass) as failure:
        send(far_side)
    assert failure.value.retry_after == retry_after
    assert len(far_side.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_what_ails_the_far_side_may_pass(far_side: FarSide, status: int) -> None:
    far_side.say(Answer(status, "oops"))
    with pytest.raises(WillPass, match=str(status)):
        send(far_side)
    assert len(far_side.requests) == 1


def test_a_refusal_is_in_discords_own_words(far_side: FarSide) -> None:
    fault = {"embeds": {"0": {"title": {"_errors": [{"message": "Must be 256 or fewer"}]}}}}
    far_side.say(Answer(400, {"message": "Invalid Form Body", "code": 50035, "errors": fault}))
    with pytest.raises(WillNotPass, match=r"400: Invalid Form Body: .*Must be 256 or fewer"):
        send(far_side)
    assert len(far_side.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, {"message": "x" * 3_000_000}),
        Answer(400, "[" * 60_000),
    ],
)
def test_of_an_answer_only_the_beginning_is_read(far_side: FarSide, answer: Answer) -> None:
    far_side.say(answer)
    with pytest.raises(WillNotPass, match="refused the message") as failure:
        send(far_side)
    assert len(str(failure.value)) < 200


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_webhook_that_is_gone_has_to_be_made_anew(far_side: FarSide, status: int) -> None:
    far_side.say(Answer(status, {"message": "Unknown Webhook", "code": 10015}))
    with pytest.raises(WillNotPass, match=r"Unknown Webhook.*make a new one.*DISCORD_WEBHOOK_URL"):
        send(far_side)


@pytest.mark.parametrize(
    "echo",
    [
        Answer(404, {"message": f"no route /api/webhooks/1430000000000000001/{TOKEN}"}),
        Answer(400, {"message": "no", "errors": {"path": f"x/{TOKEN}?wait=true"}}),
        Answer(405, f"<html>Cannot POST /api/webhooks/1430000000000000001/{TOKEN}</html>"),
        Answer(308, "", {"Location": f"https://example.org/{TOKEN}"}),
    ],
)
def test_a_refusal_that_quotes_the_address_does_not_give_it_away(
    far_side: FarSide, echo: Answer
) -> None:
    far_side.say(echo)
    with pytest.raises(WillNotPass, match=str(echo.status)) as failure:
        send(far_side)
    assert TOKEN not in str(failure.value)
    assert len(far_side.requests) == 1


@pytest.mark.parametrize("body", [{}, [], "<html>", "null"])
def test_an_answer_that_names_no_message_is_not_asked_again(
    far_side: FarSide, body: object
) -> None:
    far_side.say(Answer(200, body))
    with pytest.raises(WillNotPass, match="names no message"):
        send(far_side)


def test_a_lost_answer_may_pass_and_says_that_the_message_may_be_there(far_side: FarSide) -> None:
    far_side.say(Answer(0))
    with pytest.raises(WillPass, match="answer was lost"):
        send(far_side)
    assert len(far_side.requests) == 1


def test_an_answer_that_does_not_come_is_lost(
    far_side: FarSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discord, "_TIMEOUT", httpx.Timeout(0.05, connect=5))
    far_side.say(Answer(0, after_seconds=0.2))
    with pytest.raises(WillPass, match="answer was lost"):
        send(far_side)


@pytest.mark.parametrize("packing", ["gzip", "gzip, gzip", "br"])
def test_an_answer_that_cannot_be_read_is_lost(far_side: FarSide, packing: str) -> None:
    far_side.say(Answer(200, {"id": "9001"}, {"Content-Encoding": packing}))
    with pytest.raises(WillPass, match="answer was lost"):
        send(far_side)


def test_where_nobody_listens_it_may_pass(nobody: str) -> None:
    with pytest.raises(WillPass, match="could not be reached"):
        post(SecretStr(f"http://{nobody}/api/webhooks/1/{TOKEN}"), MESSAGE)


@pytest.mark.parametrize("address", ["https://", f"https://host:{TOKEN}/x", "https://\x00"])
def test_what_is_no_address_cannot_pass(address: str) -> None:
    with pytest.raises(WillNotPass, match="DISCORD_WEBHOOK_URL is not an address") as failure:
        post(SecretStr(address), MESSAGE)
    assert TOKEN not in str(failure.value)
