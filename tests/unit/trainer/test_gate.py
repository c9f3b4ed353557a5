"""The gate's decisions, at their edges."""

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.evaluation import Comparison, SegmentComparison
from services.trainer.gate import Evidence, Verdict, decide
from shared.events import RetrainRequested, first_event_fields
from shared.training import Gate
from shared.wording import NO_BREAK

Policy = Literal["not_worse", "better", "always"]
POLICIES: tuple[Policy, ...] = ("not_worse", "better", "always")


def asked(reason: str = "drift") -> RetrainRequested:
    return RetrainRequested(**first_event_fields("air_quality", reason), reason=reason, sequence=3)


def compared(relative: float, low: float, high: float, old: float = 6.4) -> Comparison:
    return Comparison(
        metric="mae",
        difference=relative * old,
        interval=(low * old, high * old),
        relative_difference=relative,
        relative_interval=(low, high),
        confidence=0.95,
        rows=1180,
        groups=430,
        resamples=4000,
        seed=42,
    )


def segment(relative: float, low: float, *, few: bool = False) -> SegmentComparison:
    return SegmentComparison(
        segment="OZONE",
        rows=212,
        groups=77,
        few=few,
        challenger={},
        champion={},
        baseline={},
        comparison=compared(relative, low, relative + 0.2),
    )


BETTER = compared(-0.1, -0.15, -0.05)


def evidence(**changes: Any) -> Evidence:
    """Of a challenger that is better in every way, but for the changes."""
    sound = Evidence(
        metric="mae",
        challenger=5.76,
        baseline=14.9,
        negligible=1e-6,
        rows=1180,
        groups=430,
        new_to_both=True,
        comparison=BETTER,
        champion_version=2,
        segments=[segment(-0.1, -0.2)],
        model_bytes=2_000_000,
        max_file_bytes=100_000_000,
        loads=None,
        note="",
    )
    return replace(sound, **changes)


# The policies.


@pytest.mark.parametrize(
    ("policy", "low", "high", "decision"),
    [
        ("not_worse", -0.1, 0.01, "promoted"),
        ("not_worse", -0.1, 0.0100001, "rejected"),
        ("not_worse", 0.001, 0.009, "promoted"),
        ("not_worse", -0.5, -0.4, "promoted"),
        ("better", -0.1, -1e-9, "promoted"),
        ("better", -0.1, 0.0, "rejected"),
        ("better", -0.1, 1e-9, "rejected"),
        ("always", 0.5, 0.9, "promoted"),
        ("always", -0.1, 0.0, "promoted"),
    ],
)
def test_a_policy_looks_at_the_intervals_upper_end(
    policy: Policy, low: float, high: float, decision: str
) -> None:
    found = compared((low + high) / 2, low, high)
    verdict = decide(asked(), evidence(comparison=found), Gate(policy=policy))
    assert verdict.decision == decision


def test_the_margin_is_the_pipelines() -> None:
    found = evidence(comparison=compared(0, -0.04, 0.04))
    assert decide(asked(), found, Gate(margin=0.04)).decision == "promoted"
    assert decide(asked(), found, Gate(margin=0.03)).decision == "rejected"
    none = evidence(comparison=compared(0, 0, 0))
    assert decide(asked(), none, Gate(margin=0)).decision == "promoted"


def test_the_reason_of_a_promotion_has_the_figures() -> None:
    verdict = decide(asked(), evidence(), Gate())
    assert verdict.reason.replace(NO_BREAK, " ") == (
        "mean absolute error 5.76 on 1,180 rows in 430 groups, -10 % against v2 (95 % interval "
        "-15 % to -5 %): not_worse"
    )


@pytest.mark.parametrize(
    ("gate", "wanted"),
    [
        (Gate(), "; gate.policy not_worse needs an upper end of at most +1 %"),
        (Gate(policy="better"), "; gate.policy better needs an interval wholly below zero"),
    ],
)
def test_the_reason_of_a_rejection_has_the_figures_and_what_it_takes(
    gate: Gate, wanted: str
) -> None:
    found = compared(0.031, -0.012, 0.074)
    verdict = decide(asked(), evidence(comparison=found), gate)
    assert verdict.decision == "rejected"
    assert verdict.reason.replace(NO_BREAK, " ") == (
        "mean absolute error 5.76 on 1,180 rows in 430 groups, +3.1 % against v2 (95 % interval "
        f"-1.2 % to +7.4 %){wanted}"
    )


def test_the_deciding_metric_is_named() -> None:
    verdict = decide(asked(), evidence(metric="log_loss"), Gate(confidence=0.9))
    assert verdict.reason.startswith("log loss 5.76 on 1,180 rows")
    assert f"(90{NO_BREAK}% interval " in verdict.reason


# The guards.

FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "rows",
        {"rows": 19},
        "enough held-out rows",
        "19 held-out rows in 430 groups; at least 20 rows in 5 groups are needed",
    ),
    (
        "groups",
        {"groups": 4},
        "enough held-out rows",
        "1,180 held-out rows in 4 groups; at least 20 rows in 5 groups are needed",
    ),
    ("baseline", {"baseline": 5.7}, "better than the baseline", "5.76 against 5.7"),
    (
        "segment",
        {"segments": [segment(-0.1, -0.2), segment(0.26, 0.01)]},
        "sound in every segment",
        f"OZONE +26{NO_BREAK}% on 212 rows",
    ),
    (
        "fresh process",
        {"loads": "ModuleNotFoundError: No module named 'services'"},
        "usable in a fresh process",
        "ModuleNotFoundError: No module named 'services'",
    ),
    (
        "file",
        {"model_bytes": 100_000_001},
        "small enough for the repository",
        "100,000,001 bytes; publish.max_file_bytes is 100,000,000",
    ),
]


@pytest.mark.parametrize(("changes", "name", "finding"), [each[1:] for each in FAULTS])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_guard_alone_rejects_whatever_the_policy_says(
    policy: Policy, changes: dict[str, Any], name: str, finding: str
) -> None:
    verdict = decide(asked(), evidence(**changes), Gate(policy=policy))
    assert verdict.decision == "rejected"
    failed = [guard for guard in verdict.guards if not guard.passed]
    assert [guard.name for guard in failed] == [name]
    assert failed[0].finding == finding
    assert verdict.reason == (
        f"mean absolute error 5.76 on {changes.get('rows', 1180):,} rows in "
        f"{changes.get('groups', 430):,} groups; not {name} ({finding})"
    )


def test_all_guards_that_fail_are_named() -> None:
    every = {name: value for _, changes, _, _ in FAULTS for name, value in changes.items()}
    verdict = decide(asked(), evidence(**every), Gate(policy="always"))
    for _, _, name, _ in FAULTS:
        assert f"not {name} (" in verdict.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 20, "groups": 5},
        {"baseline": 5.76},
        {"model_bytes": 100_000_000},
        {"segments": []},
        {"segments": [segment(0.25, 0.1)]},
        {"segments": [segment(0.5, 0.0)]},
        {"segments": [segment(0.9, 0.5, few=True)]},
        {"challenger": 0.0, "baseline": 0.0, "comparison": compared(0, 0, 0)},
    ],
    ids=[
        "fewest rows and groups",
        "as good as the baseline",
        "largest file",
        "no segment",
        "a segment as much worse as it may be",
        "a segment whose interval reaches zero",
        "few rows in a segment",
        "no error at all",
    ],
)
def test_what_a_guard_just_lets_pass(changes: dict[str, Any]) -> None:
    verdict = decide(asked(), evidence(**changes), Gate())
    assert verdict.decision == "promoted"
    assert all(guard.passed for guard in verdict.guards)


def test_guards_are_the_pipelines() -> None:
    strict = Gate(min_rows=2000, min_groups=500, segment_margin=0.01)
    found = evidence(segments=[segment(0.02, 0.01)])
    failed = [guard.name for guard in decide(asked(), found, strict).guards if not guard.passed]
    assert failed == ["enough held-out rows", "sound in every segment"]


# Without a champion to compare with.

ALONE: dict[str, Any] = {"comparison": None, "champion_version": None, "segments": []}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_model_has_the_baseline_alone_to_beat(policy: Policy) -> None:
    verdict = decide(asked("first_model"), evidence(**ALONE), Gate(policy=policy))
    assert verdict.decision == "promoted"
    assert verdict.reason == "first model: mean absolute error 5.76 on 1,180 rows in 430 groups"
    worse = evidence(**ALONE, baseline=5.75)
    assert decide(asked("first_model"), worse, Gate(policy=policy)).decision == "rejected"


def test_a_first_model_that_finds_a_champion_has_to_beat_it() -> None:
    found = evidence(comparison=compared(0.2, 0.1, 0.3))
    assert decide(asked("first_model"), found, Gate()).decision == "rejected"


def test_a_model_on_a_reference_that_a_person_set_is_not_compared() -> None:
    worse = evidence(**ALONE | {"champion_version": 4}, baseline=1.0, rows=2, groups=1)
    verdict = decide(asked("reference_set"), worse, Gate(policy="better"))
    assert verdict.decision == "promoted"
    assert verdict.reason == (
        "a person set the reference: mean absolute error 5.76 on 2 rows in 1 groups"
    )


@pytest.mark.parametrize("changes", [{"loads": "EOFError"}, {"model_bytes": 10**9}])
def test_a_file_that_cannot_be_used_is_no_champion_whoever_wants_it(
    changes: dict[str, Any],
) -> None:
    found = evidence(**ALONE | changes)
    assert decide(asked("reference_set"), found, Gate()).decision == "rejected"


# A better challenger is never rejected where a worse one is promoted.

SHARE = st.floats(-0.9, 0.9)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Evidence, Evidence]:
    """Two challengers, the first at least as good as the second in all that is judged."""
    limits = st.tuples(st.integers(1, 100), st.integers(1, 30))

    def two(strategy: st.SearchStrategy[Any]) -> list[Any]:
        return sorted((draw(strategy), draw(strategy)))

    lows, middles, highs = (two(SHARE) for _ in range(3))
    segments, segment_lows = two(SHARE), two(SHARE)
    errors, sizes = two(st.floats(0, 10)), two(st.integers(1, 200))
    unusable = two(st.booleans())
    rows, groups = draw(limits)
    baseline = draw(st.floats(0, 10))
    few = draw(st.booleans())
    alone = draw(st.booleans())
    one, other = (
        evidence(
            challenger=errors[rank],
            baseline=baseline,
            rows=rows,
            groups=groups,
            comparison=None if alone else compared(middles[rank], lows[rank], highs[rank]),
            segments=[segment(segments[rank], segment_lows[rank], few=few)],
            model_bytes=sizes[rank],
            max_file_bytes=100,
            loads="EOFError" if unusable[rank] else None,
        )
        for rank in (0, 1)
    )
    return one, other


def _decision(found: Evidence, policy: Policy, margin: float, reason: str) -> Verdict:
    return decide(asked(reason), found, Gate(policy=policy, margin=margin))


@given(
    pairs(),
    st.sampled_from(POLICIES),
    st.sampled_from([0.0, 0.01, 0.5]),
    st.sampled_from(["drift", "performance", "first_model", "reference_set"]),
)
def test_who_is_better_in_all_things_is_not_rejected_where_another_is_promoted(
    pair: tuple[Evidence, Evidence], policy: Policy, margin: float, reason: str
) -> None:
    better, worse = (_decision(each, policy, margin, reason) for each in pair)
    assert better.decision == "promoted" or worse.decision == "rejected"


@given(pairs(), st.sampled_from([0.0, 0.01, 0.5]))
def test_a_stricter_policy_promotes_nothing_that_a_milder_one_rejects(
    pair: tuple[Evidence, Evidence], margin: float
) -> None:
    order: tuple[Policy, ...] = ("better", "not_worse", "always")
    promoted = [
        _decision(pair[0], policy, margin, "drift").decision == "promoted" for policy in order
    ]
    assert promoted == sorted(promoted)


# Differences in the last digits.


@pytest.mark.parametrize(
    ("challenger", "baseline", "passes"),
    [
        (0.0, 0.0, True),
        (1.49e-9, 0.0, True),
        (2e-6, 0.0, False),
        (0.1 + 2e-17, 0.1, True),
        (5.7000000001, 5.7, True),
        (5.701, 5.7, False),
    ],
)
def test_an_error_that_differs_in_the_last_digits_is_as_good(
    challenger: float, baseline: float, passes: bool
) -> None:
    found = evidence(challenger=challenger, baseline=baseline, comparison=None)
    assert (decide(asked("first_model"), found, Gate()).decision == "promoted") == passes


def test_a_baseline_without_an_error_says_what_to_do() -> None:
    found = evidence(challenger=0.03, baseline=0.0, comparison=None)
    reason = decide(asked("first_model"), found, Gate()).reason
    assert "0.03 against 0: the baseline predicts all held-out rows exactly" in reason
    assert "ingest rows with other targets" in reason


def test_what_is_to_be_known_of_the_rows_stands_in_the_reason() -> None:
    verdict = decide(asked(), evidence(note="all rows are equal"), Gate())
    assert verdict.reason.endswith("; all rows are equal")


def test_rows_that_the_champion_has_learnt_from_decide_nothing() -> None:
    verdict = decide(asked(), evidence(new_to_both=False), Gate(policy="always"))
    assert verdict.decision == "rejected"
    assert "v2 has learnt from all rows that have a target" in verdict.reason
