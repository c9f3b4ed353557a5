"""What messages say about each event."""

from typing import Any

import pytest

from services.notifier.message import Field, Message, as_text, failed, promoted, published, rejected
from shared.events import ModelPromoted, ModelPublished, ModelRejected, WorkFailed
from shared.records import DriftReport, ModelVersion


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
        update={"feature_drifts": {f"f{n}": n / 10 for n in range(1, 9)}, "feature_stats": {}}
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
        (-2.5e20, "-2.5e+20"),
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
