"""`trimtab audit`: what operators asked for, and whether all of it is there."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from services.cli.listing import Listing, right
from services.cli.literal import Text
from shared.audit import digest, faults, head_at
from shared.authentication import Unauthentic
from shared.records import AuditEntry, AuditHead
from shared.settings import Settings
from shared.stage import Resources
from shared.wording import moment

_DIGITS: Final = 12
"""Of a hash, as a person compares it."""
_NOT_TOLD: Final = frozenset({"event", "batch", "data", "labels", "recorded_at"})
"""What makes a subject unique, and tells a person nothing; `--json` has it."""


@dataclass(frozen=True)
class Log:
    """The newest entries of the audit log, oldest first, and what is wrong with it."""

    entries: list[AuditEntry]
    head: AuditHead
    wrong: list[str]
    unchecked: list[str]
    """What could not be checked without a setting."""

    def as_json(self) -> dict[str, Any]:
        """Each entry with its hash, the newest one's, and what is wrong."""
        return {
            "entries": [
                entry.model_dump(mode="json") | {"sha256": digest(entry)} for entry in self.entries
            ],
            "head": self.head.model_dump(mode="json"),
            "problems": self.wrong,
            "unchecked": self.unchecked,
        }

    def in_words(self) -> list[str]:
        """Whether the log is whole."""
        if self.wrong:
            return [*self.wrong, *self.unchecked]
        if not self.head.number:
            return ["The audit log has no entries."]
        whole = (
            f"{self.head.number:,} entries, each signed and chained to the one before; the newest "
            f"has the SHA-256 {self.head.digest}"
        )
        return self.unchecked or [whole]

    def table(self) -> Listing:
        """Who asked for what and when, and why."""
        listing = Listing(right("entry"), "when", "who", "what", title="Requests of operators")
        for entry in self.entries:
            listing.add_row(
                str(entry.number),
                moment(entry.recorded_at),
                entry.operator,
                f"{entry.action}, {entry.pipeline}",
                notes=tuple(Text(note, "dim") for note in self._notes(entry)),
            )
        return listing

    def _notes(self, entry: AuditEntry) -> list[str]:
        told = {name: value for name, value in entry.subject.items() if name not in _NOT_TOLD}
        about = ", ".join(f"{name} {value}" for name, value in told.items())
        return [
            *([f"because: {entry.because}"] if entry.because else []),
            about,
            f"key {entry.key}; SHA-256 {digest(entry)[:_DIGITS]}",
        ]


def read_log(resources: Resources, limit: int) -> Log:
    """The newest entries, and what is wrong with the log, all of which is looked through."""
    store = resources.store
    wrong = list(faults(store, resources.settings))
    newest: list[AuditEntry] = []
    with suppress(Unauthentic, ValidationError):  # which is told as what is wrong
        newest.extend(store.find(AuditEntry, {}, newest_by="number", limit=limit))
    last = head_at(newest[0] if newest else None)
    return Log(newest[::-1], last, wrong, list(_unchecked(resources.settings)))


def _unchecked(settings: Settings) -> Iterator[str]:
    """What could not be checked without a setting."""
    if not settings.event_key:
        yield "EVENT_KEY is not set, so no MAC was checked"
    if not settings.operators:
        yield "OPERATORS is not set, so no signature was checked"
