"""Which window a model learns from, chosen by validation in the order of time.

Rows of one time have one weather, one price level, one state of the plant: what was learnt at some
times and holds at the next is shown by times, and not by rows, however many. So each fold predicts
one later block of time from the blocks before it, folds are what counts, and with few of them
nothing can be shown. Then the plain choice stands: all rows, and no parts of the event time. A part
of the time has one value a block; learnt from a handful of blocks it is a name for the block, and
predicts a new one from whichever has the nearest name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from services.trainer.evaluation import relative
from shared.scoring import Floats
from shared.training import Window

FEWEST_FOLDS: Final = 5
MOST_FOLDS: Final = 8
MOST_ROWS: Final = 2_000
"""Validated on so many rows at most, drawn from all."""
TRIED_FOLDS: Final = 3
"""A choice that is no better than the other on so many of the newest folds is given up."""
CONVINCING: Final = 0.01
"""The p-value from which a choice is better than the plain one."""


@dataclass(frozen=True)
class Choice:
    """A window, and whether the parts of the event time are features."""

    window: Window
    time_parts: bool

    def __str__(self) -> str:
        return f"{self.window}, {'with' if self.time_parts else 'without'} parts of the time"


@dataclass(frozen=True)
class Candidate:
    """A choice with the errors of models trained so, one a fold, the newest first."""

    choice: Choice
    errors: Floats
    p: float | None
    """That it is no better than the plain choice, or as a window than all rows with the same
    features: a paired t-test over folds; None for the plain choice."""

    @property
    def error(self) -> float:
        """The mean over the folds."""
        return float(self.errors.mean())


@dataclass(frozen=True)
class Selection:
    """The choice, and what it was chosen from: nothing where there were too few folds."""

    choice: Choice
    candidates: tuple[Candidate, ...] = ()


Validate = Callable[[Choice, NDArray[np.intp], NDArray[np.intp]], float]
"""The error, on the rows at the second positions, of a model trained on those at the first."""


def weights_of(window: Window, batch: NDArray[np.int64], times: pd.Series | None) -> Floats:
    """How much each row counts, of shape (n_rows,); 0: it is not in the window.

    Args:
        batch: the number of each row's batch.
        times: the event time of each row; None where rows have none. A row without one is as old
            as the oldest.
    """
    if window.batches is not None:
        newest = np.unique(batch)[-window.batches :]
        return np.isin(batch, newest).astype(np.float64)
    if window.span is None or times is None:
        return np.ones(len(batch))
    age = _age(times) / window.span.total_seconds()
    if window.policy == "last":
        return (age <= 1).astype(np.float64)
    return np.asarray(0.5**age)


def _age(times: pd.Series) -> Floats:
    """Seconds before the newest time."""
    age = (times.max() - times).dt.total_seconds()
    return np.asarray(age.fillna(age.max()).fillna(0), dtype=np.float64)


def select(
    batch: NDArray[np.int64],
    times: pd.Series | None,
    *,
    has_time_parts: bool,
    takes_weights: bool,
    validate: Validate,
    teaches: Callable[[NDArray[np.intp]], bool] = lambda _: True,
) -> Selection:
    """The plain choice, unless another is shown to be better on later times than those learnt from.

    First the parts of the time are decided on, with all rows; then the window.

    Args:
        batch, times: of the training rows, in the order of time.
        has_time_parts: the pipeline offers parts of the event time as features.
        takes_weights: the estimator lets rows count less than others.
        teaches: whether anything can be learnt from the rows at some positions; a fold of which
            the earlier rows teach nothing is left out.
    """
    plain = Choice(Window(policy="all"), time_parts=False)
    thinned = _thinned(len(batch))
    blocks = time_blocks(batch, times)[thinned]
    folds = [fold for fold in _folds(blocks, thinned) if teaches(fold[0])][::-1]
    if len(folds) < FEWEST_FOLDS:
        return Selection(plain)
    plain_errors = np.array([validate(plain, *fold) for fold in folds])
    candidates = [Candidate(plain, plain_errors, None)]
    if has_time_parts:
        with_parts = Choice(plain.window, time_parts=True)
        candidates.append(_validated(with_parts, folds, validate, plain_errors))
    best = _best(candidates)
    for window in _windows(batch, times if takes_weights else None):
        other = Choice(window, best.choice.time_parts)
        candidates.append(_validated(other, folds, validate, best.errors))
    return Selection(_best(candidates).choice, tuple(candidates))


def _validated(
    choice: Choice,
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    validate: Validate,
    against: Floats,
) -> Candidate:
    errors = np.array([validate(choice, *fold) for fold in folds[:TRIED_FOLDS]])
    if relative(errors, against[:TRIED_FOLDS]).mean() >= 0:
        return Candidate(choice, errors, 1.0)
    rest = [validate(choice, *fold) for fold in folds[TRIED_FOLDS:]]
    errors = np.append(errors, rest)
    return Candidate(choice, errors, _p(errors, against))


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the lowest error among the plain choice and those shown to be better."""
    convincing = [each for each in candidates if each.p is None or each.p <= CONVINCING]
    return min(convincing, key=lambda each: each.error)


def _thinned(rows: int) -> NDArray[np.intp]:
    """Positions of `MOST_ROWS` rows at most. Every n-th row would follow a period of the rows."""
    if rows <= MOST_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(rows).choice(rows, MOST_ROWS, replace=False))


def _p(errors: Floats, against: Floats) -> float:
    """One-sided, of the relative differences, so that a fold with large errors counts like another.

    Equal differences in all folds leave the t-test without a scale; nothing is shown by zero ones.
    """
    differences = relative(errors, against)
    if np.ptp(differences) == 0:
        return 0.0 if differences[0] < 0 else 1.0
    return float(ttest_1samp(differences, 0, alternative="less").pvalue)


def time_blocks(batch: NDArray[np.int64], times: pd.Series | None) -> NDArray[np.intp]:
    """For each row the number of its block of time, ascending.

    A block is a batch; where there are too few batches, about equally many rows of a span of
    time, with all rows of one time in one block.
    """
    blocks = np.unique(batch, return_inverse=True)[1]
    if blocks.max(initial=0) >= FEWEST_FOLDS or times is None:
        return np.asarray(blocks, dtype=np.intp)
    older = times.rank(method="min", na_option="top").to_numpy() - 1
    return np.asarray(older * (MOST_FOLDS + 1) // len(batch), dtype=np.intp)


def _folds(
    blocks: NDArray[np.intp], positions: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The newest blocks, each with all positions before it."""
    for block in np.unique(blocks)[1:][-MOST_FOLDS:]:
        yield positions[blocks < block], positions[blocks == block]


def _windows(batch: NDArray[np.int64], times: pd.Series | None) -> Iterator[Window]:
    """Windows other than all rows. Lengths are shares of what is there, whatever its unit is."""
    batches = len(np.unique(batch))
    for number in (batches // 2, batches // 4):
        if number:
            yield Window(policy="last", batches=number)
    hours = 0 if times is None else round(_age(times).max() / 3600)
    for number in (hours // 2, hours // 8):
        if number:
            yield Window(policy="half_life", span=timedelta(hours=number))
