"""Bad recorded answers are found before the first hour is served."""

from pathlib import Path

import pytest

from services.feed.recordings import RecordedAnswers


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("a,b\n1,2\n3\n", r"bad\.csv:3: 1 values under 2 columns", id="ragged"),
        pytest.param("a,a\n1,2\n", "no CSV header of distinct names", id="a name twice"),
        pytest.param("<html>\n<body>\n", "no CSV header of distinct names", id="a web page"),
        pytest.param('{"records": [], "total": 0}\n', "a header without rows", id="JSON"),
        pytest.param('a,b\n"1"x,2\n', "cannot be read as CSV", id="text after a quote"),
    ],
)
def test_a_later_file_that_is_no_table_is_refused_at_once(
    content: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(ValueError, match=reason):
        RecordedAnswers(tmp_path)


def test_empty_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n\n3,4\n\n")
    assert [row["a"] for row in RecordedAnswers(tmp_path).rows(0)] == ["1", "3"]
