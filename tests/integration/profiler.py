"""What the store is asked for, as its own profiler tells it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.database import Database

Entries = list[dict[str, Any]]


@contextmanager
def profiled(database: Database[dict[str, Any]]) -> Iterator[Entries]:
    """The profiler's entries of what is asked in the block; they are there at its end."""
    entries: Entries = []
    database["system.profile"].drop()
    database.command("profile", 2)
    yield entries
    database.command("profile", 0)
    entries += database["system.profile"].find({"command.profile": {"$exists": False}})


def looked_at(entries: Entries) -> list[tuple[str, str, int]]:
    """The collection and the filter of each query, and how many documents it looked at."""
    return [
        (entry["ns"].partition(".")[2], str(entry["command"].get("filter")), entry["docsExamined"])
        for entry in entries
        if "docsExamined" in entry
    ]
