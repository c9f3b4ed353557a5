"""What messages say about each event."""

from typing import Any

import pytest

from services.notifier.message import (
    Field,
    Message,
    as_text,
    drifted,
    failed,
    promoted,
    published,
    rejected,
    review_needed,
)
from shared.drift import PerformanceFinding
from shared.events import (
    DriftFound,
    ModelPromoted,
    ModelPublished,
    ModelRejected,
    ReviewNeeded,
    WorkFailed,
)
from shared.records import DriftReport, ModelVersion
from tests.unit.notifier.conftest import cell


def values(message: Message) -> dict[str, str]:
    return {field.name: field.value for field in message.fields}


def test_a_promotion_says_what_is_replaced_and_why(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    message = promoted(promotion, model, report)
    assert message.title == "air_quality: model v3 is the champion"
    assert "replaces v2" in message.text
    assert "13,200 rows" in message.text
    assert model.reason in message.text


def test_a_first_model_says_so(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    first = model.model_copy(
        update={"champion_version": None, "metrics": {"mae": 7.0, "champion": None}}
    )
    unmeasured = report.model_copy(
        update={"drift_score": None, "verdict": "no reference", "feature_drifts": {}}
    )
    message = promoted(promotion.model_copy(update={"replaced_version": None}), first, unmeasured)
    assert "first model" in message.text
    assert "replaces" not in message.text
    assert values(message) == {"Drift score": "none (no reference)", "Mean absolute error": "7"}


def test_the_drift_score_stands_against_its_threshold(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    drift = values(promoted(promotion, model, report))["Drift score"]
    assert drift == "0.2412 against a threshold of 0.1"


def test_the_features_that_moved_most_come_first_and_those_that_did_not_move_are_left_out(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    moved = values(promoted(promotion, model, report))["Moved most"]
    assert moved.splitlines() == [
        "pollutant_max: mean 82.12 → 132.5 (drift 0.61)",
        "pollutant_avg: mean 50 → no value (drift 0.3)",
        "pollutant_min: mean 20 → 21 (drift 0.05)",
    ]


def test_at_most_three_features_are_named(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    many = report.model_copy(
        update={"feature_drifts": {f"f{n}": n / 10 for n in range(8, 0, -1)}, "feature_stats": {}}
    )
    moved = values(promoted(promotion, model, many))["Moved most"]
    assert moved.splitlines() == ["f8: drift 0.8", "f7: drift 0.7", "f6: drift 0.6"]


def test_a_drift_that_no_feature_shows_names_none(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    still = report.model_copy(update={"drift_score": 0.0, "feature_drifts": {"a": 0.0}})
    facts = values(promoted(promotion, model, still))
    assert facts["Drift score"] == "0 against a threshold of 0.1"
    assert "Moved most" not in facts


def test_metrics_stand_beside_the_champions_where_both_have_them(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    facts = values(promoted(promotion, model, report))
    assert facts["Mean absolute error"] == "6.457 (v2: 6.971)"
    assert facts["Mean squared error"] == "112.2 (v2: 130.5)"
    assert facts["R²"] == "0.8125"


def test_classification_has_its_own_metrics(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    figures = {"accuracy": 0.9, "log_loss": 0.25, "macro_f1": 0.875}
    classifier = model.model_copy(update={"metrics": figures | {"champion": figures}})
    facts = values(promoted(promotion, classifier, None))
    assert facts == {
        "Accuracy": "0.9 (v2: 0.9)",
        "Log loss": "0.25 (v2: 0.25)",
        "Macro F1": "0.875 (v2: 0.875)",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.000123456, "0.0001235"),
        (9999.4, "9999"),
        (1_234_567.8, "1,234,568"),
        (-2.5e20, "-2.5e20"),
    ],
)
def test_figures_are_readable_whatever_their_size(
    promotion: ModelPromoted, model: ModelVersion, value: float, shown: str
) -> None:
    measured = model.model_copy(update={"metrics": {"mse": value}})
    assert values(promoted(promotion, measured, None)) == {"Mean squared error": shown}


def test_a_report_whose_retention_is_over_is_not_missed(
    promotion: ModelPromoted, model: ModelVersion
) -> None:
    assert "Drift score" not in values(promoted(promotion, model, None))


def test_a_rejection_says_that_the_champion_stays_and_why(
    base: dict[str, Any], model: ModelVersion, report: DriftReport
) -> None:
    event = ModelRejected(
        **base, model_version=3, champion_version=2, sequence=7, reason="worse than v2"
    )
    message = rejected(event, model, report)
    assert message.title == "air_quality: model v3 was rejected"
    assert "v2 stays" in message.text
    assert "worse than v2" in message.text
    assert values(message)["Mean absolute error"] == "6.457 (v2: 6.971)"


def test_a_rejection_before_any_champion_says_that_there_is_none(
    base: dict[str, Any], model: ModelVersion
) -> None:
    event = ModelRejected(**base, model_version=1, sequence=7, reason="not better")
    assert rejected(event, model, None).text.startswith("There is still no champion.")


def test_a_rollback_says_which_version_is_the_champion_again(
    promotion: ModelPromoted, model: ModelVersion, report: DriftReport
) -> None:
    again = promotion.model_copy(
        update={"model_version": 6, "replaced_version": 5, "restores": 3, "window_rows": 13_200}
    )
    restored = model.model_copy(
        update={
            "version": 6,
            "restores": 3,
            "champion_version": 5,
            "reason": "a person rolled back from v5 to v3",
        }
    )
    message = promoted(again, restored, report)
    assert message.title == "air_quality: model v3 is the champion again (as v6)"
    assert "replaces v5" in message.text
    assert "13,200 rows" in message.text
    assert "Why: a person rolled back from v5 to v3" in message.text
    facts = values(message)
    assert facts["Mean absolute error"] == "6.457 (v2: 6.971)", "v2 was its rival, not v5"
    assert "Drift score" not in facts, "no drift asked for it"


def test_the_publication_of_a_rollback_says_so(base: dict[str, Any], model: ModelVersion) -> None:
    event = ModelPublished(**base, model_version=6, commit="0" * 40, branch="main")
    message = published(event, model.model_copy(update={"version": 6, "restores": 3}), None)
    assert message.title == "air_quality: model v6 is published, v3 again"


def test_nothing_but_rejections_asks_for_a_person_and_says_what_to_do(
    base: dict[str, Any], model: ModelVersion
) -> None:
    event = ReviewNeeded(
        **base,
        model_version=3,
        champion_version=2,
        sequence=7,
        rejections=4,
        reason="mean absolute error 7.1, +9 % against v2",
    )
    message = review_needed(event, model)
    assert message.title == "air_quality: 4 models in a row were rejected"
    assert "The champion v2 stays" in message.text
    assert "a person should look" in message.text
    assert "+9 % against v2" in message.text
    facts = values(message)
    assert facts["The last one"] == "trimtab models show 3 --pipeline air_quality"
    assert facts["Mean absolute error"] == "6.457 (v2: 6.971)"
    assert any(value.startswith("trimtab replay ") for value in facts.values())


def test_the_first_model_that_is_rejected_leaves_none(
    base: dict[str, Any], model: ModelVersion
) -> None:
    event = ReviewNeeded(
        **base, model_version=1, sequence=4, rejections=1, reason="not better than the baseline"
    )
    message = review_needed(event, model)
    assert message.title == "air_quality: the first model was rejected"
    assert message.text.startswith("There is still no champion, and no new model is good enough")


PERFORMANCE = PerformanceFinding(
    model_version=2,
    metric="mae",
    error=8.25,
    error_at_promotion=6.5,
    rows=1_190,
    groups=170,
    p=3e-6,
    threshold=0.00025,
    drift=True,
    reason="the champion's error has risen",
)


def test_a_drift_says_by_how_much_the_champions_error_has_risen(
    drift: DriftFound, calibrated: DriftReport
) -> None:
    risen = calibrated.model_copy(update={"performance": PERFORMANCE})
    assert values(drifted(drift, risen, None))["Error of the champion v2"] == (
        "mean absolute error 6.5 → 8.25 since its promotion, on 1,190 rows, p = 3e-6"
    )


def test_a_champion_as_good_as_ever_is_not_mentioned(
    drift: DriftFound, calibrated: DriftReport
) -> None:
    steady = PERFORMANCE.model_copy(update={"drift": False})
    same = calibrated.model_copy(update={"performance": steady})
    assert drifted(drift, same, None) == drifted(drift, calibrated, None)


def test_a_publication_names_the_commit_and_links_it(
    base: dict[str, Any], model: ModelVersion, report: DriftReport
) -> None:
    event = ModelPublished(
        **base,
        model_version=3,
        commit="0123456789abcdef" * 2 + "01234567",
        branch="main",
        url="https://example.org/models/commit/0123",
    )
    message = published(event, model, report)
    assert message.title == "air_quality: model v3 is published"
    assert message.url == event.url
    assert values(message)["Commit"] == "0123456789 on main"
    assert "Drift score" in values(message)
    assert as_text(message).splitlines()[-1] == event.url


def test_a_drift_says_why_and_shows_the_top_three_cells(
    drift: DriftFound, calibrated: DriftReport
) -> None:
    message = drifted(drift, calibrated, b"png")
    assert message.title == "air_quality: drift in batch 7"
    assert message.picture == b"png"
    assert message.text.splitlines() == [
        "PM2.5 in Delhi: median 84 → 131 (p = 3.1e-8, threshold 0.00025)",
        "The last 24 batches together were compared with reference v2, 9,900 rows.",
    ]
    assert values(message) == {
        "PM2.5 in Delhi": "median 84 → 131\neffect 0.34, p = 3.1e-8",
        "PM2.5": "median 84 → 131\neffect 0.20, p < 1e-16",
        "missing values of CO": "missing 2 % → 7 %\neffect 0.34, p = 2e-5",
        "Whole report": "trimtab report --pipeline air_quality 7",
    }


def test_a_drift_of_one_batch_says_how_many_rows_were_compared(
    drift: DriftFound, calibrated: DriftReport
) -> None:
    alone = calibrated.model_copy(update={"window_batches": 1})
    compared = drifted(drift, alone, None).text.splitlines()[-1]
    assert compared == "The batch's 3,300 rows were compared with reference v2, 9,900 rows."


def test_a_pair_is_named_by_both_columns_and_a_cell_without_p_by_its_effect(
    drift: DriftFound, calibrated: DriftReport
) -> None:
    pair = calibrated.model_copy(update={"cells": calibrated.cells[3:]})
    facts = values(drifted(drift, pair, None))
    assert facts["NO2 with CO in Agra"] == "median 84 → 131\neffect 0.34"


def test_a_policy_without_cells_names_the_columns_that_moved_most(
    drift: DriftFound, report: DriftReport
) -> None:
    facts = values(drifted(drift, report, None))
    assert facts["Moved most"].startswith("pollutant_max: mean 82.12 → 132.5 (drift 0.61)")


def test_a_drift_whose_report_is_gone_is_told_all_the_same(drift: DriftFound) -> None:
    message = drifted(drift, None, None)
    assert message.text == drift.reason
    assert values(message).keys() == {"Whole report"}


def test_a_long_name_leaves_room_for_what_follows_it(
    drift: DriftFound, calibrated: DriftReport
) -> None:
    long = cell(column="c" * 500, segment="s\n" * 500, direction="d" * 5_000)
    message = drifted(drift, calibrated.model_copy(update={"cells": [long]}), None)
    name, value = message.fields[0].name, message.fields[0].value
    assert name == f"{'c' * 59}… in {'s ' * 29}s…"
    assert value == f"{'d' * 299}…\neffect 0.34, p = 3.1e-8"


def test_a_promotion_after_a_calibrated_check_shows_p_and_the_cells(
    promotion: ModelPromoted, model: ModelVersion, calibrated: DriftReport
) -> None:
    facts = values(promoted(promotion, model, calibrated))
    assert facts["Drift"] == "p = 3.1e-8 against a threshold of 0.00025"
    assert facts["Moved most"].splitlines() == [
        "PM2.5 in Delhi: median 84 → 131",
        "PM2.5: median 84 → 131",
        "missing values of CO: missing 2 % → 7 %",
    ]


def test_a_failure_says_where_why_and_how_to_look(base: dict[str, Any]) -> None:
    event = WorkFailed(
        **base,
        stage="publisher",
        failed_event="ModelPromoted",
        dead_letter="publisher:0123",
        reason="the remote refused the push",
    )
    message = failed(event)
    assert message.title == "air_quality: publisher gave up on ModelPromoted"
    assert message.text == "the remote refused the push"
    assert "trimtab dead-letters show publisher:0123" in as_text(message)
    assert "trimtab dead-letters replay publisher:0123" in as_text(message)


def test_plain_text_has_a_line_a_fact_and_indents_lists() -> None:
    message = Message(
        "title", "text", (Field("a", "1"), Field("b", "x\ny")), 0, "https://example.org"
    )
    assert as_text(message) == "text\n\na: 1\nb:\n  x\n  y\nhttps://example.org"


def test_plain_text_holds_nothing_that_steers_a_terminal_or_cannot_be_stored() -> None:
    text = as_text(Message("title", "red \x1b[31m\ud800 alarm\x07", (), 0))
    assert text == "red  [31m  alarm"
    assert text.encode()
