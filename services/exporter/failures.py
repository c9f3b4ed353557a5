"""What went wrong, told without any value that a record, an address or a query may hold."""

import traceback
from pathlib import Path
from typing import Final

from pydantic import ValidationError

NOT_AS_WRITTEN: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What a record leads to that is not as this version writes it."""


def reason_of(error: Exception) -> str:
    """The kind of an error, and where it came from."""
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_context=False, include_url=False)
        places = (".".join(map(str, fault["loc"])) for fault in faults[:5])
        return "; ".join(f"{error.title}.{place}" for place in places) + " cannot be read"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
