"""What a process writes, seen from outside: one JSON object a line, or lines for people."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.cli.embedded.process import Process, wait_until_listening
from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import beat_command, worker_command
from tests.worker_processes import ROOT, environment

SAYS_ALL = """
import logging, sys, threading, warnings
import structlog
from shared.logs import start_logging

start_logging()
log = structlog.get_logger("ours")
with structlog.contextvars.bound_contextvars(trace_id="0123", batch=3):
    log.info("of ours", rows=840)
    logging.getLogger("library").warning("of a %s", "library")
warnings.warn("old\\nway")
print("printed\\nin two lines")
print("to the error output", file=sys.stderr)
print("past all", file=sys.__stdout__)
def fail():
    password = "s3cret-in-a-variable"
    raise ValueError("two\\nlines")
try:
    fail()
except ValueError:
    log.exception("caught")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
ending_itself = threading.Thread(target=sys.exit)
ending_itself.start()
ending_itself.join()
fail()
"""


def output_of(code: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def parsed(text: str) -> list[dict[str, Any]]:
    """The lines, each of which has to be a JSON object with what every line has."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
        at = datetime.fromisoformat(line["timestamp"])
        assert at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - at) < timedelta(hours=1)
    return lines


def test_whatever_is_written_is_one_json_object_a_line() -> None:
    done = output_of(SAYS_ALL, LOG_FORMAT="json")
    assert done.stdout == ""
    lines = parsed(done.stderr)
    found = {(line["logger"], line["level"], line["event"].strip()) for line in lines}
    assert {
        ("ours", "info", "of ours"),
        ("library", "warning", "of a library"),
        ("stdout", "info", "printed\nin two lines"),
        ("stderr", "warning", "to the error output"),
        ("stdout", "info", "past all"),
        ("ours", "error", "caught"),
        ("shared.logs", "critical", "uncaught exception"),
    } <= found
    assert any(name == "py.warnings" and "old\nway" in text for name, _, text in found)
    exceptions = [line["exception"] for line in lines if "exception" in line]
    assert len(exceptions) == 3  # caught, of the thread, of the process
    assert all(text.endswith("ValueError: two\nlines") for text in exceptions)
    assert done.returncode == 1


def test_a_librarys_line_has_the_ids_that_are_bound() -> None:
    lines = {line["event"]: line for line in parsed(output_of(SAYS_ALL, LOG_FORMAT="json").stderr)}
    for text in ("of ours", "of a library"):
        assert (lines[text]["trace_id"], lines[text]["batch"]) == ("0123", 3)
    assert "trace_id" not in lines["caught"]


def test_for_people_it_is_text_without_colours_where_no_terminal_is() -> None:
    done = output_of(SAYS_ALL, LOG_FORMAT="text")
    assert done.stdout == "printed\nin two lines\npast all\n"
    assert "\x1b" not in done.stderr
    assert "of ours" in done.stderr
    assert "rows=840 " in done.stderr
    assert "ValueError: two\nlines" in done.stderr


def test_a_traceback_shows_no_variables() -> None:
    for form in ("text", "json"):
        assert "s3cret-in-a-variable" not in output_of(SAYS_ALL, LOG_FORMAT=form).stderr


def test_a_terminal_gets_colours() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        subprocess.run(
            [sys.executable, "-c", SAYS_ALL],
            env=environment(TERM="xterm"),
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            timeout=60,
            check=False,
        )
        os.close(theirs)
        assert b"\x1b[" in terminal.read1()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT: Input should be 'text' or 'json'"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL: Input should be 'DEBUG', 'INFO'"),
        ({"LOG_LEVEL": "LOUD", "LOG_FORMAT": "json"}, "LOG_LEVEL: Input should be 'DEBUG', 'INFO'"),
    ],
)
def test_a_wrong_log_setting_ends_the_process(settings: dict[str, str], says: str) -> None:
    done = output_of(SAYS_ALL, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line
    assert (line[0] == "{") == (settings.get("LOG_FORMAT") == "json")


@pytest.mark.parametrize(
    "command",
    [
        worker_command("drift"),
        beat_command(),
        [sys.executable, "-m", "celery", "-A", "shared.celery_app", "flower"],
    ],
    ids=["worker", "beat", "Flower"],
)
def test_refused_settings_are_one_line_too(command: list[str]) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(LOG_FORMAT="json", MONGODB_URI="mongodb://localhost:1/"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = parsed(done.stderr)
    assert (line["level"], line["event"]) == (
        "critical",
        "wrong settings: REDIS_URL: Field required",
    )


def test_beat_refuses_a_bad_pipeline_file_in_one_line(
    valkey: Valkey, mongo: Mongo, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nsorce: {}\n")
    addresses = {"REDIS_URL": valkey.url, "MONGODB_URI": mongo.uri, "PIPELINES": str(tmp_path)}
    done = subprocess.run(
        beat_command(),
        cwd=ROOT,
        env=environment(LOG_FORMAT="json", **addresses),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'source'?" in parsed(done.stderr)[-1]["event"]
    assert valkey.url not in done.stderr


def test_beat_needs_none_of_what_the_workers_compute_with() -> None:
    heavy = ("pandas", "numpy", "scipy", "sklearn", "pyarrow", "httpx", "git", "apprise")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy!r})); "
        "import shared.celery_app, services.ingest.schedule"
    )
    done = output_of(code)
    assert done.returncode == 0, done.stderr


def test_the_feed_says_in_one_line_where_it_is_and_why_it_cannot_be(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.cli.main", "feed", "simulate", "--port"]
    log = tmp_path / "feed.log"
    feed = Process("feed", [*command, "0"], log, environment(LOG_FORMAT="json"))
    feed.start()
    try:
        url = _first_line(feed, log)["url"]
        port = url.split(":")[2].split("/")[0]
        wait_until_listening(feed, int(port))
        done = subprocess.run(
            [*command, port],
            env=environment(LOG_FORMAT="json"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert parsed(done.stderr)[0]["event"].startswith(f"cannot listen on 127.0.0.1:{port}: ")
    finally:
        feed.stop()


def _first_line(feed: Process, log: Path) -> dict[str, Any]:
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    while not log.read_text() and datetime.now(UTC) < deadline:
        feed.require_running()
    return parsed(log.read_text())[0]
