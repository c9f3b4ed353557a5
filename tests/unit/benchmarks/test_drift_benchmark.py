"""The comparison with other tools: real contestants in real processes, on small batches."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.drift import comparison
from benchmarks.drift.comparison import Comparison, Outcome, comparison_markdown
from benchmarks.drift.contestants import CONTESTANTS, YARDSTICK, Contestant
from benchmarks.drift.environments import NotInstalled, python_with
from benchmarks.drift.profiles import Case, file_checks, file_checks_markdown, fit, fits_markdown
from benchmarks.drift.tables import SEGMENT, Shape, table, write_by_groups

ROWS = 500


def compare(folder: Path, names: list[str], rounds: int) -> dict[str, Outcome]:
    said: list[str] = []
    return Comparison(1_000, folder, folder / "environments", said.append).run(
        names, [ROWS], rounds
    )


def test_every_contestant_is_timed_against_the_sort_of_its_round(tmp_path: Path) -> None:
    names = [YARDSTICK, "trimtab-segments", "scipy"]

    outcomes = compare(tmp_path, names, rounds=2)

    for name in names:
        assert outcomes[name].failure is None
        timing = outcomes[name].timings[ROWS]
        sorts = outcomes[YARDSTICK].timings[ROWS].seconds
        expected = [a / b for a, b in zip(timing.seconds, sorts, strict=True)]
        assert len(expected) == 2
        assert timing.ratios == expected
    assert outcomes[YARDSTICK].timings[ROWS].drift is None
    assert outcomes["trimtab-segments"].timings[ROWS].drift is False
    header, _, *lines = comparison_markdown(outcomes, [ROWS]).splitlines()
    assert [line.count("|") for line in lines] == [header.count("|")] * len(names)


def test_what_fails_is_reported_with_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_library = Contestant("Without its library", "frouros:KolmogorovSmirnov")
    monkeypatch.setattr(comparison, "CONTESTANTS", {**CONTESTANTS, "frouros": without_library})

    outcomes = compare(tmp_path, [YARDSTICK, "frouros"], rounds=1)

    assert "No module named 'frouros'" in str(outcomes["frouros"].failure)
    assert len(outcomes[YARDSTICK].timings[ROWS].seconds) == 1
    assert "No module named 'frouros'" in comparison_markdown(outcomes, [ROWS])


def test_who_misses_a_change_of_every_column_is_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "DRIFTED_ROWS", 2)  # too few for Trimtab to say anything

    outcomes = compare(tmp_path, [YARDSTICK, "trimtab"], rounds=1)

    assert "sees no drift" in str(outcomes["trimtab"].failure)
    assert not outcomes["trimtab"].timings


def test_requirements_that_cannot_be_installed_say_why(tmp_path: Path) -> None:
    requirements = tmp_path / "peer.txt"
    requirements.write_text("./nowhere.whl\n")

    with pytest.raises(NotInstalled, match="nowhere"):
        python_with(requirements, tmp_path / "environments")


def test_tables_depend_on_the_seed_and_on_drift_alone() -> None:
    def columns(seed: int, *, drift: bool = False) -> dict[str, list[object]]:
        made = table(200, np.random.default_rng(seed), Shape(), drift=drift)
        return {name: made[name].to_pylist() for name in made.column_names}

    assert columns(1) == columns(1)
    for changed in (columns(2), columns(1, drift=True)):
        assert all(changed[name] != values for name, values in columns(1).items())
    assert Shape().columns == len(columns(1))
    assert len(set(columns(1)[SEGMENT])) == Shape().segments


def test_a_large_file_is_written_by_row_groups(tmp_path: Path) -> None:
    path = write_by_groups(tmp_path / "large.parquet", 250, 100, 1, Shape())

    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [100, 100, 50]


def test_a_fit_is_measured_with_its_stored_size() -> None:
    found = fit(Case(1_000, Shape(numbers=2, segments=2, other_categories=()), segmented=True))

    assert found.cells == 2 * 3 + 1
    assert found.stored_bytes > 0
    assert found.simulation_seconds > 0
    assert f"| {found.stored_bytes / found.cells:.0f} |" in fits_markdown([found])


def test_checks_of_files_run_the_command(tmp_path: Path) -> None:
    found = file_checks(2_000, tmp_path)

    assert [(one.rows, one.segmented) for one in found] == [(2_000, False), (2_000, True)] * 2
    assert all(10 < one.peak_megabytes < 2_000 for one in found)
    assert file_checks_markdown(found).count("2,000 rows") == 4
