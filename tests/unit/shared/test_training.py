"""Settings of training and of the gate: how lengths are spelled, and what errors say to write."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.training import (
    METRICS_OF,
    Gate,
    Metric,
    Search,
    Task,
    Training,
    Window,
    span_of,
    why_never_promoted,
)

REGRESSION: dict[str, Any] = {"target": "y", "task": "regression", "features": ["x"]}
SPELLINGS = "write all, auto, {last: 6 batches}, {last: 90d} or {half_life: 30d}"


@pytest.mark.parametrize(
    ("written", "window", "text"),
    [
        ("all", Window(policy="all"), "all"),
        ("auto", Window(policy="auto"), "auto"),
        ({"last": "6 batches"}, Window(policy="last", batches=6), "last: 6 batches"),
        ({"last": "1 batch"}, Window(policy="last", batches=1), "last: 1 batch"),
        ({"last": "90d"}, Window(policy="last", span=timedelta(days=90)), "last: 90d"),
        ({"last": "48h"}, Window(policy="last", span=timedelta(days=2)), "last: 2d"),
        (
            {"half_life": "36h"},
            Window(policy="half_life", span=timedelta(hours=36)),
            "half_life: 36h",
        ),
    ],
)
def test_a_window_as_it_is_written(written: object, window: Window, text: str) -> None:
    training = Training.model_validate(REGRESSION | {"window": written})
    assert training.window == window
    assert str(window) == text


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("newest", SPELLINGS),
        ("last: 90d", SPELLINGS),
        (6, SPELLINGS),
        (None, SPELLINGS),
        ({}, SPELLINGS),
        ({"all": "90d"}, SPELLINGS),
        ({"last": "90d", "half_life": "30d"}, SPELLINGS),
        ({"policy": "last"}, SPELLINGS),
        ({"policy": "all", "span": "P9D"}, SPELLINGS),
        ({"policy": "last", "span": "P9D", "batches": 3}, SPELLINGS),
        ({"policy": "half_life", "batches": 3}, SPELLINGS),
        ({"last": 6}, "6 is no length of time; write such as 30d or 12h, or 6 batches"),
        ({"last": "0 batches"}, "'0 batches' is no length .* or 6 batches"),
        ({"last": "-3d"}, "'-3d' is no length of time"),
        ({"last": "3 weeks"}, "'3 weeks' is no length of time"),
        ({"last": "1.5d"}, "'1.5d' is no length of time"),
        ({"last": "99999999999d"}, "'99999999999d' is no length of time"),
        ({"last": None}, "None is no length of time"),
        ({"half_life": "6 batches"}, "'6 batches' is no length of time; .* 30d or 12h$"),
        ({"half_life": "0d"}, "'0d' is no length of time"),
    ],
)
def test_another_spelling_of_a_window_is_an_error_that_says_what_to_write(
    written: object, says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Training.model_validate(REGRESSION | {"window": written})
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("window",)
    with pytest.raises(ValueError, match=says.replace("{", r"\{")):
        raise ValueError(fault["msg"])


WINDOWS = st.one_of(
    st.sampled_from([Window(policy="all"), Window(policy="auto")]),
    st.integers(1, 999_999).map(lambda number: Window(policy="last", batches=number)),
    st.builds(
        lambda policy, hours: Window(policy=policy, span=timedelta(hours=hours)),
        st.sampled_from(["last", "half_life"]),
        st.integers(1, 999_999),
    ),
)


@given(WINDOWS)
def test_a_window_comes_back_from_its_json_and_from_its_text(window: Window) -> None:
    assert Window.model_validate_json(window.model_dump_json()) == window
    policy, _, length = str(window).partition(": ")
    assert Window.model_validate({policy: length} if length else policy) == window


@given(st.integers(1, 999_999), st.sampled_from(["h", "d"]))
def test_a_length_of_time_is_hours_or_days(number: int, unit: str) -> None:
    unit_length = timedelta(hours=1) if unit == "h" else timedelta(days=1)
    assert span_of(f"{number}{unit}") == number * unit_length


@pytest.mark.parametrize(
    ("written", "cooldown"),
    [
        ("6h", timedelta(hours=6)),
        ("2d", timedelta(days=2)),
        (0, timedelta()),
        ("PT6H", timedelta(hours=6)),
    ],
)
def test_a_cooldown_as_it_is_written(written: object, cooldown: timedelta) -> None:
    assert Gate.model_validate({"cooldown": written}).cooldown == cooldown


@pytest.mark.parametrize("written", ["6", "six hours", "6 batches", "", "-6h", -6])
def test_another_spelling_of_a_cooldown_is_an_error(written: object) -> None:
    with pytest.raises(ValidationError, match="cooldown"):
        Gate.model_validate({"cooldown": written})


@given(
    st.builds(
        Gate,
        policy=st.sampled_from(["not_worse", "better", "always"]),
        margin=st.floats(0, 0.99),
        cooldown=st.integers(0, 10**6).map(lambda hours: timedelta(hours=hours)),
        segment=st.none() | st.text(),
    )
)
def test_a_gate_comes_back_from_its_json(gate: Gate) -> None:
    assert Gate.model_validate_json(gate.model_dump_json()) == gate


def test_a_training_comes_back_from_its_json() -> None:
    """A version that is trained again reads these settings from its record."""
    training = Training.model_validate(
        REGRESSION
        | {
            "parameters": {"a": True, "b": 1, "c": 1.0, "d": "sqrt", "e": None},
            "search": {"grid": {"a": [True, 1, 0.5, "log2", None]}},
            "window": {"half_life": "30d"},
            "time_parts": ["hour"],
            "metric": "rmse",
        }
    )
    again = Training.model_validate(training.model_dump(mode="json"))
    assert again == training
    assert [type(value) for value in again.parameters.values()] == [
        *(bool, int, float, str, type(None))
    ]


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("metric", ["mae", "rmse", "log_loss", "accuracy"])
def test_a_metric_decides_its_own_task_alone(task: Task, metric: Metric) -> None:
    content = REGRESSION | {"task": task, "metric": metric}
    if metric in METRICS_OF[task]:
        assert Training.model_validate(content).deciding_metric == metric
    else:
        known = " or ".join(METRICS_OF[task])
        says = f"metric: {metric} does not decide a {task}; {known} does"
        with pytest.raises(ValidationError, match=says):
            Training.model_validate(content)


@pytest.mark.parametrize(
    ("task", "metric"), [("regression", "mae"), ("classification", "log_loss")]
)
def test_the_metric_that_decides_where_none_is_named(task: Task, metric: Metric) -> None:
    assert Training.model_validate(REGRESSION | {"task": task}).deciding_metric == metric


@pytest.mark.parametrize(
    "grid", [{}, {"max_depth": []}], ids=["no parameter", "a parameter without a value"]
)
def test_a_search_of_nothing_is_an_error(grid: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Search.model_validate({"grid": grid})


@pytest.mark.parametrize(
    ("gate", "most_rows", "key"),
    [
        (Gate(), 40, None),
        (Gate(), 39, "gate.min_rows"),
        (Gate(min_rows=100_000), 200_000, None),
        (Gate(min_rows=100_001), 200_000, "gate.min_rows"),
        (Gate(min_groups=500), 900, "gate.min_groups"),
    ],
)
def test_settings_that_can_never_promote_are_named_with_what_to_do(
    gate: Gate, most_rows: int, key: str | None
) -> None:
    said = why_never_promoted(Training(**REGRESSION, max_window_rows=most_rows), gate)
    if key is None:
        assert not said
    else:
        assert f"Set {key} to at most {most_rows // 2:,}, or training.max_window_rows" in said
