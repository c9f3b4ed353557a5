"""Files of a watched folder that cannot be read now: when each is tried again."""

from datetime import datetime, timedelta
from typing import Final

from shared.records import Batch, WaitingFile
from shared.store import Store

_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(hours=1)


def waiting_files(pipeline: str, store: Store) -> dict[str, WaitingFile]:
    """The files that waited at the pipeline's newest reading of its folder, by their marks."""
    query = {"pipeline": pipeline, "files_waiting": {"$ne": None}}
    newest = store.newest(Batch, query, "recorded_at")
    return (newest.files_waiting or {}) if newest else {}


def waits_longer(before: WaitingFile | None, reason: str, now: datetime) -> WaitingFile:
    """A file after one more try in vain: each pause is twice the one before, up to an hour."""
    tries = before.tries + 1 if before else 1
    pause = min(_FIRST_PAUSE * 2 ** min(tries - 1, 10), _LONGEST_PAUSE)
    since = before.since if before else now
    return WaitingFile(reason=reason, since=since, tries=tries, next_try_at=now + pause)
