"""Workers as processes of their own, with no more of this process's environment than they need."""

import os
from pathlib import Path

from services.cli.embedded.process import Process
from services.cli.embedded.system import worker_command
from shared.events import Stage
from shared.settings import Settings
from tests.conftest import AIR_QUALITY
from tests.keys import EVENT_KEY, OPERATORS

ROOT = Path(__file__).parents[1]


def environment(**settings: str) -> dict[str, str]:
    """What a process needs to run at all, the default pipeline and key, and further settings."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    ours = {
        "PIPELINES": str(AIR_QUALITY.parent),
        "EVENT_KEY": EVENT_KEY,
        "OPERATORS": OPERATORS,
        "PYTHONPATH": str(ROOT),
    }
    return kept | ours | settings


def place(settings: Settings) -> dict[str, str]:
    """What leads a process to the servers of a test's settings, and to its database there."""
    assert settings.mongodb_uri
    return {
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "MONGODB_DATABASE": settings.mongodb_database,
    }


def started(stage: Stage, settings: dict[str, str], log: Path, module: str = "") -> Process:
    """The worker of a stage, of its own module or of one that stands in for it."""
    command = worker_command(stage)
    if module:
        command[command.index("-A") + 1] = module
    process = Process(stage, command, log, environment(**settings))
    process.start()
    return process


def children(pid: int | None) -> list[int]:
    """The children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False
