"""False alarms of columns with many, rare or few values: nothing has changed in any of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from scipy.stats import binom

from benchmarks.statistics.recorded import snapshots, whole_stations
from benchmarks.statistics.stacks import checked, encoded, stacked
from services.drift.calibration.profile import Profile

LEVELS: Final = (0.05, 0.01, 0.001)
REFERENCES: Final = (300, 1_000, 10_000)
BATCHES: Final = (10, 100, 1_000, 3_000)
RECORDED_BATCHES: Final = (50, 300, 1_000)
CHECKS: Final = 2_000

EXPONENTS: Final = (1.05, 1.2, 1.5)
NUMBERS_OF_VALUES: Final = (40, 300, 2_000, 20_000)
FLAGS: Final = (1, 3, 10)
SHARES: Final = (0.001, 0.003, 0.01)


def _zipf_shares(exponent: float, values: int) -> np.ndarray:
    shares = np.arange(1, values + 1) ** -exponent
    return shares / shares.sum()


COLUMNS: Final = {
    "5 values": np.array([0.4, 0.3, 0.18, 0.1, 0.02]),
    **{f"Zipf 1.2, {values} values": _zipf_shares(1.2, values) for values in (40, 300)},
}
"""Columns in which changes are looked for -> the shares of their values."""

Draw = Callable[[int, np.random.Generator], pd.DataFrame]
"""Makes a table with a given number of rows."""
Rates = dict[int, list[float]]
"""Rows of a batch -> the share of checks with a p-value of at most each of LEVELS."""


def kinds() -> dict[str, Draw]:
    """What is drawn, by name; but for a constant, beside a normal column."""
    zipf = {
        f"Zipf {exponent}, {values:,} values": partial(_zipf, exponent, values)
        for exponent in EXPONENTS
        for values in NUMBERS_OF_VALUES
    }
    flags = {
        f"{number} 0/1 column{'s' * (number > 1)}, {share:.1%} ones": partial(_flags, number, share)
        for number in FLAGS
        for share in SHARES
    }
    numbers = {
        "whole numbers with ties": partial(_number, lambda rows, random: random.poisson(2, rows)),
        "95 % zeros": partial(_number, _mostly_zeros),
        "prices ending in .99": partial(_number, _prices),
    }
    return zipf | flags | numbers | {"two copies": _copies, "a constant": _constant}


def references_of(kind: str) -> tuple[int, ...]:
    """How many rows the references have."""
    return (1_000,) if kind in ("two copies", "a constant") else REFERENCES


def false_alarms(references: int, seed: int) -> Iterator[tuple[str, int, Rates]]:
    """The rates of each kind and size of reference, in turn; cells are computed on all cores."""
    cells = [(kind, rows) for kind in kinds() for rows in references_of(kind)]
    with ProcessPoolExecutor() as processes:
        run = partial(rates_of, references=references, seed=seed)
        for (kind, rows), found in zip(
            cells, processes.map(run, *zip(*cells, strict=True)), strict=True
        ):
            yield kind, rows, found


def rates_of(kind: str, rows: int, references: int, seed: int) -> Rates:
    """Rates at LEVELS by batch size, over CHECKS checks in all against this many references."""
    draw = kinds()[kind]
    generator = np.random.default_rng([seed, rows, *kind.encode()])
    p: dict[int, list[np.ndarray]] = {size: [] for size in BATCHES}
    for _ in range(references):
        reference = draw(rows, generator)
        profile = Profile.fit(reference, columns=tuple(reference.columns))
        for size in BATCHES:
            p[size].append(_p_values(profile, draw, size, -(-CHECKS // references), generator))
    return {size: rates(np.concatenate(found)) for size, found in p.items()}


def cell(kind: str, rows: int, size: int, references: int, checks: int, seed: int) -> np.ndarray:
    """The p-values of checks against each of some references, of shape (references, checks)."""
    draw = kinds()[kind]
    generator = np.random.default_rng([seed, rows, size, *kind.encode()])
    p = []
    for _ in range(references):
        reference = draw(rows, generator)
        profile = Profile.fit(reference, columns=tuple(reference.columns))
        p.append(_p_values(profile, draw, size, checks, generator))
    return np.array(p)


def power(rows: int, size: int, references: int, seed: int) -> Iterator[tuple[str, list[float]]]:
    """How often a new value, and one that becomes frequent, is found at LEVELS."""
    for name, shares in COLUMNS.items():
        draw = partial(_shares, shares)
        for change, changed in (("new value, 2 %", _with_new), ("2 % to 6 %", _with_grown)):
            generator = np.random.default_rng(seed)
            found = []
            for _ in range(references):
                reference = draw(rows, generator)
                profile = Profile.fit(reference, columns=tuple(reference.columns))
                other = partial(changed, draw)
                found.append(_p_values(profile, other, size, -(-CHECKS // references), generator))
            yield f"{name}: {change}", rates(np.concatenate(found))


def best_of_single_values(size: int) -> Iterator[tuple[str, list[float]]]:
    """How often a value that grows from 2 to 6 % is found at LEVELS by a test of each value.

    The test knows the shares that the values have: an exact binomial test each, two-sided, the
    level divided among the values (Bonferroni). Nothing is drawn.
    """
    for name, shares in COLUMNS.items():
        before = float(shares[np.abs(shares - 0.02).argmin()])
        found = []
        for level in LEVELS:
            counts = np.arange(size + 1)
            significant = binom.sf(counts - 1, size, before) <= level / len(shares) / 2
            least = int(counts[significant].min())
            found.append(float(binom.sf(least - 1, size, before + 0.04)))
        yield f"{name}: 2 % to 6 %", found


def recorded_false_alarms(folder: Path, references: int, seed: int) -> dict[int, list[float]]:
    """Rates at LEVELS where all columns of a recorded answer are compared, whole stations drawn.

    Half of an answer's stations are the reference; batches are whole stations of the other half.
    """
    generator = np.random.default_rng(seed)
    p: dict[int, list[np.ndarray]] = {size: [] for size in RECORDED_BATCHES}
    answers = snapshots(folder)
    for turn in range(references):
        rows = answers[turn % len(answers)]
        places = rows["place"].unique()
        half = set(generator.permutation(places)[: len(places) // 2])
        chosen = rows["place"].isin(half).to_numpy()
        columns = tuple(name for name in rows.columns if name not in ("place", "last_update"))
        profile = Profile.fit(rows[chosen], columns=columns, cluster=("place",))
        others = rows[~chosen].reset_index(drop=True)
        codes = encoded(profile, others)
        for size in RECORDED_BATCHES:
            drawn = whole_stations(others, size, -(-CHECKS // references), generator)
            p[size].append(checked(profile, stacked(profile, codes, drawn), size).p)
    return {size: rates(np.concatenate(found)) for size, found in p.items()}


def rates(p: np.ndarray) -> list[float]:
    """The shares of p-values that are at most each of LEVELS."""
    return [float((p <= level).mean()) for level in LEVELS]


def _p_values(
    profile: Profile, draw: Draw, size: int, checks: int, generator: np.random.Generator
) -> np.ndarray:
    codes = encoded(profile, draw(size * checks, generator))
    batches = np.arange(size * checks).reshape(checks, size)
    return checked(profile, stacked(profile, codes, batches), size).p


def _zipf(exponent: float, values: int, rows: int, random: np.random.Generator) -> pd.DataFrame:
    return _shares(_zipf_shares(exponent, values), rows, random)


def _shares(shares: np.ndarray, rows: int, random: np.random.Generator) -> pd.DataFrame:
    drawn = random.choice(len(shares), rows, p=shares)
    return pd.DataFrame({"c": np.char.add("c", drawn.astype(str)), "x": random.normal(size=rows)})


def _with_new(draw: Draw, rows: int, random: np.random.Generator) -> pd.DataFrame:
    table = draw(rows, random)
    return table.assign(c=np.where(random.random(rows) < 0.02, "new", table["c"]))


def _with_grown(draw: Draw, rows: int, random: np.random.Generator) -> pd.DataFrame:
    """The value whose share is nearest to 2 % grows by 4 % of the rows."""
    table = draw(rows, random)
    known = draw(10_000, np.random.default_rng(0))["c"].value_counts(normalize=True)
    grown = (known - 0.02).abs().idxmin()
    return table.assign(c=np.where(random.random(rows) < 0.04 / 0.98, grown, table["c"]))


def _flags(number: int, share: float, rows: int, random: np.random.Generator) -> pd.DataFrame:
    flags = {f"f{flag}": (random.random(rows) < share).astype(int) for flag in range(number)}
    return pd.DataFrame({**flags, "x": random.normal(size=rows)})


def _number(
    values: Callable[[int, np.random.Generator], np.ndarray],
    rows: int,
    random: np.random.Generator,
) -> pd.DataFrame:
    return pd.DataFrame({"y": values(rows, random), "x": random.normal(size=rows)})


def _mostly_zeros(rows: int, random: np.random.Generator) -> np.ndarray:
    return np.where(random.random(rows) < 0.95, 0, random.exponential(10, rows))


def _prices(rows: int, random: np.random.Generator) -> np.ndarray:
    return np.floor(np.exp(random.normal(3, 1, rows))) + 0.99


def _copies(rows: int, random: np.random.Generator) -> pd.DataFrame:
    values = random.normal(size=rows)
    return pd.DataFrame({"x": values, "copy": values})


def _constant(rows: int, random: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame({"constant": np.full(rows, 7.0), "x": random.normal(size=rows)})
