"""The gate's decisions."""

import pytest

from services.trainer.evaluation import Metrics, Task
from services.trainer.gate import Judged, decide
from shared.events import RetrainRequested, first_event_fields


def asked(reason: str = "drift") -> RetrainRequested:
    return RetrainRequested(**first_event_fields("air_quality", reason), reason=reason, sequence=3)


@pytest.mark.parametrize(
    ("new", "old", "decision", "words"),
    [
        (5.91, 6.4, "promoted", "5.91, not worse than v2 with 6.4 on the same 1,180 rows"),
        (6.4, 6.4, "promoted", "6.4, not worse than v2 with 6.4 on the same 1,180 rows"),
        (6.41, 6.4, "rejected", "6.41, worse than v2 with 6.4 on the same 1,180 rows"),
        (0.0, 0.0, "promoted", "0, not worse than v2 with 0 on the same 1,180 rows"),
        (
            *(6.40000012, 6.4, "rejected"),
            "6.4000001, worse than v2 with 6.4 on the same 1,180 rows",
        ),
        (
            *(0.1 + 0.2, 0.3, "rejected"),
            "0.30000000000000004, worse than v2 with 0.29999999999999999 on the same 1,180 rows",
        ),
    ],
)
@pytest.mark.parametrize(
    ("task", "metric", "name"),
    [("regression", "mae", "mean absolute error"), ("classification", "log_loss", "log loss")],
)
def test_not_worse_is_enough(
    new: float, old: float, decision: str, words: str, task: Task, metric: str, name: str
) -> None:
    verdict = decide(asked(), task, {metric: new}, Judged(2, {metric: old}), 1180)
    assert (verdict.decision, verdict.reason) == (decision, f"{name} {words}")


def test_other_metrics_do_not_decide() -> None:
    new: Metrics = {"mae": 5.0, "mse": 99.0, "r2_score": None}
    old: Metrics = {"mae": 6.0, "mse": 40.0, "r2_score": 0.9}
    assert decide(asked(), "regression", new, Judged(1, old), 10).decision == "promoted"


def test_the_first_model_has_nobody_to_beat() -> None:
    verdict = decide(asked("first_model"), "regression", {"mae": 1234.567}, None, 595)
    assert verdict.decision == "promoted"
    assert verdict.reason == "first model: mean absolute error 1234.6 on 595 rows"


def test_a_model_on_a_reference_that_a_person_set_is_not_compared() -> None:
    verdict = decide(asked("reference_set"), "regression", {"mae": 9.5}, Judged(4, {}), 20)
    assert verdict.decision == "promoted"
    assert verdict.reason == "a person set the reference: mean absolute error 9.5 on 20 rows"


def test_a_first_model_that_finds_a_champion_has_to_beat_it() -> None:
    verdict = decide(asked("first_model"), "regression", {"mae": 9.0}, Judged(1, {"mae": 5}), 20)
    assert verdict.decision == "rejected"
