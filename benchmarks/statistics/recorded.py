"""Recorded air-quality snapshots, from which whole stations are drawn: nothing has changed then."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.statistics.stacks import checked, encoded, stacked
from services.drift.calibration.profile import Profile
from services.drift.tables.frame import Frame
from services.drift.tables.roles import infer_roles

COLUMNS = ("pollutant_min", "pollutant_max", "pollutant_avg", "latitude", "longitude", "state")
LEVELS = (0.05, 0.01, 0.001)


def snapshots(folder: Path) -> list[pd.DataFrame]:
    """The recorded answers, oldest first, with a column that names the station and the snapshot."""
    frames = []
    for path in sorted(folder.glob("*.csv")):
        frame = pd.read_csv(path, na_values=["NA"])
        place = frame["station"].astype(str) + frame["latitude"].astype(str)
        frames.append(frame.assign(place=path.stem + place))
    return frames


def false_alarms(
    folder: Path, sizes: list[int], splits: int, batches: int, seed: int, clustered: bool
) -> dict[int, list[float]]:
    """Rates at LEVELS: half of the stations are the reference, the others make the batches."""
    generator = np.random.default_rng(seed)
    rows = pd.concat(snapshots(folder), ignore_index=True)
    places = rows["place"].unique()
    rates: dict[int, list[list[float]]] = {size: [] for size in sizes}
    for _ in range(splits):
        half = set(generator.permutation(places)[: len(places) // 2])
        chosen = rows["place"].isin(half).to_numpy()
        profile = fitted(rows[chosen], clustered)
        others = rows[~chosen].reset_index(drop=True)
        codes = encoded(profile, others)
        for size in sizes:
            drawn = whole_stations(others, size, batches, generator)
            p = checked(profile, stacked(profile, codes, drawn), size).p
            rates[size].append([float((p <= level).mean()) for level in LEVELS])
    return {size: np.mean(found, 0).tolist() for size, found in rates.items()}


def detections(
    folder: Path, first: int, second: int, size: int, batches: int, seed: int, segmented: bool
) -> float:
    """How often batches of one snapshot differ from another at p ≤ 0.001."""
    generator = np.random.default_rng(seed)
    reference, current = (snapshots(folder)[index] for index in (first, second))
    profile = fitted(reference, True, segmented)
    drawn = whole_stations(current, size, batches, generator)
    p = checked(profile, stacked(profile, encoded(profile, current), drawn), size).p
    return float((p <= 0.001).mean())


def fitted(rows: pd.DataFrame, clustered: bool, segmented: bool = True) -> Profile:
    """The profile of rows of recorded snapshots."""
    roles = infer_roles(
        Frame.of(rows),
        columns=COLUMNS,
        segment="pollutant_id" if segmented else None,
        cluster=("place",) if clustered else (),
    )
    return Profile.fit(rows, roles=roles)


def whole_stations(
    rows: pd.DataFrame, size: int, batches: int, generator: np.random.Generator
) -> np.ndarray:
    """Indices of rows of stations drawn without replacement, of shape (batches, size)."""
    groups = list(rows.groupby("place").indices.values())
    drawn = np.empty((batches, size), np.intp)
    for batch in range(batches):
        order = generator.permutation(len(groups))
        drawn[batch] = np.concatenate([groups[place] for place in order])[:size]
    return drawn
