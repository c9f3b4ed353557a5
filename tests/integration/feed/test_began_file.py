"""A feed that is started again goes on with its history, if it remembers when that began."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[3]


@contextmanager
def feed(file: Path) -> Iterator[str]:
    """A feed with an hour of 60 seconds: its address, or why it does not start."""
    command = [
        *(sys.executable, "-m", "services.cli.main", "feed", "simulate", "--port", "0"),
        *("--seconds-per-hour", "60", "--stations", "2", "--began-file", str(file)),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"LOG_FORMAT": "json"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        said = json.loads(process.stderr.readline())
        yield said.get("url", said["event"])
    finally:
        process.terminate()
        process.communicate(timeout=20)


def newest_time(resource: str) -> str:
    answer = json.loads(httpx.get(resource, params={"format": "json", "limit": 1}).text)
    return str(answer["records"][0]["last_update"])


def hour(resource: str) -> int:
    return int(httpx.get(httpx.URL(resource).join("/clock")).json()["hour"])


def test_the_same_moment_has_the_same_rows_after_a_restart(tmp_path: Path) -> None:
    began = datetime.now(UTC) - timedelta(minutes=130)
    file = tmp_path / "began"
    file.write_text(began.isoformat())
    with feed(file) as resource:
        first, at = newest_time(resource), hour(resource)
    with feed(file) as resource:
        second, later = newest_time(resource), hour(resource)
    assert at in {130, 131}
    assert first == second or later > at


def test_the_first_start_writes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "began"
    with feed(file) as resource:
        assert hour(resource) == 0
    assert datetime.fromisoformat(file.read_text()).tzinfo


def test_a_file_without_a_time_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "began"
    file.write_text("yesterday")
    with feed(file) as said:
        assert "began cannot say when the history began: Invalid isoformat" in said
