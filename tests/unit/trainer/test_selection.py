"""Which window is chosen, on simulated rows whose best window is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from services.trainer.selection import (
    CONVINCING,
    FEWEST_FOLDS,
    MOST_FOLDS,
    MOST_ROWS,
    Choice,
    Selection,
    select,
    time_blocks,
    weights_of,
)
from shared.scoring import Floats
from shared.training import Window

ALL = Window(policy="all")
PLAIN = Choice(ALL, time_parts=False)
HOUR_SECONDS = 3600


def at_hours(*hours: float | None) -> pd.Series:
    return pd.Series(pd.Timestamp(0, tz="UTC") + pd.to_timedelta(np.array(hours, float), unit="h"))


# What a window makes of rows.


def test_all_rows_count_the_same() -> None:
    assert weights_of(ALL, np.array([1, 2, 2]), at_hours(1, 5, 9)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("batches", "weights"), [(1, [0, 0, 0, 1]), (2, [0, 1, 1, 1]), (9, [1] * 4)]
)
def test_the_last_batches_are_those_with_the_highest_numbers(
    batches: int, weights: list[float]
) -> None:
    window = Window(policy="last", batches=batches)
    assert weights_of(window, np.array([1, 4, 4, 7]), None).tolist() == weights


def test_the_last_span_reaches_back_from_the_newest_row() -> None:
    window = Window(policy="last", span=timedelta(hours=4))
    times = at_hours(3, 4.99, 5, 9)
    assert weights_of(window, np.ones(4, np.int64), times).tolist() == [0, 0, 1, 1]


@given(st.lists(st.integers(0, 5000), min_size=1), st.integers(1, 500))
def test_a_row_a_half_life_older_counts_half(hours: list[int], half_life: int) -> None:
    window = Window(policy="half_life", span=timedelta(hours=half_life))
    times = at_hours(*hours, *(hour + half_life for hour in hours))
    weights = weights_of(window, np.ones(len(times), np.int64), times)
    older, newer = np.split(weights, 2)
    assert older == pytest.approx(newer / 2)
    assert weights.max() == 1


@pytest.mark.parametrize(
    ("window", "weights"),
    [
        (Window(policy="last", span=timedelta(hours=4)), [0, 0, 1]),
        (Window(policy="half_life", span=timedelta(hours=4)), [0.25, 0.25, 1]),
    ],
)
def test_a_row_without_a_time_is_as_old_as_the_oldest(window: Window, weights: list[float]) -> None:
    found = weights_of(window, np.ones(3, np.int64), at_hours(None, 1, 9))
    assert found.tolist() == pytest.approx(weights)


@pytest.mark.parametrize("policy", ["last", "half_life"])
def test_rows_none_of_which_has_a_time_are_of_one_age(policy: str) -> None:
    window = Window.model_validate({policy: "4h"})
    assert weights_of(window, np.ones(2, np.int64), at_hours(None, None)).tolist() == [1, 1]


# Blocks of time.

NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=200).map(sorted)


@given(NUMBERS)
def test_a_block_holds_all_rows_of_a_time_and_no_later_block_an_earlier_one(
    hours: list[int],
) -> None:
    blocks = time_blocks(np.ones(len(hours), np.int64), at_hours(*hours))
    assert blocks.min() >= 0
    assert blocks.max() <= MOST_FOLDS
    assert (np.diff(blocks) >= 0).all()
    assert pd.Series(blocks).groupby(hours).nunique().eq(1).all()


def test_with_enough_batches_a_block_is_a_batch() -> None:
    batch = np.repeat([0, 3, 4, 7, 8, 9], 2)
    assert time_blocks(batch, at_hours(*range(12))).tolist() == np.repeat(range(6), 2).tolist()


def test_rows_without_a_time_are_in_the_oldest_block() -> None:
    blocks = time_blocks(np.ones(20, np.int64), at_hours(None, None, *range(18)))
    assert blocks[:2].tolist() == [0, 0]
    assert blocks[-1] > blocks[0]


# The choice.


@dataclass
class World:
    """Rows of blocks of time, and a model that is quick to fit: least squares.

    The target is a slope times x, a level, and noise; slope and level may differ by block. A part
    of the time is a feature with one value a block.
    """

    blocks: int = 24
    rows: int = 40
    slope: Callable[[int], float] = lambda _: 1.0
    level: Callable[[int], float] = lambda _: 0.0
    part: Callable[[int], float] = lambda block: float(block % 2)
    noise: float = 1.0
    seed: int = 0
    asked: list[tuple[Choice, NDArray[np.intp], NDArray[np.intp]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.block = np.repeat(np.arange(self.blocks), self.rows)
        self.times = at_hours(*self.block)
        self.x = rng.normal(size=len(self.block))
        self.y = (
            np.array([self.slope(int(number)) for number in self.block]) * self.x
            + np.array([self.level(int(number)) for number in self.block])
            + rng.normal(0, self.noise, len(self.block))
        )
        self.parts = np.array([self.part(int(number)) for number in self.block])

    def select(
        self, *, has_time_parts: bool = True, takes_weights: bool = True, timed: bool = True
    ) -> Selection:
        return select(
            self.block + 1,
            self.times if timed else None,
            has_time_parts=has_time_parts,
            takes_weights=takes_weights,
            validate=self.validate,
        )

    def validate(self, choice: Choice, earlier: NDArray[np.intp], later: NDArray[np.intp]) -> float:
        self.asked.append((choice, earlier, later))
        weights = weights_of(choice.window, self.block[earlier], self.times.iloc[earlier])
        root = np.sqrt(weights)
        inputs = self._inputs(choice)
        found = np.linalg.lstsq(inputs[earlier] * root[:, None], self.y[earlier] * root)[0]
        return float(np.abs(inputs[later] @ found - self.y[later]).mean())

    def _inputs(self, choice: Choice) -> Floats:
        columns = [np.ones(len(self.x)), self.x, *([self.parts] if choice.time_parts else [])]
        return np.stack(columns, axis=1)


def test_with_few_blocks_nothing_can_be_shown_and_the_plain_choice_stands() -> None:
    world = World(blocks=FEWEST_FOLDS, level=lambda block: 100.0 * (block % 2))
    batch = world.block + 1
    one_time = at_hours(*np.zeros(len(batch)))
    for times in (None, one_time):
        found = select(
            batch, times, has_time_parts=True, takes_weights=True, validate=world.validate
        )
        assert found == Selection(PLAIN)
    assert not world.asked


def test_a_single_time_stands_for_no_other() -> None:
    world = World(blocks=1, rows=1000)
    assert world.select() == Selection(PLAIN)


def test_what_does_not_change_is_learnt_from_all_rows() -> None:
    """Of 60 worlds without any change, few have another choice."""
    chosen = [World(seed=seed, rows=20).select().choice for seed in range(60)]
    assert sum(choice != PLAIN for choice in chosen) <= 6


def test_a_new_slope_is_learnt_from_the_newest_rows() -> None:
    world = World(slope=lambda block: 5.0 if block >= 14 else -5.0)
    found = world.select().choice
    assert found.window.policy in ("last", "half_life")
    assert not found.time_parts


def test_a_change_that_goes_on_and_on_takes_a_short_window() -> None:
    chosen = World(slope=lambda block: block / 2.0).select().choice.window
    shortest = (
        Window(policy="last", batches=6),
        Window(policy="half_life", span=timedelta(hours=2)),
    )
    assert chosen in (*shortest, Window(policy="half_life", span=timedelta(hours=3)))


def test_an_effect_of_the_hour_is_learnt_with_parts_of_the_time() -> None:
    world = World(level=lambda block: 6.0 * (block % 2))
    found = world.select()
    assert found.choice == Choice(ALL, time_parts=True)
    assert not world.select(has_time_parts=False).choice.time_parts


def test_a_part_of_the_time_that_helps_is_no_reason_for_a_window() -> None:
    """A window has to be shown to be better than all rows with the same features."""
    worlds = [
        World(seed=seed, rows=20, level=lambda block: 6.0 * (block % 2)) for seed in range(40)
    ]
    chosen = [world.select().choice for world in worlds]
    assert all(choice.time_parts for choice in chosen)
    assert sum(choice.window != ALL for choice in chosen) <= 4


def test_a_part_that_names_its_block_is_left_out() -> None:
    """A part that grows with time predicts nothing of the next block, whatever it fits so far."""
    rng = np.random.default_rng(1)
    levels = rng.normal(0, 3, 24)
    world = World(level=lambda block: levels[block], part=lambda block: float(block) ** 2)
    assert not world.select().choice.time_parts


def test_estimators_without_weights_are_offered_no_half_life() -> None:
    world = World(slope=lambda block: block / 2.0)
    found = world.select(takes_weights=False)
    policies = {candidate.choice.window.policy for candidate in found.candidates}
    assert policies == {"all", "last"}
    assert found.choice.window.policy == "last"


def test_rows_without_times_are_validated_by_batch() -> None:
    found = World(slope=lambda block: block / 2.0).select(timed=False)
    policies = {candidate.choice.window.policy for candidate in found.candidates}
    assert policies == {"all", "last"}
    assert found.choice.window.policy == "last"


@settings(deadline=None)
@given(st.integers(6, 30), st.integers(0, 1000))
def test_nothing_is_predicted_from_later_blocks(blocks: int, seed: int) -> None:
    world = World(blocks=blocks, rows=3, seed=seed)
    world.select()
    assert world.asked
    for _, earlier, later in world.asked:
        assert len(np.unique(world.block[later])) == 1
        assert world.block[earlier].max() < world.block[later].min()
        assert world.times.iloc[earlier].max() < world.times.iloc[later].min()
    predicted = {world.block[later][0] for _, _, later in world.asked}
    assert predicted == set(range(max(1, blocks - MOST_FOLDS), blocks))


def test_all_choices_are_validated_on_the_same_rows() -> None:
    world = World(slope=lambda block: block / 2.0)
    world.select()
    by_choice: dict[Choice, list[bytes]] = {}
    for choice, earlier, later in world.asked:
        by_choice.setdefault(choice, []).append(earlier.tobytes() + later.tobytes())
    plain = by_choice[PLAIN]
    assert len(plain) == MOST_FOLDS
    for folds in by_choice.values():
        assert folds == plain[: len(folds)]


def test_many_rows_are_thinned_without_following_their_period() -> None:
    """Six rows a station in their order: each kind keeps about its share."""
    rows = 6 * MOST_ROWS // 10
    world = World(blocks=10, rows=rows)
    world.select()
    _, earlier, later = world.asked[0]
    kinds = np.bincount(np.concatenate([earlier, later]) % 6, minlength=6)
    assert len(earlier) + len(later) <= MOST_ROWS
    assert kinds.min() > 0.8 * kinds.mean()


def test_the_p_value_is_that_of_a_paired_t_test_over_the_folds() -> None:
    found = World(slope=lambda block: block / 2.0).select()
    plain, *others = found.candidates
    assert plain.choice == PLAIN
    assert plain.p is None
    whole = [each for each in others if len(each.errors) == len(plain.errors)]
    assert whole
    for each in whole:
        test = ttest_1samp(each.errors / plain.errors, 1, alternative="less")
        assert each.p == pytest.approx(test.pvalue)
    best = next(each for each in others if each.choice == found.choice)
    assert best.p is not None
    assert best.p <= CONVINCING
    assert best.error == pytest.approx(best.errors.mean())


def test_errors_of_zero_show_nothing() -> None:
    """A table that is learnt by heart from any window leaves the plain choice."""
    found = World(noise=0.0).select()
    assert found.choice == PLAIN


def test_the_same_rows_have_the_same_choice() -> None:
    one, two = (World(seed=4, slope=lambda block: block / 9.0).select() for _ in range(2))
    assert one.choice == two.choice
    for first, second in zip(one.candidates, two.candidates, strict=True):
        assert (first.choice, first.p) == (second.choice, second.p)
        np.testing.assert_array_equal(first.errors, second.errors)
