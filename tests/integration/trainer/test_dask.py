"""A fit on a Dask cluster of two worker processes, as the trainer uses one that is there."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import pytest
from sklearn.tree import DecisionTreeRegressor

from services.trainer.artifact import dump_model
from services.trainer.challenger import Recipe, fit_model
from services.trainer.fitting import parallel
from shared.failures import WillNotPass, WillPass
from shared.pipeline import Pipeline
from shared.settings import Settings, SettingsError, read_settings
from shared.training import Window
from tests.air_quality_rows import batch_rows, raw_rows, with_training

CLASSIFICATION = {
    "task": "classification",
    "metric": None,
    "target": "state",
    "features": ["longitude", "city"],
    "estimator": "extra_trees",
}

_CLUSTER = """
import sys, warnings
warnings.simplefilter("ignore")
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextmanager
def cluster_in(folder: Path) -> Iterator[tuple[str, int]]:
    """The address of a cluster in processes of its own, and their process group."""
    script = folder / "cluster.py"
    script.write_text(_CLUSTER)
    with subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster_in(tmp_path_factory.mktemp("dask")) as (address, _):
        yield address


def settings_with(**keys: object) -> Settings:
    return read_settings(redis_url="redis://unused", mongodb_uri="mongodb://unused", **keys)


def fitted(pipeline: Pipeline, settings: Settings, trees: int = 20) -> bytes:
    rows = batch_rows(raw_rows(), pipeline)
    rows = rows[rows[pipeline.training.target].notna()]
    recipe = Recipe(
        window=Window(policy="all"), time_parts=("hour",), parameters={"n_estimators": trees}
    )
    return dump_model(fit_model(rows, recipe, pipeline, settings).model)


@pytest.mark.parametrize("changes", [{}, CLASSIFICATION], ids=["regression", "classification"])
@pytest.mark.filterwarnings("default")
def test_forest_of_a_cluster_is_the_forest_of_this_process(
    changes: dict[str, object], scheduler: str, air_quality: Pipeline
) -> None:
    pipeline = with_training(air_quality, **changes)
    cluster = settings_with(trainer_joblib_backend="dask", trainer_dask_scheduler=scheduler)
    assert fitted(pipeline, cluster) == fitted(pipeline, settings_with())


@pytest.mark.filterwarnings("default")
def test_no_tree_is_grown_in_this_process(
    scheduler: str, air_quality: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a tree is grown here")

    monkeypatch.setattr(DecisionTreeRegressor, "_fit", refuse)
    with pytest.raises(WillNotPass, match="a tree is grown here"):
        fitted(air_quality, settings_with())
    cluster = settings_with(trainer_joblib_backend="dask", trainer_dask_scheduler=scheduler)
    assert fitted(air_quality, cluster)


@pytest.mark.filterwarnings("default")
def test_tasks_go_to_both_workers(scheduler: str) -> None:
    """What `fit` sets up spreads tasks over the cluster's processes, none of which is this one."""
    cluster = settings_with(trainer_joblib_backend="dask", trainer_dask_scheduler=scheduler)
    with parallel(cluster):
        where = joblib.Parallel(batch_size=1)(joblib.delayed(os.getpid)() for _ in range(200))
    assert len(set(where)) == 2
    assert os.getpid() not in where


@pytest.mark.filterwarnings("default")
def test_cluster_that_does_not_answer_may_answer_later(air_quality: Pipeline) -> None:
    nobody = settings_with(
        trainer_joblib_backend="dask", trainer_dask_scheduler="tcp://127.0.0.1:9"
    )
    with pytest.raises(WillPass, match=r"TRAINER_DASK_SCHEDULER: tcp://127\.0\.0\.1:9"):
        fitted(air_quality, nobody)


def end_while_it_works(address: str, group: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as watcher:
        while not any(watcher.processing().values()):
            time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)


@pytest.mark.filterwarnings("default")
def test_cluster_that_is_lost_during_a_fit_may_come_back(
    air_quality: Pipeline, tmp_path: Path
) -> None:
    with cluster_in(tmp_path) as (address, group):
        cluster = settings_with(trainer_joblib_backend="dask", trainer_dask_scheduler=address)
        end = threading.Thread(target=end_while_it_works, args=(address, group))
        end.start()
        with pytest.raises(WillPass, match=r"TRAINER_DASK_SCHEDULER: tcp://.* has failed"):
            fitted(air_quality, cluster, trees=5_000)
        end.join()


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    cluster = settings_with(
        trainer_joblib_backend="dask", trainer_dask_scheduler="tcp://127.0.0.1:9"
    )
    with pytest.raises(WillNotPass, match=r"needs trimtab\[dask\]"), parallel(cluster):
        pass


def test_dask_without_an_address_is_refused_at_start() -> None:
    with pytest.raises(SettingsError, match="TRAINER_DASK_SCHEDULER is not set"):
        settings_with(trainer_joblib_backend="dask")


def test_address_has_to_be_one() -> None:
    with pytest.raises(SettingsError, match="TRAINER_DASK_SCHEDULER"):
        settings_with(trainer_joblib_backend="dask", trainer_dask_scheduler="somewhere")
