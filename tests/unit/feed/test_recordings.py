"""Recorded answers: which file is which hour, values as they stand, and bad files."""

import csv
from datetime import datetime
from pathlib import Path

import pytest

from services.feed.recordings import RecordedAnswers
from services.feed.stations import INDIA, SimulatedStations

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "aqi"


def write_simulated(folder: Path) -> Path:
    """Two hours of simulated stations as CSV files."""
    history = SimulatedStations(stations=12, start=datetime(2026, 1, 10, 9, tzinfo=INDIA))
    for hour in (0, 1):
        rows = history.rows(hour)
        with (folder / f"2026-01-10T{9 + hour:02}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(params=["recorded", "simulated"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Recorded answers, where they are; and simulated ones, always."""
    if request.param == "simulated":
        return write_simulated(tmp_path)
    if not RECORDED.is_dir():
        pytest.skip("no recorded answers beside this checkout; simulated ones are read instead")
    return RECORDED


def test_every_file_is_one_hour_oldest_first_with_its_values_verbatim(folder: Path) -> None:
    history = RecordedAnswers(folder)
    files = sorted(folder.glob("*.csv"))
    assert history.hours == len(files)
    for hour, path in enumerate(files):
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        rows = history.rows(hour)
        assert [list(row) for row in rows[:1]] == [header]
        assert [list(row.values()) for row in rows] == lines


def test_any_header_will_do_and_nothing_is_converted(tmp_path: Path) -> None:
    text = 'station,min_value,last_update\n"Anand Vihar, Delhi - X", 007 ,07-04-2026 21:00\n'
    (tmp_path / "a.csv").write_text(text)
    assert RecordedAnswers(tmp_path).rows(0) == [
        {
            "station": "Anand Vihar, Delhi - X",
            "min_value": " 007 ",
            "last_update": "07-04-2026 21:00",
        }
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfcity,no\r\nPune,1\r\n")
    assert RecordedAnswers(tmp_path).rows(0) == [{"city": "Pune", "no": "1"}]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not an answer")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert RecordedAnswers(tmp_path).hours == 1


def test_a_folder_without_answers_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        RecordedAnswers(tmp_path)
    with pytest.raises(ValueError, match="absent"):
        RecordedAnswers(tmp_path / "absent")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\xff", id="an image"),
        pytest.param("a,b\nMünchen,1\n".encode("latin-1"), id="not UTF-8"),
        pytest.param(b"", id="empty"),
        pytest.param(b"a,b\n", id="no rows"),
        pytest.param(b"a,b\n1,2\n1,2,3\n", id="too many values"),
        pytest.param(b"a,b\n1\n", id="too few values"),
        pytest.param(b'a,b\n"1,2\n', id="a quote left open"),
    ],
)
def test_a_file_that_is_no_table_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.csv"):
        RecordedAnswers(tmp_path).rows(0)
