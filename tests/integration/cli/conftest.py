"""The commands run in this process, against the test's servers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.main import app
from shared.settings import Settings
from tests.keys import EVENT_KEY, OPERATOR_KEY, OPERATORS

PARCELS = Path(__file__).parents[3] / "examples" / "parcels"
Run = Callable[..., Result]


@pytest.fixture
def home(settings: Settings, tmp_path: Path) -> Path:
    """A folder that leads to the test's servers as a running system's folder leads to its own."""
    secrets = {
        "redis_url": settings.redis_url.get_secret_value(),
        "mongodb_uri": settings.mongodb_uri.get_secret_value(),
        "event_key": EVENT_KEY,
        "operator_key": OPERATOR_KEY,
        "operators": OPERATORS,
    }
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    environment = {f"{name.upper()}_FILE": str(tmp_path / name) for name in secrets}
    environment |= {"MONGODB_DATABASE": settings.mongodb_database, "PIPELINES": str(PARCELS)}
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--home", str(home)])

    return run
