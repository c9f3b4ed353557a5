"""The model card."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyRegressor

from services.publisher.bundle import bundle
from services.publisher.model_card import PLOT_FILES, model_card
from shared.pipeline import Pipeline
from shared.wording import NO_BREAK, percent, rounded
from tests.integration.publisher.promotions import drift_report, model_version
from tests.unit.publisher.evaluated import errors, evaluated, segment


def rows_of(card: str, section: str) -> list[list[str]]:
    """The cells of the tables of a section."""
    _, _, after = card.partition(f"## {section}\n")
    text = after.partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_it_says_what_is_predicted_from_what(air_quality: Pipeline) -> None:
    head = model_card(model_version(3), None, air_quality).splitlines()
    assert head[0] == r"# air\_quality: model v3"
    assert "`pollutant_avg` (regression, random forest)" in head[2]
    assert "`latitude`, `longitude`" in head[2]
    assert "the hour, day, month of `last_update`" in head[2]


def test_the_metrics_stand_beside_the_champions(air_quality: Pipeline) -> None:
    heading, _, *rows = rows_of(model_card(model_version(3), None, air_quality), "How good it is")
    assert heading == ["on the same held-out rows", "v3", "champion v2"]
    assert rows == [
        ["mean absolute error", "6.457", "6.971"],
        ["mean squared error", "112.2", "130.5"],
        ["R²", "0.8125", "–"],
    ]


def test_a_classifier_has_its_own_metrics(air_quality: Pipeline) -> None:
    metrics = {"log_loss": 0.25, "accuracy": 0.875, "macro_f1": 0.5, "champion": None}
    card = model_card(model_version(1, metrics=metrics), None, air_quality)
    heading, _, *rows = rows_of(card, "How good it is")
    assert heading[2] == "no champion before"
    assert rows == [
        ["log loss", "0.25", "–"],
        ["accuracy", "0.875", "–"],
        ["macro F1", "0.5", "–"],
    ]


def test_a_champion_that_was_not_compared_has_no_figures(air_quality: Pipeline) -> None:
    metrics: dict[str, Any] = {"mae": 6.0, "champion": {"version": 2}}
    card = model_card(model_version(3, metrics=metrics), None, air_quality)
    assert rows_of(card, "How good it is")[2] == ["mean absolute error", "6", "–"]


def test_the_drift_is_told_with_the_feature_that_moved_most_first(air_quality: Pipeline) -> None:
    card = model_card(model_version(3), drift_report(3), air_quality)
    assert "drift score of 0.330 against a threshold of 0.1 (policy `mean_std_change`)" in card
    _, _, *rows = rows_of(card, "Why it was trained")
    assert rows[0] == ["`pollutant_max`", "0.61", "82.12", "132.5", "10", "–"]
    assert [row[0] for row in rows] == ["`pollutant_max`", "`pollutant_min`"]


def test_a_first_model_has_no_drift_to_tell(air_quality: Pipeline) -> None:
    report = drift_report(1, drift_score=None, feature_drifts={}, verdict="no reference")
    card = model_card(model_version(1), report, air_quality)
    assert "Batch 1: no reference." in card
    assert "threshold" not in card


def test_where_the_rows_and_the_model_come_from(air_quality: Pipeline) -> None:
    span = {"first_event_at": "2026-01-01T00:00", "last_event_at": "2026-01-02T00:00"}
    metrics = model_version(3).metrics | {"held_out": span}
    card = model_card(model_version(3, metrics=metrics), None, air_quality)
    assert (
        "500 rows: 400 to learn from, 100 held out to judge on (2026-01-01 00:00 UTC to 20" in card
    )
    facts = (
        "batches: 1, 2, 3",
        "reference: v1",
        r"parameters: n\_estimators 100",
        "seed: 42",
        "versions: python 3.11.2, scikit-learn 1.7.0",
        f"run: {model_version(3).trace_id}",
    )
    assert {f"- {fact}" for fact in facts} <= set(card.splitlines())


def test_without_importances_it_says_so(air_quality: Pipeline) -> None:
    card = model_card(model_version(3, metrics={"mae": 1.0}), None, air_quality)
    assert "The estimator does not tell." in card


@pytest.mark.parametrize(
    ("figure", "shown"), [(0.000123456, "0.0001235"), (123456.7, "123,457"), (1e300, "1e300")]
)
def test_figures_stay_readable(air_quality: Pipeline, figure: float, shown: str) -> None:
    card = model_card(model_version(3, metrics={"mse": figure}), None, air_quality)
    assert rows_of(card, "How good it is")[2][1] == shown


def card_of(pipeline: Pipeline, plots: tuple[str, ...] = (), **changes: Any) -> str:
    """The card of a model that was compared with a champion."""
    return model_card(model_version(3, metrics=evaluated(**changes)), None, pipeline, plots)


def compared(difference: float, low: float, high: float) -> dict[str, Any]:
    found = {"relative_difference": difference, "relative_interval": [low, high]}
    return evaluated()["comparison"] | found


def test_challenger_champion_and_baseline_stand_side_by_side(air_quality: Pipeline) -> None:
    card = card_of(air_quality)
    heading, _, *rows = rows_of(card, "How good it is")
    assert heading == ["on the same held-out rows", "v3", "champion v2", "baseline"]
    assert rows[0] == ["mean absolute error", "6.457", "6.971", "14.9"]
    assert rows[4] == ["mean absolute percentage error", "6.5 %", "7 %", "15 %"]
    assert r"The baseline always says the median of the training rows by pollutant\_id." in card


def test_the_verdict_says_by_how_much_and_how_sure_that_is(air_quality: Pipeline) -> None:
    card = card_of(air_quality)
    assert "v3 is **7.2 % lower than that of champion v2** on the same held-out rows, by" in card
    assert "v3 is better, by more than the choice of rows explains." in card
    assert "the 62 groups of these 100 rows were drawn 4,000 times" in card
    assert "In 95 % of the draws the error of v3 was between 12 % lower and 1.2 % lower" in card


@pytest.mark.parametrize(
    ("difference", "low", "high", "said"),
    [
        (-0.01, -0.05, 0.02, "do not tell v3 and champion v2 apart for sure"),
        (0.0, 0.0, 0.0, "do not tell v3 and champion v2 apart for sure"),
        (-0.01, -0.05, 0.0, "do not tell v3 and champion v2 apart for sure"),
        (0.02, 0.01, 0.04, "v3 is worse, by more than the choice of rows explains"),
        (0.0, 0.0, 0.0, "is **equal to that of champion v2** on the same held-out rows."),
        (-0.01, -0.05, 0.02, "between 5 % lower and 2 % higher"),
    ],
)
def test_what_the_interval_means(
    air_quality: Pipeline, difference: float, low: float, high: float, said: str
) -> None:
    assert said in card_of(air_quality, comparison=compared(difference, low, high))


def test_accuracy_is_judged_by_what_is_wrong(air_quality: Pipeline) -> None:
    found = evaluated()["comparison"] | {"metric": "accuracy"}
    card = card_of(air_quality, deciding_metric="accuracy", comparison=found)
    assert "The share of wrong classes of v3 is **7.2 % lower" in card


def test_every_segment_has_its_errors_and_few_rows_are_marked(air_quality: Pipeline) -> None:
    card = card_of(air_quality)
    heading, _, *rows = rows_of(card, "Where it errs")
    assert heading[0] == "`pollutant_id`"
    assert rows == [
        ["`PM2.5`", "84", "42", "6.25", "6.5", "14.5", "-4.2 %"],
        ["`NH3`", "16 (few)", "8", "6.25", "6.5", "14.5", "+12 %"],
    ]
    assert "Few: too few rows" in card


def test_without_a_champion_segments_stand_beside_the_baseline(air_quality: Pipeline) -> None:
    card = card_of(air_quality, champion=None, comparison=None, segments=[segment("CO", 84, None)])
    assert rows_of(card, "Where it errs")[0][3:] == ["v3", "baseline"]
    assert rows_of(card, "Where it errs")[2] == ["`CO`", "84", "42", "6.25", "14.5"]
    assert "Few:" not in card


def test_of_many_segments_those_with_most_rows_are_shown(air_quality: Pipeline) -> None:
    card = card_of(air_quality, segments=[segment(f"S{i}", 300 - i) for i in range(200)])
    names = [row[0] for row in rows_of(card, "Where it errs")[2:]]
    assert names == [f"`S{i}`" for i in range(20)]
    assert "Those with most rows; all are in `metrics.json`." in card


def test_what_a_model_had_to_pass(air_quality: Pipeline) -> None:
    card = card_of(air_quality)
    assert "Policy `not_worse`: against a champion a new model passes if the upper end" in card
    assert rows_of(card, "What it had to pass")[2] == [
        "better than the baseline",
        "yes",
        "6.457 to 14.9",
    ]


def test_the_window_and_what_it_was_chosen_from(air_quality: Pipeline) -> None:
    card = card_of(air_quality)
    assert "Window `half_life: 30d` (policy `auto`): 400 rows, 2025-12-01 00:00 UTC to 20" in card
    assert rows_of(card, "What it learnt from")[2:] == [
        ["`all`", "6.875", ""],
        ["`half_life: 30d`", "6.625", "yes"],
    ]
    assert "the best of 12 combinations tried, of 24, in 61.2 seconds, with an error of 6" in card
    assert r"- parameters: n\_estimators 200" in card.splitlines()


def test_a_window_that_was_set_has_no_candidates(air_quality: Pipeline) -> None:
    window = evaluated()["window"] | {"policy": "all", "chosen": "all", "candidates": []}
    card = card_of(air_quality, window=window, search=None)
    assert "Window `all` (policy `all`): 400 rows, 2025-12-01 00:00 UTC to 20" in card
    assert rows_of(card, "What it learnt from") == []
    assert "combinations" not in card


def test_rows_held_out_that_are_older_are_named(air_quality: Pipeline) -> None:
    held_out = evaluated()["held_out"]
    assert "(the newest, whole groups; 2026-01-01 00:00 UTC to 2026-01-02 00:00 UTC)." in card_of(
        air_quality
    )
    assert "older than rows learnt from" not in card_of(air_quality)
    card = card_of(air_quality, held_out=held_out | {"older_than_training": True})
    assert "Some of the rows held out are older than rows learnt from" in card


def test_a_picture_is_shown_for_both_themes_with_words_for_it(air_quality: Pipeline) -> None:
    segments = tuple(name for name in PLOT_FILES if "segment" in name)
    card = card_of(air_quality, segments)
    assert (
        "\n\n<picture>\n"
        '  <source media="(prefers-color-scheme: dark)" srcset="plots/error_by_segment-dark.png">\n'
        '  <source media="(prefers-color-scheme: light)" srcset="plots/error_by_segment-light.png">'
        '\n  <img alt="mean absolute error by pollutant_id, v3 against champion v2" '
        'src="plots/error_by_segment-light.png" width="760">\n'
        "</picture>\n\n"
    ) in card
    assert card.count("<picture>") == 1


def test_a_picture_that_is_there_for_one_theme_alone_is_not_shown(air_quality: Pipeline) -> None:
    assert "<picture>" not in card_of(air_quality, ("plots/feature_importance-dark.png",))


def test_a_record_without_the_new_figures_still_gives_a_card(air_quality: Pipeline) -> None:
    card = model_card(model_version(3), None, air_quality, PLOT_FILES)
    sections = re.findall(r"^## (.+)$", card, re.MULTILINE)
    assert sections == [
        "Why it was trained",
        "How good it is",
        "What it looks at",
        "Where it comes from",
        "How to use it",
    ]


SHARE = st.floats(-0.999, 9.0)
ERROR = st.floats(1e-3, 1e6)


@given(error=ERROR, difference=SHARE, interval=st.tuples(SHARE, SHARE).map(sorted))
def test_no_figure_is_made_up(
    air_quality: Pipeline, error: float, difference: float, interval: list[float]
) -> None:
    """Every number of the card's quality stands in `metrics.json`, rounded or as a percentage."""
    metrics = evaluated(**errors(error), comparison=compared(difference, *interval))
    card = model_card(model_version(3, metrics=metrics), None, air_quality)
    text = card.partition("## How good it is\n")[2].partition("\n## What it had to pass")[0]
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|\bv\d+|PM2.5|NH3", "", text)
    shown = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text)
    assert len(shown) > 20
    known = forms_of(metrics)
    assert [number for number in shown if number not in known] == []


def forms_of(value: Any) -> set[str]:
    """Each number within a value in the forms in which the card may show it."""
    if isinstance(value, dict):
        return set().union(*map(forms_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(forms_of, value))
    if isinstance(value, bool | str | None):
        return set()
    size = abs(value)
    return {
        rounded(size, 4),
        f"{size:,.0f}",
        percent(size).strip(f"< %{NO_BREAK}").replace(NO_BREAK, ""),
    }


HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("|`*_[]()<>#~\\\r\n!&$- "),
        st.characters(exclude_categories=["Cs"]),  # half a character is in no record
    ),
    max_size=30,
)


@given(HOSTILE)
def test_a_name_cannot_break_out_of_its_cell(air_quality: Pipeline, name: str) -> None:
    another = "longer than any name that is made up here"
    metrics = {"feature_importance": {name: 0.75, another: 0.25}}
    card = model_card(model_version(3, metrics=metrics), None, air_quality)
    rows = rows_of(card, "What it looks at")
    assert [len(row) for row in rows] == [2, 2, 2, 2]
    assert [row[1] for row in rows[2:]] == ["75 %", "25 %"]


def test_a_card_names_nobody_and_links_to_nothing_in_the_data(air_quality: Pipeline) -> None:
    name = "@octocat & @o/team, fixes #12, :warning: see https://evil.example"
    metrics = {"feature_importance": {name: 1.0}}
    card = model_card(model_version(3, metrics=metrics, reason=name), None, air_quality)
    assert card.count("octocat") == 2
    assert not re.search(r"@\w|#\d|:warning:|://evil", card)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_names_of_segments_and_findings_stay_in_their_cells(
    air_quality: Pipeline, name: str, column: str, finding: str
) -> None:
    gate = evaluated()["gate"]
    guards = [{"name": name, "passed": False, "finding": finding}]
    card = card_of(
        air_quality,
        PLOT_FILES,
        segments=[segment(name, 84)],
        segment_column=column,
        gate=gate | {"guards": guards},
    )
    assert [len(row) for row in rows_of(card, "Where it errs")] == [7, 7, 7]
    assert [len(row) for row in rows_of(card, "What it had to pass")] == [3, 3, 3]
    assert rows_of(card, "What it had to pass")[2][1] == "**no**"


@given(HOSTILE)
def test_a_pictures_words_cannot_leave_their_attribute(air_quality: Pipeline, column: str) -> None:
    card = card_of(air_quality, PLOT_FILES, segment_column=column)
    (line,) = (line for line in card.splitlines() if "<img" in line and "error_by" in line)
    tags: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, pairs: tags.append((tag, dict(pairs)))  # type: ignore[method-assign]
    parser.feed(line)
    ((tag, attributes),) = tags
    assert (tag, set(attributes)) == ("img", {"alt", "src", "width"})
    words = f"mean absolute error by {column}, v3 against champion v2"
    assert attributes["alt"] == " ".join(words.split())


@given(HOSTILE)
def test_a_reason_stays_text_on_its_line(air_quality: Pipeline, reason: str) -> None:
    card = model_card(model_version(3, reason=reason), None, air_quality)
    (line,) = (line for line in card.splitlines() if line.startswith("Promoted: "))
    assert not re.search(r"(?<!\\)[`*\[\]<>|#]", re.sub(r"\\\\", "", line))


def code_of(card: str) -> str:
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture
def published(
    air_quality: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A folder with the files of a model that always says 7, and rows to predict from."""
    joblib.dump(DummyRegressor(strategy="constant", constant=7.0).fit([[0]], [7]), tmp_path / "m")
    files = bundle(model_version(3), (tmp_path / "m").read_bytes(), None, air_quality)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return {"rows": np.zeros((2, 1))}


def test_the_lines_on_how_to_use_it_work(published: dict[str, Any]) -> None:
    exec(code_of(Path("README.md").read_text()), published)  # noqa: S102
    assert published["predictions"].tolist() == [7.0, 7.0]


def test_they_refuse_a_model_that_was_altered(published: dict[str, Any]) -> None:
    with Path("model.joblib").open("ab") as model:
        model.write(b"!")
    with pytest.raises(ValueError, match=r"not the file that manifest\.json names"):
        exec(code_of(Path("README.md").read_text()), published)  # noqa: S102
    assert "model" not in published
