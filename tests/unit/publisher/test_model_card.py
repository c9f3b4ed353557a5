"""The model card."""

import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyRegressor

from services.publisher.bundle import bundle
from services.publisher.model_card import model_card
from shared.pipeline import Pipeline
from tests.integration.publisher.promotions import drift_report, model_version


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
    assert "500 rows: 400 to learn from, 100 held out to judge on (2026-01-01T00:00 to 20" in card
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
    ("figure", "shown"), [(0.000123456, "0.0001235"), (123456.7, "123,457"), (1e300, "1e+300")]
)
def test_figures_stay_readable(air_quality: Pipeline, figure: float, shown: str) -> None:
    card = model_card(model_version(3, metrics={"mse": figure}), None, air_quality)
    assert rows_of(card, "How good it is")[2][1] == shown


HOSTILE = st.text(
    alphabet=st.one_of(st.sampled_from("|`*_[]()<>#~\\\r\n!&$- "), st.characters()), max_size=30
)


@given(HOSTILE)
def test_a_name_cannot_break_out_of_its_cell(air_quality: Pipeline, name: str) -> None:
    another = "longer than any name that is made up here"
    metrics = {"feature_importance": {name: 0.75, another: 0.25}}
    card = model_card(model_version(3, metrics=metrics), None, air_quality)
    rows = rows_of(card, "What it looks at")
    assert [len(row) for row in rows] == [2, 2, 2, 2]
    assert [row[1] for row in rows[2:]] == ["75.0%", "25.0%"]


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
    with pytest.raises(AssertionError):
        exec(code_of(Path("README.md").read_text()), published)  # noqa: S102
    assert "model" not in published
