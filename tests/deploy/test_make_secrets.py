"""`deploy/make-secrets.sh`: random, once, in files that only their owner reaches."""

import re
import subprocess
from pathlib import Path

import pytest

from shared.settings import read_settings

SCRIPT = Path(__file__).parents[2] / "deploy" / "make-secrets.sh"


def make(folder: Path) -> dict[str, str]:
    """Run the script; returns the files with what they hold."""
    subprocess.run(["sh", str(SCRIPT), str(folder)], check=True, capture_output=True, timeout=60)
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_every_start_is_with_other_passwords(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    made = {name for name, text in first.items() if text}
    assert made == {
        *("redis_password", "redis_admin_password", "redis_users", "redis_url"),
        *("mongo_password", "mongo_root_password", "mongodb_uri"),
        *("model_signing_key", "flower_password", "grafana_password"),
    }
    assert all(first[name] != second[name] for name in made)
    assert all(re.fullmatch("[0-9a-f]{48}", first[name]) for name in made if "password" in name)


def test_what_is_there_stays(tmp_path: Path) -> None:
    first = make(tmp_path)
    (tmp_path / "github_token").write_text("mine")
    assert make(tmp_path) == first | {"github_token": "mine"}


def test_the_folder_is_its_owners_and_its_files_can_be_mounted(tmp_path: Path) -> None:
    make(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "secrets").iterdir()} == {0o644}


def test_a_new_password_is_in_what_is_made_of_it_and_in_the_same_file(tmp_path: Path) -> None:
    """A container has the file mounted, not its name."""
    first = make(tmp_path)
    mounted = (tmp_path / "redis_url").stat().st_ino
    (tmp_path / "redis_password").write_text("new")
    (tmp_path / "redis_password_old").write_text(first["redis_password"])
    second = make(tmp_path)
    assert second["redis_url"] == "redis://trimtab:new@redis:6379/0"
    assert f"user trimtab on >new >{first['redis_password']} " in second["redis_users"]
    assert (tmp_path / "redis_url").stat().st_ino == mounted


def test_the_applications_user_of_redis_may_not_administer_it(tmp_path: Path) -> None:
    users = make(tmp_path)["redis_users"].splitlines()
    assert users[0] == "user default off"
    assert [user.split()[1] for user in users if "+@admin" in user or user.endswith("+@all")] == [
        "admin"
    ]
    assert "-@admin -@dangerous +info" in next(user for user in users if " trimtab " in user)


def test_the_folder_can_be_named_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FLOWER_PORT=1\nSECRETS_FOLDER=elsewhere\n")
    subprocess.run(["sh", str(SCRIPT)], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "elsewhere" / "redis_url").exists()


def test_addresses_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    for name in ("REDIS_URL", "MONGODB_URI", "MODEL_SIGNING_KEY", "GITHUB_TOKEN", "APPRISE_URLS"):
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name.lower()))
    settings = read_settings()
    assert settings.model_signing_key
    assert settings.github_token is None
    assert settings.apprise_urls == ()
