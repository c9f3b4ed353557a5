"""A few hundred inputs for each reader; `make fuzz` throws many more."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import TARGETS, Target, throw


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_input_has_its_outcome(target: Target) -> None:
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=3 * target.weight,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def case(given_: Any) -> None:
        throw(target, given_, outcomes)

    case()
    assert len(outcomes) > 1, outcomes
