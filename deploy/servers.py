"""Which servers and base images are pinned, and a bill of materials with them.

`python deploy/servers.py bom.json` adds them to a CycloneDX file that lists the packages.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).parents[1]
LIST: Final = ROOT / "deploy" / "servers.yaml"
_OURS: Final = "trimtab/"
_VERSION: Final = re.compile(r"v?(\d+(?:\.\d+)+)")


class Pin(NamedTuple):
    """An image as a file names it."""

    file: str
    image: str
    tag: str

    @property
    def version(self) -> str:
        """The version within the tag.

        Raises:
            ValueError: the tag holds none, such as `latest`.
        """
        found = _VERSION.match(self.tag)
        if not found:
            raise ValueError(f"{self.file}: {self.image}:{self.tag} is not pinned to a version")
        return found[1]


def known() -> dict[str, dict[str, Any]]:
    """The list of the oldest versions: `images` and `bundled`."""
    listed: dict[str, dict[str, Any]] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return listed


def pins() -> list[Pin]:
    """Every image that is not one of ours, of every file that names images."""
    files = [ROOT / "docker-compose.yml", *sorted((ROOT / "deploy").rglob("*.y*ml"))]
    found = [Pin(name, *_parts(image)) for name, image in _images(files)]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^ARG (?:PYTHON|DEBIAN)=(\S+)$", dockerfile, re.M)
    return [*found, *(Pin("Dockerfile", *_parts(base)) for base in bases)]


def _images(files: list[Path]) -> Iterator[tuple[str, str]]:
    for file in files:
        for image in re.findall(r"^\s*(?:- )?image: *(\S+)", file.read_text("utf-8"), re.M):
            if not image.startswith(_OURS):
                yield str(file.relative_to(ROOT)), image


def _parts(image: str) -> tuple[str, str]:
    name, _, tag = image.partition("@")[0].rpartition(":")
    return name, tag


def components() -> list[dict[str, str]]:
    """The images and bundled servers as CycloneDX names components."""
    images = sorted({(pin.image, pin.tag) for pin in pins()})
    lock = (ROOT / "requirements" / "embedded.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.M))
    return [
        *(
            {
                "bom-ref": f"image:{name}",
                "type": "container",
                "name": name,
                "version": tag,
                "purl": f"pkg:docker/{name}@{tag}",
            }
            for name, tag in images
        ),
        *(
            {
                "bom-ref": f"server:{name}",
                "type": "application",
                "name": name,
                "version": str(server["oldest"]),
                "description": f"bundled in {server['package']} {locked[server['package']]}",
            }
            for name, server in known()["bundled"].items()
        ),
    ]


def main(path: str) -> None:
    """Add the components to a bill of materials, once."""
    file = Path(path)
    bill = json.loads(file.read_text(encoding="utf-8"))
    added = components()
    names = {component["bom-ref"] for component in added}
    kept = [each for each in bill.get("components", []) if each.get("bom-ref") not in names]
    bill["components"] = [*kept, *added]
    file.write_text(json.dumps(bill, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
