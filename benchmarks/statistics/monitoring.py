"""A thousand checks against one reference, with all windows and the effect floor."""

import numpy as np

from benchmarks.statistics.stacks import checked, encoded, stacked, summed
from benchmarks.statistics.tables import table
from services.drift.calibration.cells import CellCounts
from services.drift.calibration.profile import Profile
from services.drift.policies.calibrated import floors, telling, threshold_of
from shared.drift import Drift

CHECKS = 1000
SETTINGS = Drift(trigger="data")


def alarms(
    reference_rows: int, size: int, references: int, seed: int, checks: int = CHECKS
) -> list[list[int]]:
    """The alarms in so many checks where nothing changes: a list by window for each reference."""
    generator = np.random.default_rng(seed)
    return [_alarms(reference_rows, size, checks, generator) for _ in range(references)]


def _alarms(
    reference_rows: int, size: int, checks: int, generator: np.random.Generator
) -> list[int]:
    profile = Profile.fit(table(reference_rows, generator))
    stack = _stream(profile, size, checks, generator)
    return [int(alarmed(profile, stack, size, window).sum()) for window in SETTINGS.windows]


def alarmed(profile: Profile, stack: CellCounts, size: int, window: int) -> np.ndarray:
    """For each sum of so many batches whether the calibrated policy alarms."""
    rows = size * window
    found = checked(profile, summed(stack, window), rows)
    threshold = threshold_of(window, SETTINGS)
    least = floors(profile, SETTINGS.min_effect)
    return np.array(
        [
            (telling(profile, p, cells, rows, threshold) & (effects >= least)).any()
            for p, cells, effects in zip(found.p, found.cells, found.effects, strict=True)
        ]
    )


def _stream(profile: Profile, size: int, checks: int, generator: np.random.Generator) -> CellCounts:
    chunk = max(1, min(checks, 200_000 // size))
    parts = []
    for start in range(0, checks, chunk):
        number = min(chunk, checks - start)
        codes = encoded(profile, table(size * number, generator))
        parts.append(stacked(profile, codes, np.arange(size * number).reshape(number, size)))
    return CellCounts(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("flat", "pair_sums", "pair_rows")
        )
    )
