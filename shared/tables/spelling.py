"""One spelling of what files spell in several ways: flags, and whole numbers."""

import re
from typing import Final

TRUE: Final = "true"
FALSE: Final = "false"

_WHOLE: Final = re.compile(r"([+-]?[0-9]+)\.0+")
_LONGEST_FLAG: Final = len(FALSE)


def spelt(text: str) -> str:
    """The text of a category as it is compared and kept.

    'True' and 'TRUE' are 'true', as JSON and Parquet's flags are; '3.0' is '3'. All else is as it
    is.
    """
    if len(text) <= _LONGEST_FLAG and (folded := text.lower()) in (TRUE, FALSE):
        return folded
    whole = _WHOLE.fullmatch(text) if text.endswith("0") else None
    return whole[1] if whole else text
