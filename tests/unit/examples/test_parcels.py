"""The second example: its files fit its pipeline, and only its last batch has drifted."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss

from services.drift import Profile, check
from services.drift.tables.roles import roles_of
from shared.pipeline import NumberColumn, Pipeline, load_pipeline, load_pipelines

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "parcels"
FILES = ("reference.csv", "batches/1.csv", "batches/2.csv", "batches/3.csv")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(FOLDER / "parcels.yaml")


@pytest.fixture(scope="module")
def tables(pipeline: Pipeline) -> dict[str, pd.DataFrame]:
    """The rows of each file."""
    missing = list(pipeline.data.missing)
    return {name: pd.read_csv(FOLDER / name, na_values=missing) for name in FILES}


def test_the_pipeline_stands_beside_the_default_one(pipeline: Pipeline) -> None:
    default = load_pipelines(ROOT / "pipelines")["air_quality"]
    assert pipeline.training.task == "classification"
    assert pipeline.publish.branch != default.publish.branch
    assert not set(pipeline.data.columns) & set(default.data.columns)


def test_the_committed_files_are_those_that_the_generator_makes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_data", FOLDER / "make_data.py")
    assert spec
    assert spec.loader
    make_data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_data)
    make_data.write_all(tmp_path)
    assert all((tmp_path / name).read_bytes() == (FOLDER / name).read_bytes() for name in FILES)


def test_the_files_have_the_columns_of_the_schema(
    pipeline: Pipeline, tables: dict[str, pd.DataFrame]
) -> None:
    rows = pd.concat(tables.values())
    assert list(rows) == list(pipeline.data.columns)
    assert all(rows[name].dtype.kind in "if" for name in pipeline.data.of_type(NumberColumn))
    assert set(rows["outcome"]) == {"on_time", "late"}


def test_no_parcel_stands_in_two_files_and_files_follow_in_time(
    tables: dict[str, pd.DataFrame],
) -> None:
    rows = pd.concat(tables.values())
    assert rows["parcel"].is_unique
    assert rows["handed_over"].is_monotonic_increasing


def test_only_the_last_batch_has_drifted(
    pipeline: Pipeline, tables: dict[str, pd.DataFrame]
) -> None:
    reference, *batches = tables.values()
    profile = Profile.fit(reference, roles=roles_of(pipeline))
    verdicts = [check(profile, batch, settings=pipeline.drift).verdict for batch in batches]
    assert verdicts == ["no drift", "no drift", "drift"]


def test_a_model_that_learned_from_the_drifted_batch_is_better(
    pipeline: Pipeline, tables: dict[str, pd.DataFrame]
) -> None:
    rows = pd.concat(tables.values(), ignore_index=True)
    held_out = int(len(rows) * pipeline.training.test_share)
    features = pd.get_dummies(rows[list(pipeline.training.features)]).fillna(0)
    late = (rows["outcome"] == "late").to_numpy()
    losses = []
    for known in (len(tables["reference.csv"]), len(rows) - held_out):
        model = RandomForestClassifier(50, min_samples_leaf=5, random_state=42)
        model.fit(features[:known], late[:known])
        predicted = model.predict_proba(features[-held_out:])
        losses.append(log_loss(late[-held_out:], predicted))
    before, after = losses
    assert np.isfinite(before)
    assert after < 0.9 * before
