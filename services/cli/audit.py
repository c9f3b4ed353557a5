"""`trimtab audit`: what operators asked for, and whether all of it is there."""

from dataclasses import dataclass
from typing import Any, Final

from services.cli.listing import Listing, right
from services.cli.literal import Text
from shared.audit import digest, faults, head, is_listed
from shared.operators import Operators
from shared.records import AuditEntry, AuditHead
from shared.stage import Resources
from shared.wording import moment

_DIGITS: Final = 12
"""Of a hash, as a person compares it."""
_NOT_TOLD: Final = frozenset({"event", "batch", "data", "recorded_at"})
"""What makes a subject unique, and tells a person nothing; `--json` has it."""


@dataclass(frozen=True)
class Log:
    """The newest entries of the audit log, oldest first, and what is wrong with it."""

    entries: list[AuditEntry]
    head: AuditHead
    wrong: list[str]
    operators: Operators

    def as_json(self) -> dict[str, Any]:
        """Each entry with its hash, the newest one's, and what is wrong."""
        return {
            "entries": [
                entry.model_dump(mode="json")
                | {"sha256": digest(entry), "key_listed": is_listed(entry, self.operators)}
                for entry in self.entries
            ],
            "head": self.head.model_dump(mode="json"),
            "problems": self.wrong,
        }

    def in_words(self) -> list[str]:
        """Whether the log is whole."""
        if self.wrong:
            return self.wrong
        if not self.head.number:
            return ["no entries: nobody has asked for anything"]
        return [
            f"{self.head.number:,} entries, each signed and chained to the one before; the newest "
            f"has the SHA-256 {self.head.digest}"
        ]

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
        listed = "" if is_listed(entry, self.operators) else "; OPERATORS does not list it any more"
        return [
            *([f"because: {entry.because}"] if entry.because else []),
            about,
            f"key {entry.key}{listed}; SHA-256 {digest(entry)[:_DIGITS]}",
        ]


def read_log(resources: Resources, limit: int) -> Log:
    """The log with its newest entries. All of it is looked through for what is wrong."""
    store, settings = resources.store, resources.settings
    wrong = list(faults(store, settings))
    newest = [] if wrong else list(store.find(AuditEntry, {}, newest_by="number", limit=limit))
    return Log(newest[::-1], head(store), wrong, Operators(settings.operators or ""))
