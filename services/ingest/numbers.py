"""Texts read as numbers, and number keys without the loss of a digit."""

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

LONGEST_NUMBER: Final = 400
"""Characters; a longer text is no number."""

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_WHOLE: Final = re.compile(r"[+-]?0*[0-9]{1,38}")
_EXACT_BELOW: Final = 2.0**53
"""Whole numbers from here on are not all different as floats."""
_SURELY_EXACT: Final = 15
"""A number of no more characters is the same number as a float."""
_FINEST: Final = -38
"""The last decimal place of a number key, as a power of ten."""


def finite_numbers(texts: Iterable[str | None]) -> NDArray[np.float64]:
    """Finite decimal numbers; anything else is not a number."""

    def number(text: str | None) -> float:
        if not isinstance(text, str) or len(text) > LONGEST_NUMBER:
            return math.nan
        return float(text) if _NUMBER.fullmatch(text) else math.nan

    numbers = np.array([number(text) for text in texts], dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, math.nan)


def exact_numbers(
    texts: Iterable[str | None], numbers: NDArray[np.float64]
) -> tuple[NDArray[np.object_] | None, NDArray[np.bool_]]:
    """Number keys as exact decimals, and which of them have lost digits before they came here.

    As floats, whole numbers beyond 2**53 become equal that are not. One that is written with a
    decimal point or an exponent was a float before; one with more digits than a float keeps would
    lose them here.

    Args:
        numbers: the texts as floats, of shape (n_texts,).

    Returns:
        The decimals, or None if the floats are exact already; and the lost ones.
    """
    exact = np.full(len(numbers), None, dtype=object)
    lost = np.zeros(len(numbers), bool)
    needs_decimals = False
    for place, text in enumerate(texts):
        number = float(numbers[place])
        if text is None or math.isnan(number):
            continue
        if abs(number) < _EXACT_BELOW:
            exact[place] = Decimal(repr(number) if number % 1 else int(number))
            if len(text) > _SURELY_EXACT or "e" in text.lower():
                decimal = Decimal(text)
                places = decimal.normalize().as_tuple().exponent
                lost[place] = decimal != exact[place] or int(places) < _FINEST
        elif _WHOLE.fullmatch(text):
            exact[place], needs_decimals = Decimal(int(text)), True
        else:
            lost[place] = True
    exact[lost] = None
    return (exact if needs_decimals else None), lost
