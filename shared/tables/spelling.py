"""One spelling of what files spell in several ways: flags, whole numbers, and names."""

import re
import unicodedata
from typing import Final

TRUE: Final = "true"
FALSE: Final = "false"

FLAG_WORDS: Final = (
    (TRUE, FALSE),
    ("yes", "no"),
    ("y", "n"),
    ("t", "f"),
    ("on", "off"),
    ("1", "0"),
)
"""Words for true and for false, in small letters."""

_WHOLE: Final = re.compile(r"([+-]?[0-9]+)\.0+")
_LONGEST_FLAG: Final = len(FALSE)
_TRUTHS: Final = {
    word: truth for pair in FLAG_WORDS for word, truth in zip(pair, (True, False), strict=True)
}


def spelt(text: str) -> str:
    """The text of a category as it is compared and kept.

    'True' and 'TRUE' are 'true', as JSON and Parquet's flags are; '3.0' is '3'. All else is as it
    is.
    """
    if len(text) <= _LONGEST_FLAG and (folded := text.lower()) in (TRUE, FALSE):
        return folded
    whole = _WHOLE.fullmatch(text) if text.endswith("0") else None
    return whole[1] if whole else text


def truth(text: str) -> bool | None:
    """The flag that a text spells, in small or capital letters; None if it spells none."""
    return _TRUTHS.get(text.lower()) if len(text) <= _LONGEST_FLAG else None


def alike(text: str) -> str:
    """A form that texts have in common if they differ only in case, in spaces, in the Unicode form
    of their characters, or in characters that do not print."""
    if text.isascii() and text.isalnum():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_printing(unicodedata.normalize("NFKC", folded)).split())


def difference(one: str, other: str) -> str:
    """In what two texts that are `alike` differ, in a word or two."""
    if one.lower() == other.lower():
        return "case"
    if "".join(one.split()) == "".join(other.split()):
        return "spaces"
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "the Unicode form of a character"
    if _printing(one) == _printing(other):
        return "a character that does not print"
    return "spelling"


def _printing(text: str) -> str:
    """The text without control characters, marks of byte order and the like; with its spaces."""
    return "".join(
        character
        for character in text
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
