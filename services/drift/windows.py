"""The windows due at a batch: sums of stored counts by batch number.

A window of w batches is due when w batches, or a multiple, have come since the reference was
adopted. Which batches it sums depends on their numbers alone, so the order in which they arrive and
what is delivered twice change nothing.
"""

from dataclasses import dataclass

from services.drift.calibration.binning import Counts
from services.drift.counting import count_batch
from services.drift.policies.finding import Window
from services.drift.report.wording import count
from services.drift.stored_profile import StoredProfile
from shared.records import Batch, DriftReport, Reference
from shared.store import Store


@dataclass(frozen=True)
class WindowsDue:
    """The batch itself, then the longer windows, the shorter ones first."""

    windows: list[Window]
    left_out: list[str]
    """Of each window that is due and cannot be summed: why, in a sentence."""


def windows_due(
    sequence: int,
    own: Counts,
    lengths: tuple[int, ...],
    reference: Reference,
    stored: StoredProfile,
    store: Store,
) -> WindowsDue:
    """The windows that end with a batch.

    A batch whose counts are not kept, or are in other bins, is counted again from its rows. A
    window with a batch whose rows are gone as well is left out.

    Args:
        own: the batch's counts.
    """
    position = sequence - reference.up_to_sequence
    due = [w for w in sorted(lengths) if 1 < w <= position and position % w == 0]
    windows = [Window(own, 1, sequence, sequence)]
    if not due:
        return WindowsDue(windows, [])
    first = sequence - due[-1] + 1
    earlier = _Earlier(reference.pipeline, first, sequence - 1, stored, store)
    total = own
    for begin in range(sequence - 1, first - 1, -1):
        counts = earlier.counts(begin)
        if counts is None:
            return WindowsDue(windows, _left_out(due[len(windows) - 1 :], begin))
        total = total + counts
        if sequence - begin + 1 in due:
            windows.append(Window(total, sequence - begin + 1, begin, sequence))
    return WindowsDue(windows, [])


class _Earlier:
    """The counts of batches first ≤ n ≤ last."""

    def __init__(
        self, pipeline: str, first: int, last: int, stored: StoredProfile, store: Store
    ) -> None:
        span = {"$gte": first, "$lte": last}
        query = {"pipeline": pipeline, "sequence": span, "profile": stored.digest}
        self._stored = stored
        self._store = store
        self._kept = {report.sequence: report.counts for report in store.find(DriftReport, query)}
        batches = store.batches_between(pipeline, first - 1, last)
        self._batches: dict[int | None, Batch] = {batch.sequence: batch for batch in batches}

    def counts(self, sequence: int) -> Counts | None:
        if kept := self._kept.get(sequence):
            return self._stored.profile.load_counts(self._store.blob(kept))
        if batch := self._batches.get(sequence):
            return count_batch(batch, self._stored, self._store)
        return None


def _left_out(windows: list[int], gone: int) -> list[str]:
    return [
        f"The last {count(window, 'batch', 'batches')} together are not compared: the store no "
        f"longer holds batch {gone}."
        for window in windows
    ]
