"""Rehearse the compose file: `make containers`, with the images built from this checkout.

Starts the demo from nothing, lets a drift play through to its commit, and then does to it what
years do: kills each container, scales, upgrades in place, takes it down and up again, replaces
secrets, restores a backup. After each step the loop has to go on, and at the end nothing may be
missing. All of it happens in a project, with images, ports and secrets of its own, beside whatever
else runs here.
"""

import argparse
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from services.cli.embedded.process import free_port
from tests.containers.system import PARTS, ROOT, NotSeen, System, wait_until

KILLED: Final = ("redis", "mongo", *PARTS, "flower", "git", "feed")
_START_SECONDS: Final = 300
_STEP_SECONDS: Final = 240
_FEED_CLOCK: Final = "/var/lib/trimtab/began"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("--compose", default="docker compose --profile demo", help="the command")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="trimtab-rehearsal-") as folder:
        system = of_its_own(shlex.split(options.compose), Path(folder) / "secrets")
        try:
            rehearse(system)
        except NotSeen as failure:
            print(f"FAILED: {failure}")
            return 1
        finally:
            system.compose("down", "-v")
    return 0


def of_its_own(compose: list[str], secrets: Path) -> System:
    """A system that shares nothing with another of this machine."""
    script = ROOT / "deploy" / "make-secrets.sh"
    subprocess.run(["sh", str(script), str(secrets)], check=True, stdout=subprocess.DEVNULL)
    command = (*compose, "-p", "trimtab-rehearsal", "--env-file", ".env.example")
    environment = {
        "SETTINGS_FILE": ".env.example",
        "SECRETS_FOLDER": str(secrets),
        "TRIMTAB_VERSION": "rehearsal",
        "FLOWER_PORT": str(free_port()),
        "GRAFANA_PORT": str(free_port()),
    }
    return System(command, environment)


def rehearse(system: System) -> None:
    """All steps, in an order in which each begins where the one before ended."""
    system.compose("down", "-v")
    timed("build", lambda: build(system))
    timed("up: every part healthy", lambda: start(system))
    timed("drift at the fifth hour of 30 s: new champion published", lambda: played(system))
    timed("Flower answers, with its password only", lambda: look_at_flower(system))
    timed("three drift workers", lambda: scale(system))
    for service in KILLED:
        timed(
            f"{service} killed and started: the next batch checked",
            lambda s=service: kill(system, s),
        )
    timed("upgrade in place: the next batch checked", lambda: upgrade(system))
    timed("down and up with the volumes: the next batch checked", lambda: restart(system))
    timed("each password and the signing key replaced", lambda: rotate(system))
    timed("drift worker on another host: the next batch checked", lambda: second_host(system))
    timed("nothing missing", lambda: complete(system))
    timed("backup restored into an empty system: the next batch checked", lambda: restore(system))


def timed(what: str, step: Callable[[], Any]) -> None:
    """Run a step and say how long it took."""
    started = time.monotonic()
    said = step()
    print(
        f"{time.monotonic() - started:7.1f} s  {what}" + (f": {said}" if said else ""), flush=True
    )


def build(system: System) -> None:
    system.compose("--profile", "cli", "build")


def start(system: System) -> None:
    system.compose("up", "-d")
    system.wait_until_healthy(_START_SECONDS)


def played(system: System) -> str:
    """The drift was found, a second model promoted, and its commit is the branch's head."""

    def published() -> bool:
        champion = system.pipeline()["champion"] or 0
        return champion >= 2 and system.commits()[0] == f"v{champion}"

    wait_until(published, "a second model on the branch", _START_SECONDS)
    pipeline = system.pipeline()
    return f"batch {pipeline['checked']}, champion v{pipeline['champion']}"


def look_at_flower(system: System) -> None:
    address = f"http://127.0.0.1:{system.environment['FLOWER_PORT']}/api/workers"
    if (refused := httpx.get(address, timeout=30)).status_code != httpx.codes.UNAUTHORIZED:
        raise NotSeen(f"Flower without a password: {refused.status_code}")
    password = system.secret("flower_password").read_text().strip()
    httpx.get(address, auth=("trimtab", password), timeout=30).raise_for_status()


def scale(system: System) -> None:
    before = system.pipeline()["checked"]
    system.compose("up", "-d", "--scale", "drift=3")
    system.wait_until_healthy(_START_SECONDS, {"drift": 3})
    system.wait_for_batch_after(before, _STEP_SECONDS)


def kill(system: System, service: str) -> None:
    before = system.pipeline()["checked"]
    system.compose("kill", "-s", "KILL", service)
    system.compose("start", service)
    system.wait_for_batch_after(before, _STEP_SECONDS)
    system.wait_until_healthy(_STEP_SECONDS)


def upgrade(system: System) -> None:
    """Images with another label take the place of the running ones."""
    before = system.pipeline()["checked"]
    newer = replace(
        system, environment=system.environment | {"TRIMTAB_REVISION": f"{time.time():.0f}"}
    )
    newer.compose("--profile", "cli", "build")
    newer.compose("up", "-d")
    system.wait_for_batch_after(before, _STEP_SECONDS)
    system.wait_until_healthy(_START_SECONDS)


def restart(system: System) -> None:
    before = system.pipeline()
    system.compose("down")
    system.compose("up", "-d")
    system.wait_for_batch_after(before["checked"], _START_SECONDS)
    after = system.pipeline()
    if after["champion"] < before["champion"]:
        raise NotSeen(f"the champion was v{before['champion']} and is v{after['champion']}")
    system.wait_until_healthy(_START_SECONDS)


def rotate(system: System) -> str:
    """As an operator does it, with the script; what was promoted before can still be loaded."""
    before = system.pipeline()
    script = ROOT / "deploy" / "rotate-secret.sh"
    rotated = {
        "redis_password": "redis_url_drift",
        "mongo_password": "mongodb_uri_drift",
        "flower_password": "flower_password",
        "model_signing_key": "model_signing_key",
    }
    for secret, file in rotated.items():
        old = system.secret(file).read_text()
        subprocess.run(
            ["sh", str(script), secret],
            env=os.environ | system.environment | {"COMPOSE": shlex.join(system.command)},
            check=True,
            capture_output=True,
            timeout=_START_SECONDS,
        )
        if system.secret(file).read_text() == old:
            raise NotSeen(f"{secret} is what it was")
    system.wait_for_batch_after(before["checked"] + 1, _STEP_SECONDS)
    system.wait_until_healthy(_START_SECONDS)
    look_at_flower(system)
    version = str(before["champion"])
    load = ("models", "load", version, "--output", "/tmp/model.joblib")  # noqa: S108 - of a container
    return system.operator("cli", *load).strip()


def second_host(system: System) -> None:
    """The only drift worker is in another project, with no network in common with the first."""
    address = own_address()
    files = ("-f", "docker-compose.yml", "-f", "deploy/servers-reachable.yml")
    first = System((*system.command, *files), system.environment | {"SERVERS_ADDRESS": address})
    first.compose("up", "-d", "redis", "mongo")
    before = system.pipeline()["checked"]
    with TemporaryDirectory(prefix="trimtab-secrets-") as folder:
        secrets = Path(folder, "secrets")
        shutil.copytree(system.secret("redis_url_drift").parent, secrets)
        for name, server in (("redis_url_drift", "redis"), ("mongodb_uri_drift", "mongo")):
            text = (secrets / name).read_text()
            (secrets / name).write_text(text.replace(f"@{server}:", f"@{address}:"))
        project = (
            "-p",
            "trimtab-second",
            "-f",
            "docker-compose.yml",
            "-f",
            "deploy/worker-host.yml",
        )
        second = System(
            (*system.command, *project), system.environment | {"SECRETS_FOLDER": str(secrets)}
        )
        try:
            system.compose("stop", "drift")
            second.compose("up", "-d", "--no-deps", "drift")
            system.wait_for_batch_after(before + 1, _STEP_SECONDS)
        finally:
            second.compose("down", "-v")
            system.compose("start", "drift")
            system.compose("up", "-d")  # with the servers reachable from nowhere else
    system.wait_until_healthy(_START_SECONDS)


def own_address() -> str:
    """This machine's address on its network; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def restore(system: System) -> str:
    """The store's copy, in a system whose every volume is new; the feed's clock goes on."""
    with TemporaryDirectory(prefix="trimtab-backup-") as folder:
        archive, clock = Path(folder, "backup.tar"), Path(folder, "began")
        system.save(clock, "exec", "-T", "feed", "cat", _FEED_CLOCK)
        copy = ("mongosh", "--quiet", "--norc", "/deploy/backup.js")
        system.save(archive, "exec", "-T", "mongo", *copy)
        before = system.pipeline()
        size = archive.stat().st_size
        system.compose("down", "-v")
        unpack = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "tar", "mongo")
        system.feed(archive, *unpack, "-C", "/data/db", "-xf", "-")
        unpack = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "feed", "-c")
        system.feed(clock, *unpack, f"cat > {_FEED_CLOCK}")
    system.compose("up", "-d")
    system.wait_for_batch_after(before["checked"], _START_SECONDS)
    after = system.pipeline()
    if after["champion"] < before["champion"]:
        raise NotSeen(f"the champion was v{before['champion']} and is v{after['champion']}")
    return f"{size / 1e6:.0f} MB"


def complete(system: System) -> str:
    """Every batch has its report, every promoted model its commit, and no event was given up."""
    wait_until(
        lambda: system.commits()[0] == f"v{system.pipeline()['champion']}",
        "the champion at the branch's head",
        _STEP_SECONDS,
    )
    reports = system.trimtab("history", "--limit", "100000")["drift_reports"]
    sequences = sorted(report["sequence"] for report in reports)
    if sequences != list(range(1, len(sequences) + 1)):
        raise NotSeen(f"batches without a report, or with two: {sequences}")
    models = system.trimtab("models", "--limit", "100000")
    promoted = sorted(model["version"] for model in models if model["decision"] == "promoted")
    commits = [int(version[1:]) for version in reversed(system.commits())]
    if commits != promoted[: len(commits)] or len(promoted) - len(commits) > 1:
        raise NotSeen(f"promoted {promoted}, published {commits}")
    if letters := system.trimtab("dead-letters", "list"):
        raise NotSeen(f"given up: {[letter['reason'] for letter in letters]}")
    return f"{len(sequences)} batches, {len(promoted)} models, no dead letter"


if __name__ == "__main__":
    sys.exit(main())
