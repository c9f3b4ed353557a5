"""Signs of life: in the broker for `trimtab status`, in a file for the health check of a container.

Both are given after progress, by the loop that makes it. A process that exists and does nothing
gives none.
"""

from pathlib import Path

from shared.broker import Broker


def note_progress(broker: Broker, part: str, file: Path | None) -> None:
    """Say that a part of the system has made progress; the file, if one is set, is touched.

    Raises:
        RedisError: the broker does not answer. Then the file is left as it was.
    """
    broker.note_alive(part)
    if file:
        file.touch()
