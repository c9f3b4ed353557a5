"""The example of the library runs as it stands."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "check_two_tables.py"


def test_example_says_which_batch_drifted(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))
    said = [line.split(".")[:2] for line in capsys.readouterr().out.splitlines()]
    assert said == [["1", "csv: no drift"], ["2", "csv: no drift"], ["3", "csv: drift"]]
