"""Text from data refers to nobody and formats nothing, and reads as it did."""

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.plain_text import without_addresses, without_markup, without_references

MARKUP = {
    "Discord, Slack, Mattermost: everybody": ("@everyone @here @channel @all", r"@\w"),
    "Discord: a person, a role, a channel": ("<@123> <@&4> <#5>", r"<[@#]"),
    "Slack: everybody, a person, a link": ("<!channel> <@U1> <http://a|b>", r"<[!@h]"),
    "Google Chat: everybody": ("<users/all>", r"<u"),
    "Zulip: everybody, a channel": ("@**all** #**general**", r"@\*|#\*"),
    "Telegram, Matrix, Teams: HTML": ("<b>x</b><a href='h'>y</a><at>z</at>", r"</?\w"),
    "Markdown: a link, a picture, a reference": ("[a](b) ![c](d) [e][f] [g]: h", r"\][(\[:]"),
    "Markdown: code": ("`a` ```b```", "`"),
    "Markdown: emphasis": ("*a* **b** _c_ __d__ ~~e~~", r"\*|~|__|\b_\w+_\b"),
    "Discord: a spoiler": ("||a||", r"\|\|"),
    "Markdown: blocks": ("# a\n> b\n- c\n+ d\n1. e\n2) f\n---\n===", r"(?m)^[#>+=-]|^\d+[.)]"),
    "Markdown: indented blocks": ("  # a\n  > b\n  - c", r"(?m)^ *[#>-]"),
    "Markdown: an entity for @": ("&#64;everyone &commat;here", r"&#|&c"),
    "Markdown: a sign taken away": (r"\@ \< a\_b", r"\\[@<_]"),
    "GitHub: an issue, a person, a team": ("fixes #12, o/r#3, @octocat, @o/team", r"#\d|@\w"),
    "GitLab: a merge request, a label, an epic": ("!1 ~2 &3 %4 $5", r"[!~&%$]\d"),
    "CI: no run": ("[skip ci] [ci skip]", r"\[\w"),
    "an emoji by its name": (":warning: :+1:", r":[\w+]+:"),
}  # fmt: skip
"""Case -> a text, and a pattern of what would be markup in it."""


@pytest.mark.parametrize("case", MARKUP)
def test_what_would_be_markup_is_none_any_more(case: str) -> None:
    text, markup = MARKUP[case]
    assert re.search(markup, text)
    assert not re.search(markup, without_markup(text)), without_markup(text)


@pytest.mark.parametrize(
    "text",
    [
        "trimtab report --pipeline air_quality 5",
        "trimtab dead-letters show publisher:0123abcd",
        "pollutant_avg in PM2.5: median 84 → 131 (p < 1e-16, threshold 0.00025)",
        "New Delhi - IGI Airport (T3), IMD; 43 % lower; 12:30:45; A&B; 3 > 2; 10 / 2 = 5",
        "  mae: mean 6.4 → 7.1 (drift 0.33)",
        "a-b c_d 1.5 v2.",
    ],
)
def test_what_is_no_markup_stays_to_the_letter(text: str) -> None:
    assert without_markup(text) == text


SIGNS = st.text(alphabet="@<>!#&[]()*_~`|\\:/+-=.1a \n", max_size=30) | st.text(max_size=30)
ALIKE = str.maketrans("ˋ∗∼ˍ∣∖", "`*~_|\\")


@given(SIGNS)
def test_a_person_reads_the_same(text: str) -> None:
    read = without_markup(text).replace("\u200b", "").translate(ALIKE)
    assert read == text.replace("\u200b", "").translate(ALIKE)


@given(SIGNS)
def test_nobody_is_named_whatever_stands_around(text: str) -> None:
    for shown in (without_markup(text), without_references(text)):
        assert not re.search(r"@[^\s\u200b]|<[^\s\u200b]|#\w|\]\(", shown)
    assert not re.search(r"[`*~]|__|\|\|", without_markup(text))


@given(SIGNS)
def test_twice_is_once(text: str) -> None:
    assert without_markup(without_markup(text)) == without_markup(text)


def test_the_spaces_have_no_width() -> None:
    added = set(without_markup("@a <b [c](d) :e:")) - set("@a <b [c](d) :e:")
    assert {unicodedata.category(letter) for letter in added} == {"Cf"}


def test_addresses_are_no_links() -> None:
    shown = without_addresses("see https://example.org/a and ftp://b; 3 ://")
    assert "://" not in shown.replace("3 ://", "")
    assert shown.replace("∶", ":") == "see https://example.org/a and ftp://b; 3 ://"


@pytest.mark.parametrize(
    "piece", ["@", "<a", ":a", "[", "](", "_", "a_", "&a", "#", "\\", "1", " "]
)
def test_long_texts_take_no_time(piece: str) -> None:
    before = time.process_time()
    without_markup(piece * 100_000)
    assert time.process_time() - before < 2
