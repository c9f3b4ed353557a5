"""`trimtab up`: state that outlives the system, workers that come and go, files by hand."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Command, wait_for

pytestmark = pytest.mark.timeout(300)  # whole systems start and train, beside other tests

PARCELS = ROOT / "examples" / "parcels"
WORKERS = ("ingest", "drift", "trainer", "publisher", "notifier")


class Running:
    """A system in the background with the parcels pipeline."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.home = command.folder / "home"
        self.pipelines = command.folder / "pipelines"
        self.pipelines.mkdir()
        shutil.copy(PARCELS / "parcels.yaml", self.pipelines)

    def __call__(self, *arguments: str) -> "Any":
        return self.command.run(*arguments, "--home", str(self.home))

    def json(self, *arguments: str) -> Any:
        return self.command.json(*arguments, "--json", "--home", str(self.home))

    def up(self) -> str:
        done = self("up", "--wait", "--pipelines", str(self.pipelines))
        assert done.returncode == 0, done.stdout
        return str(done.stdout)

    def state(self) -> Any:
        return self.json("status")["pipelines"]["parcels"]

    def worker(self, stage: str) -> int | None:
        """The process id of a stage's worker: the oldest of its processes, if there are any."""
        name = f"services.{stage}.tasks worker"
        found = [pid for pid, line in self.command.processes().items() if name in line]
        return min(found, default=None)


@pytest.fixture(scope="module")
def running(command: Command) -> Running:
    system = Running(command)
    system.up()
    return system


def test_reference_becomes_the_first_model(running: Running) -> None:
    done = running("reference", "set", str(PARCELS / "reference.csv"), "--because", "a test")
    assert done.returncode == 0, done.stdout
    for part in ("model v1 promoted", "reference v1: 800 rows", "tag parcels/v1"):
        assert part in done.stdout
    assert (running.state()["champion"], running.state()["reference"]) == (1, 1)
    (model,) = running.json("models")
    assert model["decision"] == "promoted"
    assert 0 < model["metrics"]["accuracy"] <= 1


def test_batches_by_hand_are_checked(running: Running) -> None:
    done = running("ingest", str(PARCELS / "batches" / "1.csv"))
    assert done.returncode == 0, done.stdout
    assert "batch 2: 400 rows received: 400 new" in done.stdout
    assert "no drift" in done.stdout
    assert running.state()["verdict"] == "no drift"


def test_same_file_again_is_nothing_new(running: Running) -> None:
    again = running.json("ingest", str(PARCELS / "batches" / "1.csv"))
    assert again["outcome"] == "nothing new"
    assert again["sequence"] is None
    assert again["rows_known"] == again["rows_received"] - again["set_aside"]["rows"]


def test_bad_file_is_refused_with_a_reason(running: Running, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("parcel,weight\n1,2\n")
    done = running("ingest", str(bad))
    assert done.returncode == 1
    assert "trimtab: " in done.stdout
    assert "handed_over" in done.stdout
    assert "Traceback" not in done.stdout


def test_killed_system_finds_its_state_again(running: Running) -> None:
    before = running.state()
    pid = int((running.home / "lock").read_text())
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: pid not in running.command.processes(), 10)
    running.command.wait_until_gone()
    running.up()
    assert running.state() == before


def test_up_again_is_a_no_op(running: Running) -> None:
    assert "already running" in running.up()


@pytest.mark.parametrize("stage", WORKERS)
def test_killed_worker_is_started_again(running: Running, stage: str) -> None:
    pid = running.worker(stage)
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: pid not in running.command.processes(), 10)
    assert wait_for(lambda: running.worker(stage) not in {None, pid}, 20)


def test_drift_after_all_that_goes_all_the_way_round(running: Running) -> None:
    done = running("ingest", str(PARCELS / "batches" / "3.csv"))
    assert done.returncode == 0, done.stdout
    assert "model v2 promoted" in done.stdout
    reports = running.json("history")["drift_reports"]
    assert reports[0]["verdict"] == "drift"
    assert running.state()["champion"] == 2, running.json("models")
    assert "parcels/v2" in running("models").stdout


def test_a_person_goes_back_to_the_first_model(running: Running) -> None:
    first = running.json("models", "show", "1")
    reached = running.json("rollback", "1", "--because", "a test")
    assert (reached["state"], reached["model_version"]) == ("done", 3)
    restored = running.json("models", "show", "3")
    assert restored["state"] == "champion, restores v1"
    assert restored["model"] == first["model"]
    repository = running.home / "models.git"
    trees = [
        subprocess.run(
            ["git", "-C", str(repository), "rev-parse", f"{commit}^{{tree}}"],
            capture_output=True,
            check=True,
        ).stdout
        for commit in (first["publication"]["commit"], reached["commit"])
    ]
    assert trees[0] == trees[1]
    assert running.state()["reference"] == 3
    assert "champion already" in running("rollback", "1", "--because", "a test").stdout


def test_a_version_is_trained_again(running: Running) -> None:
    made = running.json("models", "reproduce", "2")
    assert made["same"], made


def test_status_is_healthy_and_lists_every_part(running: Running) -> None:
    done = running("status")
    assert done.returncode == 0, done.stdout
    for part in (*WORKERS, "beat"):
        assert part in done.stdout


def test_no_worker_has_the_operators_key(running: Running) -> None:
    """It could sign what a person asks for."""
    assert (running.home / "secrets" / "operator_key").stat().st_mode & 0o777 == 0o600
    for stage in (*WORKERS, "beat"):
        name = f"services.{stage}.tasks worker" if stage in WORKERS else " beat "
        pids = [pid for pid, line in running.command.processes().items() if name in line]
        assert pids
        for pid in pids:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert not [each for each in environment if each.startswith(b"OPERATOR_KEY")]


def test_the_audit_log_tells_what_was_asked_for_and_why(running: Running) -> None:
    done = running("audit")
    assert done.returncode == 0, done.stdout
    assert "each signed and chained to the one before" in " ".join(done.stdout.split())
    log = running.json("audit")
    assert log["problems"] == []
    actions = [entry["action"] for entry in log["entries"]]
    assert actions[0] == "reference set"
    assert "rollback" in actions
    assert log["head"]["number"] == len(actions)


def test_no_dead_letters(running: Running) -> None:
    assert running.json("dead-letters", "list") == []


def test_no_worker_connected_to_the_store_before_it_forked(running: Running) -> None:
    for log in (running.home / "logs").glob("*.log"):
        assert "opened before fork" not in log.read_text(errors="replace")


def test_down_leaves_nothing_behind(running: Running) -> None:
    done = running("down")
    assert "stopped" in done.stdout
    assert running.command.wait_until_gone() == {}
    assert "nothing runs" in running("down").stdout
