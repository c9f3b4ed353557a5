"""One check: how often it alarms when nothing has changed, and when something has."""

from collections import defaultdict
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.statistics.rules import rules
from benchmarks.statistics.stacks import checked, encoded, stacked
from benchmarks.statistics.tables import CATEGORIES, DRIFTS, NUMBERS, table
from services.drift.calibration.profile import Profile

LEVELS: Final = (0.05, 0.01, 0.001)
OTHERS: Final = tuple(rules(table(100, np.random.default_rng(0)), NUMBERS, CATEGORIES, 50))
_OTHERS_BATCHES: Final = 60
_SEGMENTS: Final = (7, 30)

Rates = dict[int, list[float]]


def false_alarms(
    reference_rows: int, sizes: list[int], references: int, batches: int, seed: int
) -> Rates:
    """Rates of alarm at LEVELS, then of the other tools' rules, by batch size."""
    generator = np.random.default_rng(seed)
    rates = defaultdict(list)
    for _ in range(references):
        reference = table(reference_rows, generator)
        profile = Profile.fit(reference)
        for size in sizes:
            number = int(np.clip(300_000 / size, 20, batches))
            rates[size].append(_rates(profile, reference, size, number, "none", generator))
    return {size: np.mean(found, 0).tolist() for size, found in rates.items()}


def power(
    reference_rows: int, sizes: list[int], references: int, batches: int, seed: int
) -> dict[int, dict[str, list[float]]]:
    """By batch size and rule the rates of alarm for each of DRIFTS."""
    generator = np.random.default_rng(seed)
    found = defaultdict(list)
    for _ in range(references):
        reference = table(reference_rows, generator)
        profile = Profile.fit(reference)
        for size in sizes:
            found[size].append(
                [_rates(profile, reference, size, batches, drift, generator) for drift in DRIFTS]
            )
    names = [*(f"calibrated @{level}" for level in LEVELS), *OTHERS]
    return {
        size: dict(zip(names, np.mean(rates, 0).T.tolist(), strict=True))
        for size, rates in found.items()
    }


def segmented_false_alarms(
    reference_rows: int, sizes: list[int], references: int, batches: int, seed: int
) -> dict[tuple[int, int], list[float]]:
    """Rates at LEVELS by number of equally large segments and batch size."""
    generator = np.random.default_rng(seed)
    rates = defaultdict(list)
    for segments in _SEGMENTS:
        for _ in range(references):
            rows = _with_segments(reference_rows, segments, generator)
            profile = Profile.fit(rows, segment="place")
            for size in sizes:
                number = int(np.clip(300_000 / size, 20, batches))
                batch_rows = _with_segments(size * number, segments, generator)
                p = _p_values(profile, batch_rows, size)
                rates[segments, size].append([float((p <= level).mean()) for level in LEVELS])
    return {key: np.mean(found, 0).tolist() for key, found in rates.items()}


def _with_segments(rows: int, segments: int, generator: np.random.Generator) -> pd.DataFrame:
    place = np.char.add("p", generator.integers(0, segments, rows).astype(str))
    return table(rows, generator).assign(place=place)


def _rates(
    profile: Profile,
    reference: pd.DataFrame,
    size: int,
    number: int,
    drift: str,
    generator: np.random.Generator,
) -> list[float]:
    rows = table(size * number, generator, drift)
    p = _p_values(profile, rows, size)
    own = [float((p <= level).mean()) for level in LEVELS]
    others = rules(reference, NUMBERS, CATEGORIES, size)
    batches = [
        rows.iloc[batch * size : (batch + 1) * size]
        for batch in range(min(number, _OTHERS_BATCHES))
    ]
    return own + [float(np.mean([rule(batch) for batch in batches])) for rule in others.values()]


def _p_values(profile: Profile, rows: pd.DataFrame, size: int) -> np.ndarray:
    batches = np.arange(len(rows)).reshape(-1, size)
    return checked(profile, stacked(profile, encoded(profile, rows), batches), size).p
