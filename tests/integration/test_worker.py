"""Workers as processes: they refuse a bad setting at start, with its name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import beat_command, worker_command
from tests.keys import EVENT_KEY, OPERATORS

ROOT = Path(__file__).parents[2]


def start(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("stage", "missing", "says"),
    [
        ("drift", "REDIS_URL", "REDIS_URL"),
        ("notifier", "MONGODB_URI", "MONGODB_URI is not set; the notifier worker needs it"),
        ("ingest", "EVENT_KEY", "EVENT_KEY is not set; the ingest worker needs it"),
        (
            "drift",
            "MODEL_SIGNING_KEY",
            "MODEL_SIGNING_KEY is not set; the drift worker needs it for pipeline air_quality",
        ),
        (
            "trainer",
            "MODEL_SIGNING_KEY",
            "MODEL_SIGNING_KEY is not set; the trainer worker needs it",
        ),
        ("publisher", "MODEL_REPOSITORY", "MODEL_REPOSITORY is not set"),
        ("drift", "OPERATORS", "OPERATORS is not set; the drift worker needs it"),
        ("trainer", "OPERATORS", "OPERATORS is not set; the trainer worker needs it"),
    ],
)
def test_worker_does_not_start_without_what_it_needs(
    valkey: Valkey, mongo: Mongo, stage: str, missing: str, says: str
) -> None:
    environment = {
        "REDIS_URL": valkey.url,
        "MONGODB_URI": mongo.uri,
        "EVENT_KEY": EVENT_KEY,
        "OPERATORS": OPERATORS,
        "MODEL_SIGNING_KEY": "a signing key for tests only",
        "MODEL_REPOSITORY": "models.git",
    }
    del environment[missing]
    done = start(worker_command(stage), environment)
    assert done.returncode != 0
    assert says in done.stderr
    assert valkey.url not in done.stderr + done.stdout


def test_worker_does_not_start_on_a_bad_pipeline(
    valkey: Valkey, mongo: Mongo, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nsorce: {}\n")
    environment = {"REDIS_URL": valkey.url, "MONGODB_URI": mongo.uri, "PIPELINES": str(tmp_path)}
    done = start(worker_command("drift"), environment)
    assert done.returncode != 0
    assert "bad.yaml:2: sorce: unknown key; did you mean 'source'?" in done.stderr


@pytest.mark.parametrize("line", ["ada AAAA", "ada garbage line", "ssh-ed25519 AAAAC3Nz ada@host"])
def test_worker_does_not_start_on_a_list_of_operators_that_cannot_be_read(
    valkey: Valkey, mongo: Mongo, line: str
) -> None:
    servers = {"REDIS_URL": valkey.url, "MONGODB_URI": mongo.uri, "EVENT_KEY": EVENT_KEY}
    keys = {"OPERATORS": line, "MODEL_SIGNING_KEY": "a signing key for tests only"}
    done = start(worker_command("trainer"), servers | keys)
    assert done.returncode != 0
    assert "OPERATORS: line 1 is not `name ssh-ed25519 AAAA…`" in done.stderr


def test_beat_does_not_start_without_its_settings() -> None:
    done = start(beat_command(), {})
    assert done.returncode != 0
    assert "REDIS_URL" in done.stderr


@pytest.mark.parametrize(("policy", "lines"), [("noeviction", 0), ("allkeys-lru", 1)])
def test_worker_warns_of_a_broker_that_throws_messages_away(
    valkey: Valkey, mongo: Mongo, policy: str, lines: int
) -> None:
    with Redis.from_url(valkey.url) as broker:
        broker.config_set("maxmemory-policy", policy)
        try:
            done = start(
                [sys.executable, "-c", READY],
                {"REDIS_URL": valkey.url, "MONGODB_URI": mongo.uri},
            )
        finally:
            broker.config_set("maxmemory-policy", "noeviction")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("set its maxmemory-policy to noeviction") == lines


READY = "import shared.worker; from celery import signals; signals.worker_ready.send(None)"
"""What a worker does when it is ready."""
