"""The two kinds of failure that the stage runtime tells apart."""


class WillPass(Exception):
    """A failure that another try may not meet: a time-out, a 5xx, a lost connection.

    `retry_after` is how many seconds the other side asked to be left alone, if it did.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class WillNotPass(Exception):
    """A failure that every further try would meet; the text says what to do about it."""


class NotYet(Exception):
    """An event that has to wait until another effect is settled; it is no failure."""

    def __init__(self, effect: str) -> None:
        super().__init__(f"waits for {effect}")
        self.effect = effect
