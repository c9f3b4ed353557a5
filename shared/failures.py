"""The two kinds of failure that the stage runtime tells apart. Their texts have a bound."""

from typing import Final

from pydantic import ValidationError

LONGEST_REASON: Final = 2_000
"""Characters of what a failure says. Dead letters, logs, status and messages repeat it."""
LONGEST_ASKED_PAUSE: Final = 3_600.0
"""Seconds. The other side may ask for more, and is asked again all the same."""


def shortened(reason: str) -> str:
    """The text of a failure, without its middle if it is longer than `LONGEST_REASON`."""
    if len(reason) <= LONGEST_REASON:
        return reason
    half = LONGEST_REASON // 2 - 2
    return f"{reason[:half]} … {reason[-half:]}"


def first_fault(error: ValidationError, whole: str) -> str:
    """Where the first fault of something is and what it is, without what stands there.

    Args:
        whole: what to call a place that has no name, such as "the message".
    """
    fault = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or whole}: {fault['msg']}"


class WillPass(Exception):
    """A failure that another try may not meet: a time-out, a 5xx, a lost connection.

    `retry_after` is how many seconds the other side asked to be left alone, if it did; at most
    `LONGEST_ASKED_PAUSE`.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(shortened(reason))
        self.retry_after = None if retry_after is None else min(retry_after, LONGEST_ASKED_PAUSE)


class WillNotPass(Exception):
    """A failure that every further try would meet; the text says what to do about it."""

    def __init__(self, reason: str) -> None:
        super().__init__(shortened(reason))


class NotYet(Exception):
    """An event that has to wait until another effect is settled; it is no failure."""

    def __init__(self, effect: str) -> None:
        super().__init__(f"waits for {effect}")
        self.effect = effect
