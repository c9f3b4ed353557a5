"""The rights that containers are given are those that the package describes."""

from pathlib import Path

import pytest

from deploy.rights import files


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_files_are_what_make_rights_writes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path], "run `make rights`"
