"""What went wrong, told without any value that a record, an address or a query may hold."""

import traceback
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError
from redis.exceptions import NoPermissionError

log = structlog.get_logger(__name__)

NOT_AS_WRITTEN: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What a record leads to that is not as this version writes it."""


def reason_of(error: Exception) -> str:
    """The kind of an error, and where it came from; of a refusal, who may not do what."""
    if isinstance(error, NoPermissionError | Refused):
        return str(error)
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_context=False, include_url=False)
        places = (".".join(map(str, fault["loc"])) for fault in faults[:5])
        return "; ".join(f"{error.title}.{place}" for place in places) + " cannot be read"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"


class Refused(Exception):
    """The store refuses what the exporter needs; the text says what."""


class FailureLog:
    """Tells when the figures of something fail, fail otherwise, and are there again."""

    def __init__(self, **of: str) -> None:
        self._of = of
        self._failure: str | None = None

    def note(self, failure: str | None) -> None:
        """Log what was not so the last time; None: they are there."""
        if failure == self._failure:
            return
        self._failure = failure
        if failure:
            log.warning("no figures", **self._of, reason=failure)
        else:
            log.info("figures again", **self._of)
