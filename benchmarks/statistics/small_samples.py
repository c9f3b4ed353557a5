"""How far the statistics of few rows exceed χ², before and after they are bounded."""

import numpy as np
from numpy.polynomial import legendre
from scipy import special

from services.drift.calibration.cells import HEAVINESS, PAIR_HEAVINESS, RANKS_CUT, bounded

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)
SIZES = (5, 10, 20, 50, 100)


def excesses(draws: int, seed: int) -> list[dict[str, object]]:
    """By statistic and rows: the true probability of p ≤ level, divided by the level."""
    generator = np.random.default_rng(seed)
    found = []
    for rows in SIZES:
        components, products = np.zeros((4, draws)), np.zeros(draws)
        for _ in range(rows):
            components += _scores(generator.random(draws))
            products += _product(generator, draws)
        components /= np.sqrt(rows)
        for degree, heaviness in HEAVINESS.items():
            statistic = (components[:degree] ** 2).sum(0)
            found.append(_row(f"{degree} components", rows, statistic, heaviness, degree))
        products /= products.std()
        found.append(_row("pair", rows, products**2, PAIR_HEAVINESS, 1))
    return found


def _scores(ranks: np.ndarray) -> np.ndarray:
    """Legendre polynomials of degree 1 to 4, orthonormal on (0, 1)."""
    return np.stack(
        [
            np.sqrt(2 * degree + 1) * legendre.Legendre.basis(degree)(2 * ranks - 1)
            for degree in range(1, 5)
        ]
    )


def _product(generator: np.random.Generator, draws: int) -> np.ndarray:
    scores = np.clip(generator.normal(size=(2, draws)), -RANKS_CUT, RANKS_CUT)
    return scores[0] * scores[1]


def _row(
    name: str, rows: int, statistic: np.ndarray, heaviness: float, degrees: int
) -> dict[str, object]:
    return {
        "statistic": name,
        "rows": rows,
        "χ²": _ratios(statistic, degrees),
        "bounded": _ratios(bounded(statistic, heaviness, np.array(float(rows))), degrees),
    }


def _ratios(statistic: np.ndarray, degrees: int) -> str:
    p = special.chdtrc(degrees, statistic)
    return " ".join(f"{(p <= level).mean() / level:.2f}" for level in LEVELS)
