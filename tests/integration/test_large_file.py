"""The way of `python -m benchmarks.large_file`, which is for a million rows, with fewer."""

from pathlib import Path

import pytest

from benchmarks.large_file import MOST_MIB, measure


@pytest.mark.timeout(300)
def test_a_file_is_read_sorted_out_counted_in_chunks_and_checked(tmp_path: Path) -> None:
    course = measure(21_000, 5_000, tmp_path, bad=10)
    assert (course.batch.rows_received, course.batch.rows) == (21_000, 20_990)
    assert list(course.batch.set_aside.reasons.values()) == [10]
    assert course.chunks == 5
    assert course.report.verdict == "no drift"
    assert course.report.batch_rows == 20_990
    assert all(0 < course.peak_mib[stage] < most for stage, most in MOST_MIB.items())
