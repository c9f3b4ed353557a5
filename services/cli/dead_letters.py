"""Dead letters: what they say, and how they are sent again or dismissed."""

from collections.abc import Iterator
from typing import Literal

from rich.console import Group, RenderableType
from rich.padding import Padding

from services.cli.asking import Asking
from services.cli.literal import Text
from shared.events import parse_event
from shared.failures import WillNotPass
from shared.records import AuditEntry, DeadLetter
from shared.store import Store
from shared.wording import moment


def open_letters(store: Store) -> list[DeadLetter]:
    """The dead letters that nobody has replayed or dismissed, oldest first."""
    return list(store.find(DeadLetter, {"state": "open"}, oldest_by="recorded_at"))


def find_letter(store: Store, letter: str) -> DeadLetter:
    """The dead letter with an id.

    Raises:
        WillNotPass: there is none.
    """
    found = store.get(DeadLetter, letter)
    if found is None:
        raise WillNotPass(f"no dead letter {letter!r}; `trimtab dead-letters list` shows their ids")
    return found


def replay(asking: Asking, letter: DeadLetter, because: str) -> None:
    """Open the letter's event again and send it to its stage, with all its tries before it.

    Raises:
        WillNotPass: what was received is no event, so there is nothing to send.
    """
    try:
        event = parse_event(letter.message)
    except ValueError as error:
        raise WillNotPass(f"{letter.id} cannot be replayed: {error}") from None
    if letter.state == "replayed":
        raise WillNotPass(f"{letter.id} was replayed before")
    resources = asking.resources
    entry = _asked("replay", letter, asking, because)
    resources.work.reopen(letter.id, letter.stage, event)
    resources.store.mark_letter(letter, "replayed", entry.number)
    resources.broker.send_to(letter.stage, event)


def dismiss(asking: Asking, letter: DeadLetter, because: str) -> None:
    """Leave the letter's event undone for good; the letter is kept.

    Raises:
        WillNotPass: it is not open.
    """
    if letter.state != "open":
        raise WillNotPass(f"{letter.id} was {letter.state} before")
    entry = _asked("dismiss", letter, asking, because)
    if not asking.resources.store.mark_letter(letter, "dismissed", entry.number):
        raise WillNotPass(
            f"{letter.id} is no longer open: somebody else replayed or dismissed it; see "
            "`trimtab audit`"
        )


def _asked(
    action: Literal["replay", "dismiss"], letter: DeadLetter, asking: Asking, because: str
) -> AuditEntry:
    subject = {"letter": letter.id, "recorded_at": letter.recorded_at.isoformat()}
    return asking.ask(action, letter.pipeline, letter.trace_id, subject, because)


def in_words(letters: list[DeadLetter]) -> Group:
    """The letters, each with its id on a line of its own, to be copied whole."""
    if not letters:
        return Group(Text("no dead letters"))
    return Group(*(part for letter in letters for part in _lines(letter)))


def _lines(letter: DeadLetter) -> Iterator[RenderableType]:
    yield Text(letter.id, overflow="fold")
    at = moment(letter.recorded_at, seconds=True)
    facts = f"{at}, pipeline {letter.pipeline}, {letter.kind}, tries: {letter.attempts}"
    for text in (facts, letter.reason):
        yield Padding(Text(text, overflow="fold"), (0, 0, 0, 2))
