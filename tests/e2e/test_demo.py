"""The demo: the whole loop over real servers, and nothing left behind."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from git import Repo

from tests.e2e.conftest import Command, wait_for

pytestmark = pytest.mark.timeout(300)  # whole systems start and train, beside other tests

RAW_ROWS = """station,last_update,latitude,longitude,pollutant_id,pollutant_min,pollutant_max
"A, Delhi",10-01-2026 12:00:00,28.6,77.2,PM2.5,40,200
"A, Delhi",10-01-2026 12:00,28.6,77.2,PM10,NA,NA
"""
LOAD_AND_PREDICT = """
import io, sys, joblib, pandas as pd
rows = pd.read_csv(io.StringIO(sys.argv[2]), dtype=str, keep_default_na=False)
print(joblib.load(sys.argv[1]).predict(rows).tolist())
"""


@dataclass
class Demo:
    home: Path
    done: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def demo(command: Command) -> Demo:
    home = command.folder / "demo"
    return Demo(home, command.run("demo", "--home", str(home)))


def test_demo_goes_all_the_way(demo: Demo) -> None:
    assert demo.done.returncode == 0, demo.done.stdout
    for stage in ("ingest", "drift", "trainer", "publisher", "notifier"):
        assert f"{stage}  " in demo.done.stdout


def test_summary_shows_the_drift_and_what_came_of_it(demo: Demo) -> None:
    said = demo.done.stdout
    assert "drift → retrain" in said
    assert "no drift" in said
    assert "air_quality/v2" in said
    assert f"git -C {demo.home}/models.git log" in " ".join(said.split())


def test_every_champion_is_one_commit(demo: Demo) -> None:
    commits = list(Repo(demo.home / "models.git").iter_commits("main"))
    models = [line for c in commits for line in str(c.message).splitlines() if "Model:" in line]
    assert len(commits) >= 2
    assert models == sorted(set(models), reverse=True)


def test_reports_are_where_the_summary_says(demo: Demo) -> None:
    reports = sorted((demo.home / "reports").glob("batch-*.json"))
    assert len(reports) == 7
    verdicts = [json.loads(path.read_text())["verdict"] for path in reports]
    assert verdicts[0] == "no reference"
    assert verdicts[1:5] == ["no drift"] * 4
    assert verdicts[5] == "drift"


def test_published_model_predicts_raw_rows_without_our_code(demo: Demo, tmp_path: Path) -> None:
    tree = Repo(demo.home / "models.git").commit("main").tree
    model = tmp_path / "model.joblib"
    model.write_bytes((tree / "model.joblib").data_stream.read())
    # An isolated interpreter that finds the libraries and nothing of ours.
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    bootstrap = f"import sys; sys.path[:] = [p for p in sys.path if p] + {libraries!r}\n"
    hidden = "import importlib.util as u; assert not u.find_spec('services')\n"
    done = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c", bootstrap + hidden + LOAD_AND_PREDICT),
            *(str(model), RAW_ROWS),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert 40 < first < 200
    assert second > 0


def test_nothing_is_left_behind(demo: Demo, command: Command) -> None:
    assert demo.done.returncode == 0
    assert command.wait_until_gone() == {}


def test_no_secret_is_in_a_log(demo: Demo) -> None:
    secrets = [
        *(demo.home / "secrets").glob("*_*"),
        demo.home / "valkey" / "password",
        demo.home / "mongo" / "password",
    ]
    words = [path.read_text().strip() for path in secrets]
    assert len(words) >= 5
    logs = [demo.done.stdout, *(path.read_text() for path in (demo.home / "logs").iterdir())]
    for log in logs:
        assert not [word for word in words if word in log]


def test_interrupted_demo_leaves_nothing_behind(command: Command) -> None:
    process = command.start("demo", "--home", str(command.folder / "interrupted"))
    assert wait_for(lambda: len(command.processes()) > 5, 30)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=40)
    assert process.returncode != 0
    assert command.wait_until_gone() == {}


def test_killed_demo_leaves_nothing_behind(command: Command) -> None:
    process = command.start("demo", "--home", str(command.folder / "killed"))
    assert wait_for(lambda: len(command.processes()) > 5, 30)
    process.kill()
    process.communicate(timeout=40)
    assert command.wait_until_gone() == {}


def test_failed_start_says_why_and_leaves_nothing_behind(command: Command) -> None:
    home = command.folder / "unreachable"
    done = command.run("demo", "--home", str(home), REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode != 0
    assert "trimtab: " in done.stdout
    assert "Traceback" not in done.stdout
    assert command.wait_until_gone() == {}


def test_stage_that_gives_up_fails_the_demo_with_its_reason(command: Command) -> None:
    home, nowhere = command.folder / "failing", command.folder / "nowhere.git"
    done = command.run("demo", "--home", str(home), MODEL_REPOSITORY=str(nowhere))
    assert done.returncode == 1, done.stdout
    assert "trimtab: publisher gave up on ModelPromoted" in done.stdout
    assert command.wait_until_gone() == {}


def test_demo_does_not_clear_a_folder_of_somebody_else(command: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = command.run("demo", "--home", str(tmp_path))
    assert done.returncode == 1
    assert "holds files that are not a demo's" in done.stdout
    assert (tmp_path / "thesis.txt").exists()
