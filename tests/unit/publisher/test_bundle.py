"""The files of a publication."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.publisher.bundle import FILE_NAMES, Files, bundle
from services.publisher.model_card import PLOT_FILES
from shared.artifacts import sha256
from shared.failures import WillNotPass
from shared.pipeline import Pipeline, Publish
from shared.records import DriftReport
from tests.integration.publisher.promotions import drift_report, model_bytes, model_version

PLOTS = {name: f"PNG of {name}".encode() for name in PLOT_FILES}


def files_of(
    pipeline: Pipeline,
    report: DriftReport | None,
    limit: int = 100_000,
    plots: Mapping[str, bytes] = PLOTS,
    **changes: Any,
) -> Files:
    pipeline = pipeline.model_copy(update={"publish": Publish(max_file_bytes=limit)})
    return bundle(model_version(3, **changes), model_bytes(3), report, pipeline, plots=plots)


def test_all_files_are_there_and_the_model_is_as_it_was(air_quality: Pipeline) -> None:
    files = files_of(air_quality, drift_report(3))
    assert set(files) == set(FILE_NAMES)
    assert {name: files[name] for name in PLOT_FILES} == PLOTS
    assert files["model.joblib"] == model_bytes(3)
    assert json.loads(files["metrics.json"]) == model_version(3).metrics


def test_the_manifest_names_every_other_file_with_its_hash(air_quality: Pipeline) -> None:
    files = files_of(air_quality, drift_report(3))
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["files"] == {
        name: {"sha256": sha256(content), "bytes": len(content)} for name, content in files.items()
    }
    assert manifest["sealed_sha256"] == sha256(model_bytes(3))
    assert manifest["pipeline"] == "air_quality"
    assert manifest["model_version"] == 3
    assert manifest["trace_id"] == model_version(3).trace_id
    assert manifest["versions"] == {"python": "3.11.2", "scikit-learn": "1.7.0"}


def test_the_drift_report_has_what_readers_of_the_original_expect(air_quality: Pipeline) -> None:
    report = json.loads(files_of(air_quality, drift_report(3))["drift_report.json"])
    assert report["drift_score"] == 0.33
    assert report["needs_retraining"] is True
    assert report["feature_drifts"] == {"pollutant_min": 0.05, "pollutant_max": 0.61}
    stats = report["feature_stats"]["pollutant_max"]
    assert {key: stats[key] for key in ("ref_mean", "curr_mean", "ref_std", "curr_std")} == {
        "ref_mean": 82.125,
        "curr_mean": 132.5,
        "ref_std": 10.0,
        "curr_std": None,
    }
    assert report["timestamp"] == "2026-01-01T12:30:00Z"
    identity = ("batch_id", "reference_version", "pipeline", "policy", "sequence", "threshold")
    assert all(report[key] is not None for key in identity)
    assert not {"_id", "id", "handled_seconds"} & set(report)


def test_a_report_that_is_not_kept_any_more_is_left_out(air_quality: Pipeline) -> None:
    files = files_of(air_quality, None)
    assert set(FILE_NAMES) - set(files) == {"drift_report.json"}
    assert "drift_report.json" not in json.loads(files["manifest.json"])["files"]


@given(st.sets(st.sampled_from(PLOT_FILES)))
def test_plots_that_are_not_there_stay_away_and_stop_nothing(
    air_quality: Pipeline, there: set[str]
) -> None:
    plots = {name: PLOTS[name] for name in there}
    files = files_of(air_quality, None, plots=plots)
    assert {name for name in files if name.startswith("plots/")} == there
    shown = set(re.findall(r'(?:srcset|src)="(.+?)"', files["README.md"].decode()))
    assert shown <= there
    assert set(json.loads(files["manifest.json"])["files"]) == set(files) - {"manifest.json"}


@pytest.mark.parametrize("name", ["../README.md", "plots/other.png", "model.joblib", "README.md"])
def test_a_plot_of_another_name_is_no_file(air_quality: Pipeline, name: str) -> None:
    plots = {name: b"another"}
    assert files_of(air_quality, None, plots=plots) == files_of(air_quality, None, plots={})


def test_a_plot_over_the_limit_is_left_out(air_quality: Pipeline) -> None:
    large = {PLOT_FILES[0]: bytes(100_001), PLOT_FILES[1]: bytes(100_000)}
    assert set(files_of(air_quality, None, plots=large)) & set(PLOT_FILES) == {PLOT_FILES[1]}


def test_the_same_records_give_the_same_bytes_whatever_the_order_of_keys(
    air_quality: Pipeline,
) -> None:
    turned = dict(reversed(model_version(3).metrics.items()))
    first = files_of(air_quality, drift_report(3))
    assert files_of(air_quality, drift_report(3), metrics=turned) == first


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_figures_are_kept_to_the_last_digit(air_quality: Pipeline, figure: float) -> None:
    files = files_of(air_quality, None, metrics={"mae": figure})
    assert json.loads(files["metrics.json"]) == {"mae": figure}


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_json_does_not_know_is_refused(air_quality: Pipeline, figure: float) -> None:
    with pytest.raises(WillNotPass, match=r"metrics\.json"):
        files_of(air_quality, None, metrics={"mae": figure})


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (len(model_bytes(3)) - 1, ("model.joblib", "min_samples_leaf", "n_estimators")),
        (1, ("publish.max_file_bytes = 1",)),
    ],
)
def test_a_file_over_the_limit_says_what_to_set(
    air_quality: Pipeline, limit: int, said: tuple[str, ...]
) -> None:
    with pytest.raises(WillNotPass) as refusal:
        files_of(air_quality, None, limit)
    assert all(words in str(refusal.value) for words in (*said, "publish.max_file_bytes"))


def test_a_file_at_the_limit_is_taken(air_quality: Pipeline) -> None:
    sizes = [len(content) for content in files_of(air_quality, None).values()]
    assert files_of(air_quality, None, max(sizes))


def test_a_large_metrics_file_is_not_blamed_on_the_model(air_quality: Pipeline) -> None:
    importance = {f"feature_{number}": 0.001 for number in range(1000)}
    with pytest.raises(WillNotPass, match=r"metrics.json .* fewer features"):
        files_of(air_quality, None, 5_000, metrics={"mae": 1.0, "feature_importance": importance})
