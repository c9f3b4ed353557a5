"""Recorded batches through the handlers, in memory."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.replay import view
from services.cli.replay.memory_store import MemoryStore
from services.cli.replay.play import (
    Played,
    Replayed,
    play_batch,
    recorded_files,
    replay,
    replay_resources,
)
from services.cli.replay.policies import NAMES, Policy, chosen_policy, named_policy
from shared.failures import WillNotPass
from shared.pipeline import Pipeline, PipelineError
from shared.records import Batch
from tests.air_quality_rows import RECORDED, raw_rows, with_training

SEASONS = (
    ("2024-04-10 12:00", 50.0, 0.45),
    ("2025-09-04 21:00", 20.0, 0.30),  # the clean monsoon
    ("2025-12-09 21:00", 95.0, 0.62),  # winter
)
"""Hour, level, and how far up its range the average lies."""


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    """That a model loads in a fresh process, and its plots, are for the trainer's tests to show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.trainer.train.render_plots", lambda *_: {})
        patch.setattr("services.trainer.train.why_not_usable", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def seasons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recorded answers, months apart."""
    folder = tmp_path_factory.mktemp("seasons")
    for hour, level, lean in SEASONS:
        rows = raw_rows(60, hour=hour, level=level, lean=lean)
        rows.to_csv(folder / f"{hour[:10]}.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def quick(air_quality: Pipeline) -> Pipeline:
    """The default pipeline with fewer trees, and one column to watch."""
    drift = air_quality.drift.model_copy(
        update={"columns": ("pollutant_avg",), "segment": None, "windows": (1,)}
    )
    fewer = with_training(air_quality, parameters={"n_estimators": 20, "min_samples_leaf": 5})
    return fewer.model_copy(update={"drift": drift})


@pytest.fixture(scope="module")
def played(one_process: None, seasons: Path, quick: Pipeline) -> dict[str, Replayed]:
    """The policies on the three seasons."""
    files = recorded_files(seasons)
    return {
        name: Replayed(name, "mae", tuple(replay(files, named_policy(name, quick))))
        for name in ("never", "always", "original", "default")
    }


def decisions(batches: Sequence[Played]) -> str:
    return "".join("P" if each.promoted else "r" if each.trained else "-" for each in batches)


def test_every_policy_begins_with_the_same_step(played: dict[str, Replayed]) -> None:
    for each in played.values():
        assert each.batches[0].error is None
        assert each.batches[0].promoted
        assert [batch.rows for batch in each.batches] == [360] * 3


def test_never_keeps_the_first_model(played: dict[str, Replayed]) -> None:
    never = played["never"]
    assert decisions(never.batches) == "P--"
    assert (never.trainings, never.promotions) == (1, 1)
    assert never.published_bytes == never.batches[0].published_bytes > 0


def test_always_trains_and_promotes_on_every_batch(played: dict[str, Replayed]) -> None:
    assert decisions(played["always"].batches) == "PPP"


def test_original_trains_where_its_rule_says_so(played: dict[str, Replayed]) -> None:
    for batch in played["original"].batches[1:]:
        assert batch.promoted == batch.trained == batch.drift


def test_mean_is_that_of_the_batches(played: dict[str, Replayed]) -> None:
    errors = [batch.error for batch in played["never"].batches[1:]]
    assert all(error is not None and math.isfinite(error) for error in errors)
    assert played["never"].error == pytest.approx(sum(filter(None, errors)) / 2)


def test_default_is_not_misled_by_the_season(played: dict[str, Replayed]) -> None:
    """Winter after the monsoon: a forest that takes the month for a fact expects clean air."""
    winter = {name: each.batches[-1].error or math.inf for name, each in played.items()}
    assert winter["default"] < winter["always"]
    assert winter["default"] < winter["original"]


def test_default_beats_doing_nothing_and_the_newest_batch_alone(
    played: dict[str, Replayed],
) -> None:
    default = played["default"].error or math.inf
    assert default < (played["never"].error or 0)
    assert default < (played["original"].error or 0)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not RECORDED.exists(), reason="no recorded answers beside this checkout")
def test_default_on_recorded_answers_reaches_its_aim(air_quality: Pipeline) -> None:
    """The same as above on real input: mean absolute error at most 6.5, always retraining 6.6."""
    files = recorded_files(RECORDED)
    default = Replayed("default", "mae", tuple(replay(files, Policy("default", air_quality))))
    assert (default.error or math.inf) <= 6.5


DAILY = Pipeline.model_validate(
    {
        "name": "daily",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "day": {"type": "time"},
                "x1": {"type": "number"},
                "x2": {"type": "number"},
                "y": {"type": "number"},
            },
            "event_time": "day",
        },
        "training": {
            "target": "y",
            "task": "regression",
            "features": ["x1", "x2"],
            "estimator": "elastic_net",
            "parameters": {"alpha": 0.01},
        },
    }
)


def write_months(folder: Path, months: int) -> None:
    """One row a day, one file a month; what x1 and x2 mean for y turns once in three years."""
    days = pd.date_range("2021-01-01", periods=months, freq="MS")
    days = pd.date_range(days[0], days[-1] + pd.offsets.MonthEnd())
    rng = np.random.default_rng(5)
    x1, x2 = rng.normal(size=(2, len(days)))
    turn = 2 * np.pi * np.arange(len(days)) / (3 * 365)
    y = 3 * np.cos(turn) * x1 + 3 * np.sin(turn) * x2 + rng.normal(0, 0.5, len(days))
    rows = pd.DataFrame({"day": days, "x1": x1, "x2": x2, "y": y})
    for month, part in rows.groupby(rows["day"].dt.strftime("%Y-%m")):
        part.to_csv(folder / f"{month}.csv", index=False)


@pytest.mark.timeout(300)
def test_default_learns_from_batches_of_a_month_of_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of such a batch has fewer rows than the gate asks for."""
    monkeypatch.setattr("services.trainer.train.render_plots", lambda *_: {})
    write_months(tmp_path, 15)
    files = recorded_files(tmp_path)
    always, default, never = (
        list(replay(files, named_policy(name, DAILY))) for name in ("always", "default", "never")
    )
    assert {batch.rows for batch in default} <= {28, 29, 30, 31}
    assert decisions(default).count("P") > 2
    judged = [number for number, batch in enumerate(default) if batch.error is not None]
    errors = {
        name: np.mean([batches[number].error or 0.0 for number in judged])
        for name, batches in (("always", always), ("default", default), ("never", never))
    }
    assert errors["default"] <= errors["always"] < errors["never"]


def _days(begin: int, count: int, targets: int) -> pd.DataFrame:
    """Days of which the first few have a target."""
    days = pd.date_range("2025-01-01", periods=begin + count)[begin:]
    x = np.arange(begin, begin + count) % 7 / 7.0
    known = np.arange(count) < targets
    return pd.DataFrame({"day": days, "x1": x, "x2": -x, "y": np.where(known, 2 * x, np.nan)})


def test_a_first_model_waits_for_targets_and_is_made_when_they_come(tmp_path: Path) -> None:
    """Rows, further rows, the targets of some and then of more; the first days again each time."""
    tables = [
        _days(0, 90, targets=0),
        _days(90, 60, targets=0),
        _days(0, 90, targets=39),
        _days(0, 90, targets=40),
        _days(150, 30, targets=30),
    ]
    keyed = DAILY.model_copy(update={"data": DAILY.data.model_copy(update={"key": ("day",)})})
    store = MemoryStore()
    resources = replay_resources(keyed, store)
    played, awaited = [], []
    for number, table in enumerate(tables):
        file = tmp_path / f"{number}.csv"
        table.to_csv(file, index=False)
        played.append(play_batch(file, Policy("default", keyed), resources))
        awaited.append(store.targets_awaited("daily"))
    assert [each.trained for each in played[:4]] == [False, False, False, True]
    assert played[3].promoted
    assert played[3].rows == 0, "a batch of targets alone"
    assert played[0].reason == "A first reference needs at least 100 rows; there are 90."
    assert [each and each.rows_with_target for each in awaited] == [None, 0, 39, None, None]
    assert awaited[1]
    assert awaited[2]
    second = store.newest(Batch, {"pipeline": "daily", "sequence": 2}, "sequence")
    assert second
    assert awaited[1].since == awaited[2].since == second.recorded_at
    assert played[2].reason == (
        f"waiting for targets since {second.recorded_at:%Y-%m-%d %H:%M} UTC: 39 of 150 rows have "
        "one, and a first model needs at least 40"
    )


def test_a_first_model_waits_for_a_second_group(tmp_path: Path) -> None:
    """Without an event time all rows of one group stay together, and half cannot be held out."""
    columns = {"plant": {"type": "category"}, "x1": {"type": "number"}, "y": {"type": "number"}}
    training = DAILY.training.model_dump() | {"features": ["plant", "x1"], "group": ["plant"]}
    pipeline = Pipeline.model_validate(
        {
            "name": "plants",
            "source": {"kind": "manual"},
            "schema": {"columns": columns},
            "training": training,
        }
    )
    x = np.arange(150) / 150
    resources = replay_resources(pipeline, MemoryStore())
    played = []
    for plant in ("north", "south"):
        file = tmp_path / f"{plant}.csv"
        pd.DataFrame({"plant": plant, "x1": x, "y": 2 * x}).to_csv(file, index=False)
        played.append(play_batch(file, Policy("default", pipeline), resources))
    assert [each.trained for each in played] == [False, True]
    assert played[0].reason == (
        "A first model needs at least two groups (training.group: plant), and all rows so far "
        "have the same plant."
    )


def test_gate_of_the_pipeline_is_the_gate_of_the_replay(seasons: Path, quick: Pipeline) -> None:
    """One that nothing passes: no model is asked for, and the reason says why."""
    strict = quick.model_copy(update={"gate": quick.gate.model_copy(update={"min_groups": 10_000})})
    batches = list(replay(recorded_files(seasons), Policy("strict", strict)))
    assert "P" not in decisions(batches)
    assert "a first model needs at least 20,000" in batches[0].reason


def test_the_same_replay_twice_gives_the_same_figures(
    played: dict[str, Replayed], seasons: Path, quick: Pipeline
) -> None:
    again = list(replay(recorded_files(seasons)[:2], named_policy("default", quick)))
    assert [(each.error, each.promoted) for each in again] == [
        (each.error, each.promoted) for each in played["default"].batches[:2]
    ]


def test_file_that_is_no_table_of_the_pipeline_is_named(tmp_path: Path, quick: Pipeline) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    with pytest.raises(WillNotPass, match="no column"):
        list(replay(recorded_files(tmp_path), Policy("default", quick)))


def test_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no table")
    with pytest.raises(WillNotPass, match=r"no table here .*\.csv"):
        recorded_files(tmp_path)


def test_files_are_played_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("2025-02.csv", "2024-12.csv.gz", "2025-01.parquet", "readme.md"):
        (tmp_path / name).touch()
    assert [file.name for file in recorded_files(tmp_path)] == [
        "2024-12.csv.gz",
        "2025-01.parquet",
        "2025-02.csv",
    ]


def test_policy_may_be_another_pipelines_file(quick: Pipeline) -> None:
    parcels = Path(__file__).parents[3] / "examples" / "parcels" / "parcels.yaml"
    assert chosen_policy(str(parcels), quick).pipeline.name == "parcels"


@pytest.mark.parametrize(
    ("name", "said"), [("sometimes", "never, always, original"), ("no.yaml", "no.yaml")]
)
def test_unknown_policy_says_which_there_are(name: str, said: str, quick: Pipeline) -> None:
    with pytest.raises(PipelineError, match=said):
        chosen_policy(name, quick)


def test_policies_share_data_features_and_estimator(quick: Pipeline) -> None:
    for name in NAMES:
        policy = named_policy(name, quick).pipeline
        assert policy.data == quick.data
        assert policy.training.features == quick.training.features
        assert policy.training.parameters == quick.training.parameters


def test_memory_store_refuses_bytes_that_it_does_not_have() -> None:
    with pytest.raises(WillNotPass, match="no bytes"):
        MemoryStore().blob("0" * 64)


def test_json_has_every_figure(played: dict[str, Replayed]) -> None:
    content = json.loads(json.dumps(view.as_json(list(played.values()))))
    assert [each["policy"] for each in content] == list(played)
    assert content[0]["batches"][1]["error"] == played["never"].batches[1].error


def test_plot_is_a_picture(played: dict[str, Replayed], tmp_path: Path) -> None:
    view.plot(list(played.values()), tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_command_prints_both_tables(seasons: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(seasons), "--policy", "never"])
    assert result.exit_code == 0, result.output
    assert "mean error" in result.stdout
    assert "2025-12-09" in result.stdout


def test_command_as_json_prints_one_list(seasons: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(seasons), "--policy", "never", "--json"])
    assert [each["policy"] for each in json.loads(result.stdout)] == ["never"]
