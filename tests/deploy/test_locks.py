"""The lock files: the same versions everywhere, with hashes, and no index address."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
OF_IMAGES = [
    *("beat", "cli", "drift", "flower", "ingest", "notifier", "publisher", "trainer", "exporter"),
]
LINE = re.compile(r"^([a-z0-9.-]+)(?:\[([a-z0-9,-]+)\])?==(\S+?)(?: ; .*)? \\$", re.M)


def locked(name: str) -> dict[str, set[str]]:
    """Package -> its versions in a lock file: more than one where they depend on the machine."""
    versions: dict[str, set[str]] = {}
    for package, _, version in LINE.findall((ROOT / "requirements" / f"{name}.lock").read_text()):
        versions.setdefault(package, set()).add(version)
    return versions


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    starts = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(LINE.findall(text)) == len(starts) > 0
    assert text.count("--hash=sha256:") >= len(starts)


@pytest.mark.parametrize("name", [*OF_IMAGES, "embedded", "build"])
def test_what_runs_is_what_was_tested(name: str) -> None:
    tested = locked("dev")
    for package, versions in locked(name).items():
        assert versions <= tested[package], package


@pytest.mark.parametrize("name", ["beat", "flower", "notifier", "publisher"])
def test_small_images_have_no_arrays(name: str) -> None:
    assert not {"numpy", "pandas", "scipy", "scikit-learn", "pyarrow"} & set(locked(name))


def test_extras_are_pinned_with_their_package() -> None:
    """Otherwise pip takes a newer release for `package[extra]`, and refuses it for its hash."""
    text = (ROOT / "requirements" / "dev.lock").read_text()
    extras = {package: set(listed.split(",")) for package, listed, _ in LINE.findall(text)}
    for package in extras:
        for needed in needs(package):
            assert needed.extras <= extras[needed.name.lower().replace("_", "-")], package


def needs(package: str) -> list[Requirement]:
    """What an installed package needs here, of what is locked."""
    try:
        stated = [Requirement(text) for text in requires(package) or []]
    except PackageNotFoundError:  # for another machine
        return []
    return [each for each in stated if each.marker is None or each.marker.evaluate({"extra": ""})]
