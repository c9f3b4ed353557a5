"""The committed schema of drift_report.json, and real reports against it."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

import services.drift.report
from services.drift import check
from services.drift.report.model import DriftReport, json_schema
from shared.drift import Drift

SCHEMA = Path(services.drift.report.__file__).with_name("drift_report.schema.json")
ORIGINAL_KEYS = {
    "needs_retraining",
    "drift_score",
    "threshold",
    "feature_drifts",
    "feature_stats",
    "timestamp",
}


def table(rows: int, shift: float = 0.0) -> pd.DataFrame:
    generator = np.random.default_rng(rows)
    return pd.DataFrame(
        {
            "level": generator.normal(shift, 1, rows),
            "place": generator.choice(["north", "south", "west"], rows),
        }
    )


def test_committed_schema_is_that_of_the_model() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == json_schema(), (
        "write services.drift.report.model.json_schema() to drift_report.schema.json"
    )


@pytest.mark.parametrize("policy", ["calibrated", "columns", "mean_change", "mean_std_change"])
@pytest.mark.parametrize("current", [table(300), table(300, shift=2), table(3), table(0)])
def test_reports_follow_the_schema_and_keep_the_original_keys(
    policy: str, current: pd.DataFrame
) -> None:
    settings = Drift.model_validate({"policy": policy})
    report = check(table(1000), current, settings=settings, segment="place")
    content = json.loads(report.model_dump_json())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(
        content
    )
    assert content.keys() >= ORIGINAL_KEYS
    assert DriftReport.model_validate(content) == report


def test_a_schema_violation_is_seen() -> None:
    content = json.loads(check(table(1000), table(300)).model_dump_json())
    content["verdict"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_a_notebook_shows_the_report_in_a_frame_of_its_own() -> None:
    shown = check(table(1000), table(300, shift=2))._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<html" not in shown  # escaped: the page's style cannot reach the notebook
