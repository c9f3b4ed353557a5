"""The commands about model versions, against a store, a broker and a model that are real."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.trainer.train import train_model
from shared.events import (
    ModelPromoted,
    RetrainRequested,
    effect_id,
    first_event_fields,
)
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.pipeline import load_pipeline
from shared.records import Batch, ModelVersion, Publication
from shared.settings import Settings
from shared.store import Store
from shared.work import Work
from tests.integration.cli.conftest import PARCELS, Run
from tests.integration.plain_records import check_of
from tests.integration.publisher.promotions import NOW, model_bytes, model_version, promotion
from tests.keys import AUTHENTICATOR, authenticate
from tests.unit.publisher.evaluated import evaluated, segment


def as_json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def words(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def keep(store: Store, version: int, **changes: Any) -> ModelVersion:
    """A version of the pipeline `parcels`; a promoted one is published."""
    fields = {
        "id": f"trainer:{version}",
        "pipeline": "parcels",
        "metrics": evaluated(champion=None),
        "window": f"{version:064}",
    }
    model = model_version(version, **(fields | changes))
    store.put_blob(model_bytes(version))
    store.record(model, [promotion(model)] if model.decision == "promoted" else [])
    if model.decision == "promoted":
        publication = Publication(
            _id=f"publisher:{version}",
            pipeline="parcels",
            trace_id=model.trace_id,
            recorded_at=NOW,
            model_version=version,
            commit=f"{version:040}",
            branch="main",
            tag=f"parcels/v{version}",
            repository="/models.git",
            url=None,
        )
        store.record(publication)
    return model


@pytest.fixture
def versions(store: Store) -> None:
    """v1, v2, v3 rejected, v4 better than v2, v5 restores v2."""
    keep(store, 1)
    second = keep(store, 2)
    keep(store, 3, decision="rejected", reason="worse than v2 in PM2.5")
    keep(store, 4, metrics=evaluated(), reason="mean absolute error 6.457")
    changes = second.model_dump(include={"metrics", "model", "window", "model_bytes"})
    keep(store, 5, **changes, restores=2, reason="a person rolled back from v4 to v2")


@pytest.mark.usefixtures("versions")
def test_the_list_says_what_each_version_is_and_why(run: Run) -> None:
    lines = run("models").stdout.partition("Commits on the")[0].splitlines()
    why: dict[str, str] = {}
    current = ""
    for line in lines[lines.index(next(line for line in lines if line.startswith("v1"))) :]:
        if row := re.match(r"(v\d) +\d+  (champion|former champion|rejected) ", line):
            current = row[1]
            why[current] = row[2]
        elif line.strip():
            why[current] += f" {line.strip()}"
    given = "mean absolute error 6.457, not worse than before"
    assert why == {
        "v1": f"former champion {given}",
        "v2": f"former champion {given}",
        "v3": "rejected worse than v2 in PM2.5",
        "v4": "former champion mean absolute error 6.457",
        "v5": "champion It restores v2: a person rolled back from v4 to v2",
    }


@pytest.mark.usefixtures("versions")
def test_the_list_as_json_has_the_newest(run: Run) -> None:
    listed = as_json(run("models", "--json", "--limit", "2"))
    assert [each["version"] for each in listed] == [5, 4]
    assert listed[0]["restores"] == 2


@pytest.mark.usefixtures("versions")
def test_an_option_in_the_wrong_place_is_refused_rather_than_ignored(home: Path) -> None:
    done = CliRunner().invoke(app, ["models", "--home", str(home), "show", "4"])
    assert done.exit_code == 2
    assert "write options behind 'show'" in done.output


@pytest.mark.usefixtures("versions")
def test_one_version_is_shown_with_every_figure(run: Run) -> None:
    said = words(run("models", "show", "4"))
    for part in (
        "parcels v4: former champion",
        "champion v2",
        "mean absolute error (decides) 6.457 6.971 14.900",
        "Difference to the champion: -7.2 %, 95 % interval -12 % to -1.2 % (100 rows in 62 groups)",
        "Policy not_worse",
        "better than the baseline yes 6.457 to 14.9",
        "PM2.5 84 42 6.250 6.500 14.500 -4.2 %",
        "NH3 16 (few)",
        "half_life: 30d (policy auto), 2025-12-01 00:00 UTC to 2026-01-01 00:00 UTC",
        "half_life: 30d yes 6.625",
        "the newest, whole groups, 2026-01-01 00:00 UTC to 2026-01-02 00:00 UTC",
        "n_estimators 200",
        "12 of 24 tried",
        "tag parcels/v4",
        "pollutant_max 70 %, pollutant_min 30 %",
    ):
        assert part in said, part


@pytest.mark.usefixtures("versions")
def test_a_rejected_version_has_no_commit(run: Run) -> None:
    assert "none: it was rejected" in words(run("models", "show", "3"))


def test_a_version_recorded_by_an_older_trimtab_is_shown(run: Run, store: Store) -> None:
    figures = {
        "mae": 6.5,
        "r2_score": None,
        "data_stats": {"total_samples": 500, "training_samples": 400, "test_samples": 100},
        "champion": None,
    }
    keep(store, 1, metrics=figures)
    keep(store, 2, metrics=figures | {"mae": 6.0})
    assert "400 / 100" in words(run("models", "show", "1"))
    assert "-0.500" in words(run("models", "compare", "1", "2"))


@pytest.mark.usefixtures("versions")
def test_show_as_json_adds_state_and_commit(run: Run) -> None:
    shown = as_json(run("models", "show", "5", "--json"))
    assert shown["state"] == "champion, restores v2"
    assert shown["publication"]["commit"] == f"{5:040}"
    assert shown["metrics"]["deciding_metric"] == "mae"


@pytest.mark.parametrize("command", [["show"], ["compare", "1"], ["load", "-o", "x"]])
@pytest.mark.usefixtures("versions")
def test_a_version_that_is_not_there(run: Run, command: list[str]) -> None:
    assert "parcels has no model v9" in str(run("models", *command, "9").exception)


@pytest.mark.usefixtures("versions")
def test_two_versions_that_were_judged_on_the_same_rows(run: Run) -> None:
    found = as_json(run("models", "compare", "2", "4", "--json"))
    assert found["same_rows"] is True
    mae = next(each for each in found["metrics"] if each["name"] == "mae")
    assert (mae["first"], mae["second"]) == (6.9714, 6.4571)
    assert mae["difference"] == pytest.approx(-0.5143)
    assert found["segments"][0] == {
        "name": "PM2.5",
        "first": 6.5,
        "second": 6.25,
        "difference": -0.25,
        "rows": [84, 84],
    }
    said = words(run("models", "compare", "2", "4"))
    assert "Both judged on the 100 rows held out for v4, 2026-01-01 00:00 UTC" in said
    assert "-0.514 -7.4 %" in said


@pytest.mark.usefixtures("versions")
def test_the_order_of_two_versions_turns_the_difference(run: Run) -> None:
    found = as_json(run("models", "compare", "4", "2", "--json"))
    mae = next(each for each in found["metrics"] if each["name"] == "mae")
    assert (mae["first"], mae["second"]) == (6.4571, 6.9714)
    assert found["same_rows"] is True


@pytest.mark.usefixtures("versions")
def test_a_restoration_is_compared_as_what_it_restores(run: Run) -> None:
    assert as_json(run("models", "compare", "5", "4", "--json"))["same_rows"] is True
    found = as_json(run("models", "compare", "2", "5", "--json"))
    assert found["same_rows"] is True
    assert {each["difference"] for each in found["metrics"]} <= {0.0, None}


def test_versions_judged_on_other_rows_are_not_comparable(run: Run, store: Store) -> None:
    keep(store, 1, metrics=evaluated(champion=None, segments=[segment("CO", 40)]))
    keep(store, 2)
    assert as_json(run("models", "compare", "1", "2", "--json"))["same_rows"] is False
    said = words(run("models", "compare", "1", "2"))
    assert "Judged on different rows" in said
    assert "say little" in said
    assert "CO 6.250 – – – 40 / –" in said


@pytest.mark.usefixtures("versions")
def test_a_loaded_model_has_the_recorded_hash(run: Run, tmp_path: Path, store: Store) -> None:
    file = tmp_path / "model.joblib"
    assert "SHA-256 as recorded" in words(run("models", "load", "4", "-o", str(file)))
    model = store.newest(ModelVersion, {"version": 4}, "version")
    assert model
    assert file.read_bytes() == model_bytes(4)
    loaded = as_json(run("models", "load", "4", "-o", str(file), "--json"))
    assert loaded["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() == model.model
    assert loaded["seal_verified"] is False


@pytest.mark.usefixtures("versions")
def test_with_the_key_at_hand_the_seal_is_checked_before_a_byte_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.joblib"
    monkeypatch.setenv("MODEL_SIGNING_KEY", "a signing key for tests only")
    assert as_json(run("models", "load", "4", "-o", str(file), "--json"))["seal_verified"] is True
    file.unlink()
    monkeypatch.setenv("MODEL_SIGNING_KEY", "another key of 16 letters")
    assert "the seal of its record" in str(run("models", "load", "4", "-o", str(file)).exception)
    assert not file.exists()


@pytest.mark.usefixtures("versions")
def test_bytes_that_were_altered_in_the_store_are_not_written(
    run: Run, tmp_path: Path, store: Store
) -> None:
    store.database["blobs.chunks"].update_many({}, {"$set": {"data": b"other"}})
    done = run("models", "load", "4", "-o", str(tmp_path / "model.joblib"))
    assert isinstance(done.exception, Exception)
    assert not (tmp_path / "model.joblib").exists()


@pytest.mark.usefixtures("versions")
def test_a_folder_that_is_not_there(run: Run, tmp_path: Path) -> None:
    done = run("models", "load", "4", "-o", str(tmp_path / "none" / "m.joblib"))
    assert "cannot write" in str(done.exception)


@pytest.mark.usefixtures("versions")
def test_a_rollback_without_workers_is_stored(run: Run, store: Store) -> None:
    asked = run("rollback", "1", "--because", "a test")
    assert asked.exit_code == 5
    assert "is stored, and will be done when the workers run" in " ".join(asked.stdout.split())
    (under_way,) = Work(store.database, 30, AUTHENTICATOR).all()
    assert under_way["event"]["type"] == "RollbackRequested"
    assert (under_way["event"]["model_version"], under_way["event"]["champion_version"]) == (1, 5)
    reached = as_json(run("rollback", "1", "--because", "a test", "--json", "--no-wait"))
    assert (reached["state"], reached["restores"]) == ("stored", 1)
    assert len(Work(store.database, 30, AUTHENTICATOR).all()) == 1


@pytest.mark.usefixtures("versions")
def test_a_rollback_to_the_champion_does_nothing(run: Run, store: Store) -> None:
    said = words(run("rollback", "2", "--because", "a test"))
    assert said.startswith("v2 of parcels is the champion already as v5: commit 0000")
    assert said.endswith("nothing was done")
    assert Work(store.database, 30, AUTHENTICATOR).all() == []


@pytest.mark.usefixtures("versions")
def test_a_rollback_to_a_rejected_version_is_refused(run: Run) -> None:
    done = run("rollback", "3", "--because", "a test")
    assert isinstance(done.exception, WillNotPass)
    assert "worse than v2 in PM2.5" in str(done.exception)


def test_a_rollback_of_a_pipeline_without_models(run: Run) -> None:
    assert "parcels has no model v1" in str(run("rollback", "1", "--because", "a test").exception)


@pytest.fixture
def trained(run: Run, store: Store, settings: Settings) -> ModelVersion:
    """v1 of the example's parcels, trained on its reference."""
    as_json(
        run(
            "reference",
            "set",
            str(PARCELS / "reference.csv"),
            "--because",
            "a test",
            "--json",
            "--no-wait",
        )
    )
    batch = store.newest(Batch, {}, "sequence")
    assert batch
    assert batch.sequence
    (ingested,) = store.events_of(batch)
    store.record(check_of(ingested, verdict="reference set", sequence=batch.sequence))
    request = RetrainRequested(
        **first_event_fields("parcels", "a test"), reason="reference_set", sequence=batch.sequence
    )
    pipeline = load_pipeline(PARCELS / "parcels.yaml")
    outcome = train_model(request, pipeline, store, settings)
    assert isinstance(outcome.record, ModelVersion)
    assert isinstance(outcome.events[0], ModelPromoted)
    assert outcome.record.id == effect_id("trainer", request.event_id)
    store.record(outcome.record, outcome.events)
    return outcome.record


def test_a_version_predicts_its_rows_and_is_trained_again_from_its_record(
    run: Run, tmp_path: Path, store: Store, trained: ModelVersion
) -> None:
    file = tmp_path / "model.joblib"
    run("models", "load", "1", "-o", str(file))
    rows: pd.DataFrame = from_parquet(store.blob(trained.window))
    predicted = joblib.load(file).predict(rows)
    assert len(predicted) == len(rows)
    assert np.isin(predicted, rows[trained.lineage["training"]["target"]].unique()).all()
    made = as_json(run("models", "reproduce", "1", "--json"))
    assert made["same"] is True
    assert made["sha256"] == made["expected_sha256"]
    assert made["different_versions"] == {}
    assert "the same bytes" in words(run("models", "reproduce", "1"))


def test_other_rows_or_libraries_give_other_bytes_and_are_named(
    run: Run, store: Store, trained: ModelVersion
) -> None:
    training = trained.lineage["training"] | {"seed": trained.lineage["training"]["seed"] + 1}
    versions = trained.lineage["versions"] | {"scikit-learn": "1.0", "gone": "2"}
    changed = {"lineage.training": training, "lineage.versions": versions}
    store.collection(ModelVersion).update_one({"_id": trained.id}, {"$set": changed})
    authenticate(store)
    done = run("models", "reproduce", "1")
    assert done.exit_code == 1
    said = " ".join(done.stdout.split())
    assert "other bytes" in said
    assert "scikit-learn: 1.0 then, " in said
    assert "gone: 2 then, none now" in said


@pytest.mark.usefixtures("versions")
def test_a_record_that_does_not_say_how_it_was_made(run: Run) -> None:
    said = str(run("models", "reproduce", "4").exception)
    assert "v4 of parcels cannot be trained again" in said
