"""Dead letters: what they say, and how they are sent again or dismissed."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding

from services.cli.literal import Text
from shared.events import parse_event
from shared.failures import WillNotPass
from shared.records import DeadLetter
from shared.stage import Resources
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


def replay(resources: Resources, letter: DeadLetter) -> None:
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
    resources.work.reopen(letter.id, letter.stage, event)
    resources.store.collection(DeadLetter).update_one(
        {"_id": letter.id}, {"$set": {"state": "replayed"}}
    )
    resources.broker.send_to(letter.stage, event)


def dismiss(store: Store, letter: DeadLetter) -> None:
    """Leave the letter's event undone for good; the letter is kept.

    Raises:
        WillNotPass: it is not open.
    """
    changed = store.collection(DeadLetter).update_one(
        {"_id": letter.id, "state": "open"}, {"$set": {"state": "dismissed"}}
    )
    if not changed.matched_count:
        raise WillNotPass(f"{letter.id} was {letter.state} before")


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
