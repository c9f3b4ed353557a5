"""Whose folder a demo clears."""

from pathlib import Path

import pytest

from services.cli.demo import DemoFailed, make_fresh
from services.cli.up import only_one


def test_a_demo_clears_the_folder_of_an_earlier_one(tmp_path: Path) -> None:
    make_fresh(tmp_path)
    (tmp_path / "old.log").write_text("old")
    make_fresh(tmp_path)
    assert not (tmp_path / "old.log").exists()


def test_a_demo_does_not_clear_the_folder_of_a_running_system(tmp_path: Path) -> None:
    make_fresh(tmp_path)
    (tmp_path / "store").write_text("in use")
    with only_one(tmp_path), pytest.raises(DemoFailed, match=r"stop it with `trimtab down --home"):
        make_fresh(tmp_path)
    assert (tmp_path / "store").read_text() == "in use"
