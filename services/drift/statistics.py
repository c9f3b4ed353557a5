"""How one feature of a batch compares with the same feature of the reference.

Everything here is defined for every input: a ratio whose denominator is zero is 0 where nothing
changed and 1 (a change of 100 %) where something did, and no result is ever NaN or infinite.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from shared.records import FeatureStats

Values = NDArray[np.float64]

LARGEST_CHANGE: Final = 1e9
"""Relative changes are cut off here, so that a denominator near zero cannot outweigh everything."""

_LARGEST_FLOAT: Final = float(np.finfo(np.float64).max)


def relative_change(reference: float, current: float, *, unit: float) -> float:
    """|current - reference| / |unit|; 0 or 1 where the unit is zero."""
    difference = abs(current - reference)
    if unit == 0:
        return 0.0 if difference == 0 else 1.0
    return float(min(difference / abs(unit), LARGEST_CHANGE))


def compare_feature(reference: Values, current: Values) -> FeatureStats:
    """Mean, standard deviation (n - 1) and Wasserstein distance of one feature.

    Args:
        reference: the reference's values, of shape (n_reference,); non-finite means missing.
        current: the batch's values, of shape (n_batch,).

    Returns:
        The figures in the feature's own unit, the changes relative to the reference, and the
        Wasserstein distance in reference standard deviations. Where a side has no value at all the
        changes are None and `note` says so.
    """
    ref, curr = reference[np.isfinite(reference)], current[np.isfinite(current)]
    scale = _scale(ref, curr)
    # Sorted, so that rounding does not depend on the order of the rows.
    ref, curr = np.sort(ref / scale), np.sort(curr / scale)
    ref_mean, ref_std = _moments(ref)
    curr_mean, curr_std = _moments(curr)
    figures = {
        "ref_mean": _unscaled(ref_mean, scale),
        "curr_mean": _unscaled(curr_mean, scale),
        "ref_std": _unscaled(ref_std, scale),
        "curr_std": _unscaled(curr_std, scale),
        "ref_rows": ref.size,
        "curr_rows": curr.size,
    }
    if ref_mean is None or ref_std is None or curr_mean is None or curr_std is None:
        return FeatureStats(**figures, note=_absence(ref.size, curr.size))
    return FeatureStats(
        **figures,
        mean_change=relative_change(ref_mean, curr_mean, unit=ref_mean),
        std_change=relative_change(ref_std, curr_std, unit=ref_std),
        wasserstein=relative_change(0.0, wasserstein_distance(ref, curr), unit=ref_std),
        note=_zero_denominators(ref_mean, ref_std),
    )


def _scale(*samples: Values) -> float:
    """A power of two that brings the largest value near 1, so that squares cannot overflow."""
    largest = max((float(np.abs(sample).max()) for sample in samples if sample.size), default=1.0)
    return float(2.0 ** np.clip(np.ceil(np.log2(largest)), -1000, 1000)) if largest > 0 else 1.0


def _moments(values: Values) -> tuple[float | None, float | None]:
    if not values.size:
        return None, None
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0


def _unscaled(figure: float | None, scale: float) -> float | None:
    """A figure in the feature's own unit; one too large for a float is the largest float."""
    if figure is None:
        return None
    return float(np.clip(figure * np.longdouble(scale), -_LARGEST_FLOAT, _LARGEST_FLOAT))


def _absence(ref_rows: int, curr_rows: int) -> str:
    if not ref_rows and not curr_rows:
        return "no value in the reference, none in the batch"
    return "no value in the reference" if not ref_rows else "no value in the batch"


def _zero_denominators(ref_mean: float, ref_std: float) -> str | None:
    zeros = [name for name, value in (("mean", ref_mean), ("std", ref_std)) if value == 0]
    return f"reference {' and '.join(zeros)} zero: any change counts as 1" if zeros else None
