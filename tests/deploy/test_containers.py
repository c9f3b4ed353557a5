"""The compose file, the Dockerfile and what goes with them: rules that hold for every service."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr

from services.cli.embedded.system import worker_command
from shared.events import STAGES
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = sorted(set(SERVICES) - {"cli"})
OF_IMAGES = {
    *("pipelines", "git_cache", "git_signing_key_file", "operators"),
    *("heartbeat_file", "exporter_address", "exporter_port"),
}
SECRETS = {
    "redis": {"redis_users", "redis_admin_password"},
    "mongo": {"mongo_root_password", "mongo_users"},
    "ingest": {"redis_url", "mongodb_uri", "event_key", "data_gov_in_api_key"},
    "drift": {"redis_url", "mongodb_uri", "event_key", "model_signing_key", "operators"},
    "trainer": {"redis_url", "mongodb_uri", "event_key", "model_signing_key", "operators"},
    "publisher": {
        *("redis_url", "mongodb_uri", "event_key", "model_signing_key", "github_token"),
        "git_signing_key",
    },
    "notifier": {"redis_url", "mongodb_uri", "event_key", "discord_webhook_url", "apprise_urls"},
    "beat": {"redis_url", "event_key"},
    "flower": {"redis_url", "flower_password"},
    "exporter": {"redis_url", "mongodb_uri"},
    "cli": {
        *("redis_url", "mongodb_uri", "event_key", "model_signing_key"),
        *("operators", "operator_key"),
    },
    "grafana": {"grafana_password"},
}
OUTSIDE = {"ingest", "publisher", "notifier"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ENV_EXAMPLE = (ROOT / ".env.example").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_can_do_as_little_as_possible(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_part_is_watched_restarted_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["cpus"]


@pytest.mark.parametrize("stage", [*STAGES, "beat"])
def test_health_of_what_makes_progress_is_its_progress(stage: str) -> None:
    assert "/tmp/alive" in SERVICES[stage]["healthcheck"]["test"][1]  # noqa: S108 - in a container
    assert "HEARTBEAT_FILE=/tmp/alive" in DOCKERFILE


@pytest.mark.parametrize("stage", STAGES)
def test_workers_wait_for_healthy_servers_and_have_time_to_stop(stage: str) -> None:
    waits = SERVICES[stage]["depends_on"]
    assert {name: wait["condition"] for name, wait in waits.items()} == {
        "redis": "service_healthy",
        "mongo": "service_healthy",
    }
    assert SERVICES[stage]["stop_grace_period"] == "30s"


def test_only_three_services_reach_outside() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    outside = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert outside == OUTSIDE


def test_without_a_profile_only_flower_has_a_port_and_on_loopback() -> None:
    published = {
        name: service["ports"]
        for name, service in SERVICES.items()
        if "ports" in service and "profiles" not in service
    }
    assert published == {"flower": ["127.0.0.1:${FLOWER_PORT:-5555}:5555"]}


@pytest.mark.parametrize("name", [name for name in SERVICES if "ports" in SERVICES[name]])
def test_every_port_is_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_the_environment(name: str) -> None:
    secret = {setting.upper() for setting in secret_settings()}
    assert not secret & set(SERVICES[name].get("environment", {}))


def mounted_secrets(name: str) -> dict[str, str]:
    """The secrets of a service: the name in the container -> the file's name."""
    given = SERVICES[name].get("secrets", [])
    named = [each if isinstance(each, dict) else {"source": each, "target": each} for each in given]
    return {each["target"]: each["source"] for each in named}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files that the script makes."""
    folder = tmp_path_factory.mktemp("secrets")
    script = ROOT / "deploy" / "make-secrets.sh"
    subprocess.run(["sh", script, folder], check=True, capture_output=True, timeout=60)
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", SERVICES)
def test_every_secret_of_a_service_is_one_that_the_script_makes(name: str, made: set[str]) -> None:
    for file in mounted_secrets(name).values():
        assert COMPOSE["secrets"][file] == {"file": f"${{SECRETS_FOLDER:-./secrets}}/{file}"}
        assert file in made


@pytest.mark.parametrize("name", sorted({*SERVICES} - {"redis", "mongo"}))
def test_a_container_has_the_passwords_of_its_own_users_alone(name: str) -> None:
    for target, file in mounted_secrets(name).items():
        if target in {"redis_url", "mongodb_uri"}:
            assert file == f"{target}_{name}"
        else:
            assert not file.startswith(("redis", "mongo"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_secret_that_is_named_is_mounted(name: str) -> None:
    named = {
        value.removeprefix("/run/secrets/")
        for value in SERVICES[name].get("environment", {}).values()
        if str(value).startswith("/run/secrets/")
    }
    assert named <= mounted_secrets(name).keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_secrets_than_it_needs(name: str) -> None:
    assert mounted_secrets(name).keys() == SECRETS.get(name, set())


def test_nobody_is_root() -> None:
    """An image of ours ends as its own user; another's is told to."""
    for stage in DOCKERFILE.split("\nFROM ")[1:]:
        users = re.findall(r"^USER (\S+)$", stage, re.MULTILINE)
        builds = stage.startswith(("${PYTHON} AS builder", "builder AS"))
        assert builds or users[-1:] != ["root"]
    assert re.search(r"^USER trimtab$", DOCKERFILE.partition(" AS runtime\n")[2], re.MULTILINE)
    for service in SERVICES.values():
        assert "build" in service or int(service["user"].partition(":")[0]) > 0


@pytest.mark.parametrize("stage", STAGES)
def test_an_images_worker_is_the_embedded_one(stage: str) -> None:
    celery = ["celery", *worker_command(stage)[len([sys.executable, "-m", "celery"]) :]]
    assert sorted(command_of(stage)) == sorted(celery)


def command_of(target: str) -> list[str]:
    """The command of a target of the Dockerfile."""
    found = re.search(
        rf"^FROM runtime AS {target}\n(?:(?!FROM).*\n)*?CMD (\[.*\])$", DOCKERFILE, re.M
    )
    assert found
    command: list[str] = json.loads(found[1])
    return command


@pytest.mark.parametrize("name", SERVICES)
def test_bases_are_pinned_and_images_are_made_of_targets(name: str) -> None:
    service = SERVICES[name]
    if build := service.get("build"):
        assert f" AS {build['target']}\n" in DOCKERFILE
    else:
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"])


def test_dockerfile_pins_its_bases_and_installs_by_hash() -> None:
    bases = re.findall(r"^ARG (PYTHON|DEBIAN)=\w+:\d+\.\d+\S*$", DOCKERFILE, re.MULTILINE)
    assert bases == ["PYTHON", "DEBIAN"]
    installs = re.findall(r"pip install .*", DOCKERFILE)
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_env_example_names_every_setting() -> None:
    assigned = set(re.findall(r"^(?:# )?([A-Z_]+)=", ENV_EXAMPLE, re.M))
    of_images = {name.upper() for name in OF_IMAGES}
    plain = {name.upper() for name in set(Settings.model_fields) - secret_settings()}
    assert plain - of_images <= assigned
    assert all(name in ENV_EXAMPLE for name in of_images)
    assert not {name.upper() for name in secret_settings()} & assigned
    assert all(name.upper() in ENV_EXAMPLE for name in secret_settings())


def test_env_example_states_the_true_defaults() -> None:
    for name, value in re.findall(r"^# ([A-Z_]+)=(.+)$", ENV_EXAMPLE, re.M):
        field = Settings.model_fields.get(name.lower())
        if field and name != "LOG_FORMAT":  # JSON in containers
            assert str(field.default).removesuffix(".0") == value, name


def test_env_example_says_something_of_every_setting() -> None:
    """A line of words above each."""
    lines = ENV_EXAMPLE.splitlines()
    for above, line in pairwise(lines):
        if re.match(r"(# )?[A-Z_]+=", line):
            assert re.match(r"# [A-Z a-z]", above)
            assert not re.match(r"(# )?[A-Z_]+=", above)


def test_every_variable_of_the_compose_file_is_explained() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) <= set(
        re.findall(r"^(?:# )?([A-Z_]+)=", ENV_EXAMPLE, re.M)
    )


def test_the_demos_pipeline_differs_in_its_schedule_alone() -> None:
    default = yaml.safe_load((ROOT / "pipelines" / "air_quality.yaml").read_text())
    demo = yaml.safe_load((ROOT / "deploy/demo/pipelines/air_quality.yaml").read_text())
    assert demo == default | {"schedule": demo["schedule"]}


def secret_settings() -> set[str]:
    """The settings that are secrets."""
    return {name for name, field in Settings.model_fields.items() if holds_secret(field.annotation)}


def holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(map(holds_secret, get_args(annotation)))
