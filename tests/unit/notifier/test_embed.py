"""The embed: within Discord's limits, whatever the message holds."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.notifier.discord import FOOTER_ROOM, embed
from services.notifier.message import Field, Message, drifted
from shared.drift import CellFinding
from shared.events import DriftFound
from shared.records import DriftReport

ANY_TEXT = st.builds(
    str.__mul__,
    st.text(st.characters(), max_size=20),  # lone surrogates and controls too
    st.sampled_from([1, 1, 1, 50, 500]),
)
FIELDS = st.lists(st.builds(Field, ANY_TEXT, ANY_TEXT, st.booleans()), max_size=30).map(tuple)
MESSAGES = st.builds(
    Message,
    title=ANY_TEXT,
    text=ANY_TEXT,
    fields=FIELDS,
    colour=st.integers(0, 0xFFFFFF),
    url=st.none() | ANY_TEXT,
    picture=st.none() | st.binary(max_size=50),
    trace_id=st.none() | st.uuids().map(lambda identity: identity.hex),
)
CELLS = st.builds(
    CellFinding,
    kind=st.sampled_from(["number", "category", "missing", "pair"]),
    column=ANY_TEXT,
    other_column=st.none() | ANY_TEXT,
    segment=st.none() | ANY_TEXT,
    p=st.none() | st.floats(0, 1),
    effect=st.floats(0, 1),
    direction=ANY_TEXT,
    reference_rows=st.integers(0, 10**12),
    current_rows=st.integers(0, 10**12),
)


def utf16_units(text: str) -> int:
    """The larger of the two ways in which Discord may count."""
    return len(text.encode("utf-16-le")) // 2


@given(MESSAGES)
def test_every_message_is_within_every_limit(message: Message) -> None:
    check_limits(embed(message))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # both are immutable
@given(st.lists(CELLS, max_size=5), st.text(st.characters(), max_size=500))
def test_every_drift_is_within_every_limit_and_shows_its_effects(
    drift: DriftFound, calibrated: DriftReport, cells: list[CellFinding], reason: str
) -> None:
    event = drift.model_copy(update={"reason": reason})
    content = embed(drifted(event, calibrated.model_copy(update={"cells": cells}), b"png"))
    check_limits(content)
    assert not re.search(r"(?<!\\)@", content["description"])
    if cells:
        shown = content["fields"][: len(cells[:3])]
        assert all("effect 0." in f["value"] or "effect 1." in f["value"] for f in shown)
        assert not any(re.search(r"(?<!\\)[@<]", f["name"]) for f in shown)


def check_limits(content: dict[str, Any]) -> None:
    assert 1 <= utf16_units(content["title"].strip()) <= 256
    assert 1 <= utf16_units(content["description"].strip()) <= 4_096
    assert len(content["fields"]) <= 25
    for field in content["fields"]:
        assert 1 <= utf16_units(field["name"].strip()) <= 256
        assert 1 <= utf16_units(field["value"].strip()) <= 1_024
    texts = [content["title"], content["description"], content.get("footer", {}).get("text", "")]
    texts += [field[part] for field in content["fields"] for part in ("name", "value")]
    assert sum(map(utf16_units, texts)) <= 6_000


@given(MESSAGES)
def test_every_message_is_json_in_utf_8(message: Message) -> None:
    content = embed(message)
    assert json.loads(json.dumps(content, ensure_ascii=False).encode("utf-8")) == content


@given(MESSAGES)
def test_fields_that_find_no_room_are_counted(message: Message) -> None:
    content = embed(message)
    left_out = len(message.fields) - len(content["fields"])
    assert bool(content["fields"]) == bool(message.fields)
    footer = content.get("footer", {}).get("text", "")
    assert footer.startswith(f"{left_out} more left out") == bool(left_out)


@given(MESSAGES)
def test_the_footer_leads_back_to_the_chain_whatever_else_is_cut(message: Message) -> None:
    footer = embed(message).get("footer", {}).get("text", "")
    assert footer.endswith(f"trimtab history show {message.trace_id}") == bool(message.trace_id)
    assert len(footer) <= FOOTER_ROOM


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=100))
def test_discord_shows_the_text_as_it_was(text: str) -> None:
    title = embed(Message(text, "", (), 0))["title"]
    shown = re.sub(r"\\([^0-9A-Za-z\s])", r"\1", title)  # Discord's own rule
    assert shown == (text or "–")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("air_quality *bold* ~~gone~~", r"air\_quality \*bold\* \~\~gone\~\~"),
        ("`code` ||spoiler||", r"\`code\` \|\|spoiler\|\|"),
        ("[here](https://example.org)", r"\[here\](https://example.org)"),
        ("@everyone <@1> <t:0>", r"\@everyone \<\@1\> \<t:0\>"),
        ("# head\n> quote\n- item\n+ item", "\\# head\n\\> quote\n\\- item\n\\+ item"),
        ("-0.5 to 3-4", "-0.5 to 3-4"),
    ],
)
def test_markup_in_the_data_is_shown_not_obeyed(text: str, escaped: str) -> None:
    assert embed(Message("t", text, (), 0))["description"] == escaped


def test_a_long_text_ends_in_an_ellipsis_and_in_no_half_character() -> None:
    title = embed(Message("🙂" * 200, "", (), 0))["title"]
    assert title == "🙂" * 127 + "…"


def test_a_cut_does_not_escape_its_own_ellipsis() -> None:
    title = embed(Message("_" * 300, "", (), 0))["title"]
    assert title == r"\_" * 127 + "…"


def test_the_footer_counts_too() -> None:
    first, second = Field("n" * 256, "v" * 1_024), Field("n" * 10, "v" * 358)
    full = Message("t" * 256, "d" * 4_096, (first, second), 0)  # 6,000 without a footer
    content = embed(full)
    assert [field["value"] for field in content["fields"]] == [first.value]
    assert content["footer"] == {"text": "1 more left out"}


def test_a_text_that_just_fits_is_whole() -> None:
    assert embed(Message("t" * 256, "", (), 0))["title"] == "t" * 256
    assert embed(Message("t" * 257, "", (), 0))["title"] == "t" * 255 + "…"


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://example.org/commit/1", True),
        ("http://example.org/commit/1", True),
        (None, False),
        ("/srv/models.git", False),
        ("javascript:alert(1)", False),
        ("https://example.org/a b", False),
        ("https://example.org/" + "a" * 2_048, False),
    ],
)
def test_only_what_discord_takes_for_a_link_is_one(url: str | None, linked: bool) -> None:
    assert embed(Message("t", "d", (), 0, url)).get("url") == (url if linked else None)


def test_a_picture_is_the_embeds_image_unless_it_is_larger_than_discord_takes() -> None:
    largest = Message("t", "d", (), 0, picture=bytes(10_000_000))
    assert embed(largest)["image"] == {"url": "attachment://drift.png"}
    assert "image" not in embed(replace(largest, picture=bytes(10_000_001)))
    assert "image" not in embed(replace(largest, picture=None))


def test_the_embed_of_a_plain_message() -> None:
    message = Message("title", "text", (Field("a", "1", inline=True),), 0x123456)
    assert embed(message) == {
        "title": "title",
        "description": "text",
        "color": 0x123456,
        "fields": [{"name": "a", "value": "1", "inline": True}],
    }
