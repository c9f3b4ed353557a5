"""Text from data, for places whose markup is not known: it refers to nobody and formats nothing.

Chat services, Git hosts and mail programs read markup out of plain text, each in its own way, and
few have a way to write it literally. So what would begin markup is parted by a space without width,
or stands as a sign that looks the same. What a person reads stays as it was.
"""

import re
from typing import Final
from unicodedata import category

_APART: Final = "\u200b"
"""Has no width, and ends every name, number and sign before it."""

_REFERENCES: Final = re.compile(
    r"(?<=[@<\[])(?=[^\s\u200b])"  # @everyone, <!channel>, <b>, [skip ci]
    r"|(?<=#)(?=\w)"  # an issue, a channel
    r"|(?<=[!&%$])(?=\d)"  # a merge request, a milestone
    r"|(?<=&)(?=#|[A-Za-z]{2,32}\d*;)"  # an entity, which may stand for any of the others
    r"|(?<=\])(?=[(\[:])"  # a link with a text
    r"|(?<=:)(?!\d+:)(?=[\w+-]{1,64}:)"  # an emoji by its name
)
_BEGINS_A_BLOCK: Final = re.compile(r"^([ \t]*)(?=[#>+=-]|\d+[.)](?:\s|$))", re.MULTILINE)
"""A heading, a quotation, a list, a rule."""

_ADDRESS: Final = re.compile(r"(?<=[A-Za-z]):(?=//)")

_EMPHASIS: Final = re.compile(r"[`*~]|_{2,}|(?<![^\W_])_|_(?![^\W_])|\|\||\\(?=[!-/:-@\[-`{-~])")
_ALIKE: Final = str.maketrans("`*~_|\\", "ˋ∗∼ˍ∣∖")


_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Kinds of characters that a terminal or a page acts on, or that have no shape: control characters,
overrides of the reading direction, breaks of lines, and halves of UTF-16 pairs."""
_HARMLESS: Final = frozenset("\n\u200c\u200d")
"""A line feed, and what joins or parts letters and emoji."""


def visible(text: str) -> str:
    r"""The text as it is, with what a terminal or a page would act on as its escape: `\x1b`."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(letter: str) -> str:
    if letter in _HARMLESS or category(letter) not in _STEERING:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


def printable(text: str) -> str:
    """The text without what cannot be sent or shown: control characters, lone surrogates."""
    shown = (letter if letter == "\n" or letter.isprintable() else " " for letter in text)
    return "".join(shown).strip()


def without_references(text: str) -> str:
    """The text with nothing in it that mentions, links or stands for something else."""
    return _REFERENCES.sub(_APART, text)


def without_markup(text: str) -> str:
    """The text without references, and with nothing in it that changes how it looks."""
    text = _EMPHASIS.sub(lambda found: found[0].translate(_ALIKE), text)
    return _BEGINS_A_BLOCK.sub(rf"\1{_APART}", without_references(text))


def without_addresses(text: str) -> str:
    """The text with its web addresses still to be read, and none that is made a link."""
    return _ADDRESS.sub("∶", text)
