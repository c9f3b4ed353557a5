"""The documents name tests and modules that are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REFERENCE = re.compile(
    r"`((?:tests|services|shared|benchmarks|examples|pipelines)/[\w/.-]+)(?:::(\w+))?`"
)


def references() -> Iterator[tuple[str, str, str]]:
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for path, test in REFERENCE.findall(document.read_text(encoding="utf-8")):
            yield document.name, path, test


@pytest.mark.parametrize(("document", "path", "test"), sorted(set(references())))
def test_what_a_document_names_is_there(document: str, path: str, test: str) -> None:
    assert (ROOT / path).exists(), document
    if test:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), document
