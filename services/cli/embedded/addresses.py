"""Where the parts of an embedded system are: written at its start, read by the other commands."""

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from shared.celery_app import celery_app
from shared.installation import require_not_foreign
from shared.refusals import refusal
from shared.settings import Settings, SettingsError, read_settings
from shared.stage import Resources


class NotStarted(SettingsError):
    """No system was ever started in a folder, and the environment names no servers."""


def environment_file(home: Path) -> Path:
    """Where a system with its state in `home` keeps the settings that lead to its parts."""
    return home / "environment.json"


def is_set(name: str) -> bool:
    """Whether the environment gives a setting, by itself or by a file."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def settings_of(home: Path) -> Settings:
    """The settings of the environment, and for the rest those of the embedded system in `home`.

    Raises:
        NotStarted: no system was ever started in `home`, and the environment names no servers.
        SettingsError: neither gives a setting that is needed, or a value is wrong.
    """
    path = environment_file(home)
    if not (path.exists() or is_set("REDIS_URL") or is_set("MONGODB_URI")):
        raise NotStarted(
            f"nothing was ever started in {home}. `trimtab up --wait` starts the system. If it "
            "runs in another folder, name that with --home; if on servers of yours, set REDIS_URL "
            "and MONGODB_URI."
        )
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    overrides = {}
    for variable, value in recorded.items():
        name = variable.removesuffix("_FILE")
        if not is_set(name):
            secret = variable.endswith("_FILE")
            text = Path(value).read_text(encoding="utf-8").strip() if secret else value
            overrides[name.lower()] = text
    return read_settings(**overrides)


@contextmanager
def connected(home: Path) -> Iterator[Resources]:
    """The connections to the system that runs in `home` or where the environment says.

    How long records are kept is for the workers' settings to say, so the store is not prepared.

    Raises:
        SettingsError: another installation works on the broker, or a server refuses what a command
            needs.
    """
    settings = settings_of(home)
    with closing(Resources.attach(settings, celery_app(lambda: settings))) as resources:
        require_not_foreign(resources.store, resources.broker, settings)
        try:
            yield resources
        except (PyMongoError, RedisError) as error:
            if refused := refusal(error, settings):
                raise SettingsError(refused) from None
            raise
