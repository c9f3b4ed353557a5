"""`trimtab check` and `trimtab profile` as processes of their own: files in, no server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RECORDED

ROOT = Path(__file__).parents[2]
NOT_NEEDED = ("celery", "pymongo", "redis", "scipy.stats", "matplotlib", "jinja2", "httpx")


def trimtab(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command where no server's address is known."""
    known = {"REDIS_URL", "MONGODB_URI", "TRIMTAB_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in known}
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`before.csv`, and `after.csv` in which one column has moved."""
    for name, shift in (("before.csv", 0.0), ("after.csv", 1.0)):
        rng = np.random.default_rng(int(shift))
        rows = zip(rng.normal(shift, 1, 500), rng.choice(["a", "b"], 500), strict=True)
        lines = [f"{value:.3f},{kind}" for value, kind in rows]
        (tmp_path / name).write_text("\n".join(["value,kind", *lines, ""]))
    return tmp_path


def test_one_json_object_and_the_exit_code_of_drift(folder: Path) -> None:
    done = trimtab(folder, "check", "before.csv", "after.csv", "--json", "--fail-on-drift")
    assert (done.returncode, done.stderr) == (3, "")
    report = json.loads(done.stdout)
    assert (report["verdict"], report["needs_retraining"]) == ("drift", True)
    assert trimtab(folder, "check", "before.csv", "after.csv", "--json").returncode == 0


def test_a_profile_in_place_of_the_reference(folder: Path) -> None:
    made = trimtab(folder, "profile", "before.csv", "-o", "before.profile")
    assert (made.returncode, made.stderr) == (0, "")
    (folder / "before.csv").rename(folder / "current.csv")
    done = trimtab(folder, "check", "before.profile", "current.csv", "--fail-on-drift")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no drift: current.csv against before.profile\n")


def test_bad_input_is_one_sentence_and_no_traceback(folder: Path) -> None:
    done = trimtab(folder, "check", "before.csv", "none.csv", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trimtab: none.csv: cannot be read: No such file or directory\n"


def test_a_check_imports_nothing_that_it_does_not_need(folder: Path) -> None:
    code = (
        "import sys; from services.cli.main import app; app(sys.argv[1:], standalone_mode=False); "
        f"print(sorted(set({NOT_NEEDED!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "before.csv", "after.csv"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded snapshots are not here")
def test_recorded_snapshots(folder: Path) -> None:
    files = [str(RECORDED / f"{hour}.csv") for hour in ("2024-04-21T12", "2025-02-18T21")]
    roles = ("--segment", "pollutant_id", "--cluster", "station", "--target", "pollutant_avg")
    done = trimtab(folder, "check", *files, *roles, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["verdict"] == "drift"
    assert report["rows"] == 3287
    types = {column["name"]: (column["type"], column["role"]) for column in report["columns"]}
    assert types["last_update"] == ("time", "left out")
    assert types["pollutant_avg"] == ("number", "compared")
    assert types["station"] == ("category", "cluster")
