"""The demo: the whole loop over real servers, and nothing left behind."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pandas as pd
import pytest
from git import Repo
from rich.cells import cell_len

from services.cli.embedded.servers import Mongo
from services.feed.stations import SimulatedStations
from tests.e2e.conftest import Command, wait_for
from tests.integration.notifier.conftest import FarSide, Request

pytestmark = pytest.mark.timeout(300)  # whole systems start and train, beside other tests

RAW_ROWS = """station,last_update,latitude,longitude,pollutant_id,pollutant_min,pollutant_max
"A, Delhi",10-01-2026 12:00:00,28.6,77.2,PM2.5,40,200
"A, Delhi",10-01-2026 12:00,28.6,77.2,PM10,NA,NA
"""
WIDTH, HEIGHT = 80, 24
SENTENCES = re.compile(r"[123]\. .*?\.(?= [123]\. |$)")
LOAD_AND_PREDICT = """
import io, sys, joblib, pandas as pd
rows = pd.read_csv(io.StringIO(sys.argv[2]), dtype=str, keep_default_na=False)
print(joblib.load(sys.argv[1]).predict(rows).tolist())
"""


@dataclass
class Demo:
    home: Path
    done: "subprocess.CompletedProcess[str]"
    messages: list[Request]
    """What came in where Discord should be."""

    def lines(self) -> list[dict[str, Any]]:
        """The log lines of all processes in the order of time."""
        logs = (self.home / "logs").iterdir()
        lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        return sorted(lines, key=lambda line: line["timestamp"])


@pytest.fixture(scope="module")
def demo(command: Command) -> Demo:
    """The demo as in containers, with a Discord that is played here."""
    home = command.folder / "demo"
    discord = FarSide()
    Thread(target=discord.serve_forever, daemon=True).start()
    settings = {
        "LOG_FORMAT": "json",
        "DISCORD_WEBHOOK_URL": discord.webhook,
        "COLUMNS": str(WIDTH),
    }
    done = command.run("demo", "--home", str(home), **settings)
    discord.shutdown()
    discord.server_close()
    return Demo(home, done, discord.requests)


def test_demo_goes_all_the_way(demo: Demo) -> None:
    assert demo.done.returncode == 0, demo.done.stdout
    for stage in ("ingest", "drift", "trainer", "publisher", "notifier"):
        assert f"{stage}  " in demo.done.stdout


def test_summary_shows_the_drift_and_what_came_of_it(demo: Demo) -> None:
    said = demo.done.stdout
    assert "drift → retrain" in said
    assert "no drift" in said
    assert "air_quality/v2" in said
    assert f"git -C {demo.home}/models.git log" in "".join(said.splitlines())


def test_the_last_screen_tells_the_story_in_three_sentences(demo: Demo) -> None:
    lines = demo.done.stdout.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert max(map(cell_len, lines)) <= WIDTH
    last_screen = lines[-(HEIGHT - 1) :]  # the shell's prompt has the last line
    assert "Batches" in [line.strip() for line in last_screen]
    first, second, third = SENTENCES.findall(" ".join(" ".join(last_screen).split()))
    assert first == "1. 4 of 8 batches show no drift, so no model is trained for them."
    assert re.fullmatch(
        r"2\. Batch 7 has changed most in .*: model v3, whose error on the same rows is \d+ % "
        r"lower, replaces v2\.",
        second,
    )
    assert re.fullmatch(
        r"3\. Batch 8 has changed most in pollutant_avg .*: the gate rejects model v4, whose error "
        r"on the same rows is \d+(\.\d+)? % higher, and v3 stays the champion\.",
        third,
    )


def test_the_rejected_model_is_no_commit(demo: Demo) -> None:
    assert "v4 rejected" in demo.done.stdout
    repository = Repo(demo.home / "models.git")
    assert {tag.name for tag in repository.tags} == {f"air_quality/v{n}" for n in (1, 2, 3)}


def test_every_champion_is_one_commit(demo: Demo) -> None:
    commits = list(Repo(demo.home / "models.git").iter_commits("main"))
    models = [line for c in commits for line in str(c.message).splitlines() if "Model:" in line]
    assert len(commits) >= 2
    assert models == sorted(set(models), reverse=True)


def test_reports_are_where_the_summary_says(demo: Demo) -> None:
    reports = sorted((demo.home / "reports").glob("batch-*.json"))
    assert len(reports) == 8
    verdicts = [json.loads(path.read_text())["verdict"] for path in reports]
    assert verdicts[0] == "no reference"
    assert verdicts[1:5] == ["no drift"] * 4
    assert verdicts[5:] == ["drift"] * 3


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


def test_every_line_of_every_process_is_one_json_object(demo: Demo) -> None:
    workers = {"ingest", "drift", "trainer", "publisher", "notifier"}
    logs = {path.stem: path.read_text() for path in (demo.home / "logs").iterdir()}
    assert logs.keys() == workers | {"beat", "feed", "flower"}
    assert all(logs.values())
    for line in demo.lines():
        assert {"timestamp", "level", "logger", "event"} <= line.keys()
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
        assert "Traceback" not in line["event"]


@pytest.fixture(scope="module")
def trace(demo: Demo) -> str:
    """The id in the foot of the message that the second model is published."""
    (message,) = (
        request.body["embeds"][0]
        for request in demo.messages
        if "model v2 is published" in request.body["embeds"][0]["title"]
    )
    (found,) = re.findall(r"trimtab history show ([0-9a-f]{32})$", message["footer"]["text"])
    return str(found)


def test_one_id_leads_through_all_logs_from_the_feed_to_the_message(demo: Demo, trace: str) -> None:
    chain = [line for line in demo.lines() if line.get("trace_id") == trace]
    told = [(line["stage"], line["kind"], line["event"]) for line in chain]
    expected = [
        ("ingest", "IngestionDue", "source read"),
        ("ingest", "IngestionDue", "handled"),
        ("drift", "BatchIngested", "handled"),
        ("trainer", "RetrainRequested", "handled"),
        ("publisher", "ModelPromoted", "commit pushed"),
        ("publisher", "ModelPromoted", "handled"),
        ("notifier", "ModelPublished", "message accepted"),
        ("notifier", "ModelPublished", "handled"),
    ]
    assert [each for each in told if each in expected] == expected
    for line in chain:
        assert line["pipeline"] == "air_quality"
        assert line["attempt"] == 1
        assert len(line["event_id"]) == 32
        assert line.get("batch") == (None if line["event"] == "source read" else 6)
    facts = dict(zip(told, chain, strict=True))
    assert facts[expected[0]]["pages"] >= 1
    assert facts[expected[0]]["rows"] >= facts[expected[1]]["rows"] > 0
    assert facts[expected[2]]["verdict"] == "drift"
    assert (facts[expected[3]]["model"], facts[expected[3]]["decision"]) == (2, "promoted")
    commit = Repo(demo.home / "models.git").commit(facts[expected[4]]["commit"])
    assert trace in str(commit.message)
    assert facts[expected[6]]["channel"] == "discord"
    assert str(facts[expected[6]]["message_id"]).startswith("90")  # as our Discord numbers them


def test_the_chain_that_the_store_shows_is_that_of_the_logs(
    demo: Demo, command: Command, trace: str
) -> None:
    chain = [line for line in demo.lines() if line.get("trace_id") == trace]
    handled = {
        (line["stage"], line["kind"], line["event_id"])
        for line in chain
        if line["event"] == "handled"
    }
    (commit,) = (line["commit"] for line in chain if line["event"] == "commit pushed")
    server = Mongo(demo.home / "mongo", "drift_detection")
    server.start()
    try:
        show = ("history", "show", commit[:8], "--home", str(demo.home))
        told = command.run(*show, MONGODB_URI=server.uri).stdout
        shown = json.loads(command.run(*show, "--json", MONGODB_URI=server.uri).stdout)
    finally:
        assert server.process
        server.process.stop()
    assert shown["trace_id"] == trace
    steps = shown["steps"]
    assert {step["state"] for step in steps} == {"done"}
    assert {(step["stage"], step["kind"], step["event"]["event_id"]) for step in steps} == handled
    assert {step["attempts"] for step in steps} == {1}
    for words in (f"Trace {trace}", "data.gov.in resource", "drift", commit[:10], "discord: sent"):
        assert words in told


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


def test_kept_demo_runs_until_it_is_stopped(command: Command, tmp_path: Path) -> None:
    home, hours = command.folder / "kept", tmp_path / "hours"
    hours.mkdir()
    rows = SimulatedStations(stations=30, start=datetime(2026, 1, 10, 9, tzinfo=UTC)).rows(0)
    pd.DataFrame(rows).to_csv(hours / "1.csv", index=False)
    demo = ("demo", "--home", str(home), "--replay", str(hours))
    kept = command.run(*demo, "--keep")
    assert kept.returncode == 0, kept.stdout
    assert f"look at it with `trimtab status --home {home}`" in kept.stdout.replace("'", "")
    assert f"trimtab down --home {home}" in kept.stdout.replace("'", "")
    (flower,) = set(re.findall(r"Flower: (http://127\.0\.0\.1:\d+)", kept.stdout[-500:]))
    assert httpx.get(flower).status_code == HTTPStatus.UNAUTHORIZED
    (champion,) = command.json("models", "--json", "--home", str(home))
    assert champion["decision"] == "promoted"
    again = command.run(*demo)
    assert again.returncode == 1
    assert "a system runs in" in again.stdout
    assert command.run("down", "--home", str(home)).returncode == 0
    assert command.wait_until_gone() == {}


def test_demo_does_not_clear_a_folder_of_somebody_else(command: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = command.run("demo", "--home", str(tmp_path))
    assert done.returncode == 1
    assert "holds files that are not a demo's" in done.stdout
    assert (tmp_path / "thesis.txt").exists()
