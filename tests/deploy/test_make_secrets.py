"""`deploy/make-secrets.sh`: random, once, in files that only their owner reaches."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.operators import OperatorKey, Operators
from shared.settings import read_settings
from tests.asking import never_asked
from tests.keys import OPERATORS

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
        *("event_key", "model_signing_key", "flower_password", "grafana_password"),
        *("operators", "operator_key"),
    }
    assert all(first[name] != second[name] for name in made)
    assert all(re.fullmatch("[0-9a-f]{48}", first[name]) for name in made if "password" in name)


def test_the_first_operator_is_listed_with_the_key_that_is_made(tmp_path: Path) -> None:
    made = make(tmp_path)
    key = OperatorKey.read(SecretStr(made["operator_key"].strip()), never_asked)
    name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert Operators(made["operators"]).of(key.fingerprint).name == name


def test_a_list_of_operators_that_a_person_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / "operators").write_text(OPERATORS)
    made = make(tmp_path)
    assert (made["operators"], made["operator_key"]) == (OPERATORS, "")


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


def test_an_address_that_a_person_wrote_stays(tmp_path: Path) -> None:
    made = make(tmp_path)
    own = {
        "redis_url": "rediss://trimtab:p@redis.example.org:6379/0",
        "mongodb_uri": made["mongodb_uri"].replace("@mongo:", "@10.0.0.5:"),
    }
    for name, address in own.items():
        (tmp_path / name).write_text(address)
    assert make(tmp_path) == made | own


@pytest.mark.parametrize("name", ["redis_password", "redis_admin_password", "mongo_password"])
def test_a_chosen_password_that_would_break_an_address_is_refused(
    name: str, tmp_path: Path
) -> None:
    made = make(tmp_path)
    (tmp_path / name).write_text("p@ss w/rd\n")
    done = subprocess.run(
        ["sh", str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"{tmp_path}/{name}: only A-Z a-z 0-9 . _ ~ - can stand" in done.stderr
    assert "p@ss" not in done.stderr
    assert (tmp_path / "redis_users").read_text() == made["redis_users"]
    done = rotate(tmp_path, "flower_password")
    assert (done.returncode, done.stdout) == (1, "")
    assert (tmp_path / "flower_password").read_text() == made["flower_password"]
    (tmp_path / name).write_text("a-long_enough.1~\n")
    assert "a-long_enough.1~" in "".join(make(tmp_path).values())


def test_what_containers_read_of_a_strict_clone_is_made_readable(tmp_path: Path) -> None:
    shutil.copytree(SCRIPT.parent, tmp_path / "deploy")
    shutil.copytree(SCRIPT.parents[1] / "pipelines", tmp_path / "pipelines")
    mounted = [*tmp_path.glob("deploy/**/*"), *tmp_path.glob("pipelines/**/*")]
    mounted = [path for path in mounted if "kubernetes" not in path.parts and path.suffix != ".sh"]
    mounted = [path for path in mounted if path.parent != tmp_path / "deploy" or path.is_dir()]
    for path in mounted:
        path.chmod(0o700 if path.is_dir() else 0o600)
    subprocess.run(
        ["sh", "deploy/make-secrets.sh"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    assert {path.stat().st_mode & 0o777 for path in mounted if path.is_dir()} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in mounted if path.is_file()} == {0o644}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_secrets_stay_their_owners_wherever_they_lie(tmp_path: Path) -> None:
    shutil.copytree(SCRIPT.parent, tmp_path / "deploy")  # and no pipelines beside it
    subprocess.run(
        ["sh", "deploy/make-secrets.sh", "deploy/secrets"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (tmp_path / "deploy" / "secrets").stat().st_mode & 0o777 == 0o700


def test_the_password_of_a_store_elsewhere_may_be_any(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "mongodb_uri").write_text("mongodb+srv://trimtab:p%2Fw@cluster.example.org")
    (tmp_path / "mongo_password").write_text("p/w")
    assert rotate(tmp_path, "flower_password").returncode == 0


def rotate(
    folder: Path, name: str, given: str = "", **settings: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", str(SCRIPT.with_name("rotate-secret.sh")), name],
        input=given,
        env={"PATH": os.environ["PATH"], "SECRETS_FOLDER": str(folder), "COMPOSE": "echo"}
        | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_new_value_that_never_came_replaces_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "github_token").write_text("mine")
    done = rotate(tmp_path, "github_token")
    assert (done.returncode, done.stdout) == (1, "")
    assert "github_token stays as it is" in done.stderr
    assert (tmp_path / "github_token").read_text() == "mine"
    done = rotate(tmp_path, "github_token", "new\n")
    assert (done.returncode, done.stdout) == (0, "restart publisher\n")
    assert (tmp_path / "github_token").read_text() == "new"


def test_the_password_of_a_server_elsewhere_is_not_replaced_here(tmp_path: Path) -> None:
    made = make(tmp_path)
    (tmp_path / "redis_url").write_text("rediss://trimtab:p@redis.example.org:6379/0")
    done = rotate(tmp_path, "redis_password")
    assert (done.returncode, done.stdout) == (1, "")
    assert (tmp_path / "redis_password").read_text() == made["redis_password"]


@pytest.mark.parametrize("name", ["redis_password", "event_key", "model_signing_key"])
def test_further_hosts_have_the_new_secret_before_the_old_one_goes(
    name: str, tmp_path: Path
) -> None:
    made = make(tmp_path)
    done = rotate(tmp_path, name, SERVERS_ADDRESS="10.0.0.5")
    assert done.returncode == 1
    assert (
        f"Bring every further host's {'redis_url' if 'redis' in name else name} up" in done.stderr
    )
    if name == "redis_password":
        (users,) = re.findall("user trimtab on (.*) ~", (tmp_path / "redis_users").read_text())
        new = (tmp_path / name).read_text()
        assert users == f">{new} >{made[name]}"
    else:
        old, new = (tmp_path / name).read_text().split()
        assert old == made[name]
    done = rotate(tmp_path, name, "\n", SERVERS_ADDRESS="10.0.0.5")
    assert done.returncode == 0
    if name == "redis_password":
        assert (tmp_path / "redis_url").read_text() == f"redis://trimtab:{new}@redis:6379/0"
        assert made[name] not in (tmp_path / "redis_users").read_text()
    else:
        assert (tmp_path / name).read_text().split()[1:] == [old, new]


def test_an_interrupted_new_password_of_redis_goes_on(tmp_path: Path) -> None:
    """Workers that were not restarted yet know the first one alone."""
    made = make(tmp_path)
    failing = tmp_path / "compose"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    assert rotate(tmp_path, "redis_password", COMPOSE=str(failing)).returncode == 1
    new = (tmp_path / "redis_password").read_text()
    assert new != made["redis_password"]
    during = tmp_path / "users"
    failing.write_text(f"#!/bin/sh\ncat {tmp_path}/redis_users >>{during}\n")
    assert rotate(tmp_path, "redis_password", COMPOSE=str(failing)).returncode == 0
    assert f">{new} >{made['redis_password']} " in during.read_text()
    assert f"user trimtab on >{new} ~" in (tmp_path / "redis_users").read_text()


def test_the_applications_user_of_redis_may_not_administer_it(tmp_path: Path) -> None:
    users = make(tmp_path)["redis_users"].splitlines()
    assert users[0] == "user default off"
    assert [user.split()[1] for user in users if "+@admin" in user or user.endswith("+@all")] == [
        "admin"
    ]
    assert "-@admin -@dangerous +info" in next(user for user in users if " trimtab " in user)


def test_the_folder_can_be_named_in_the_settings(tmp_path: Path) -> None:
    for written in (
        "not here\nSECRETS_FOLDER=a b",
        '"c d"',
        "'e f'",
        "g  # the folder",
        "'h # i' # the folder",
    ):
        (tmp_path / ".env").write_text(f"FLOWER_PORT=1\nSECRETS_FOLDER={written}\n")
        environment = {"PATH": os.environ["PATH"]}
        subprocess.run(
            ["sh", str(SCRIPT)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=True,
            timeout=60,
        )
    made = {path.name for path in tmp_path.iterdir() if (path / "redis_url").exists()}
    assert made == {"a b", "c d", "e f", "g", "h # i"}


def test_addresses_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    keys = ("EVENT_KEY", "MODEL_SIGNING_KEY")
    for name in ("REDIS_URL", "MONGODB_URI", *keys, "GITHUB_TOKEN", "APPRISE_URLS"):
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name.lower()))
    settings = read_settings()
    assert settings.model_signing_key
    assert settings.github_token is None
    assert settings.apprise_urls == ()
