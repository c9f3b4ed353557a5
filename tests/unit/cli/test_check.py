"""`trimtab check` and `trimtab profile`: what they answer, and what they say to bad input."""

import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from typer.testing import CliRunner, Result

import services.cli.check as check_module
from services.cli.main import app
from services.drift.report.model import DriftReport
from shared.wording import NO_BREAK

ROWS = 400
Run = Callable[..., Result]
Columns = Mapping[str, list[Any]]

PIPELINE = """\
name: made
source: {kind: manual}
schema:
  columns:
    place: {type: category}
    value: {type: number, minimum: -90, aliases: [measured]}
    other: {type: number}
  missing: ["", "none"]
drift: {alpha: 10, segment: place}
training: {target: value, task: regression, features: [place]}
"""


def made(seed: int, shift: float = 0.0) -> dict[str, list[Any]]:
    """Rows as CSV has them: two number columns, a category, a time and an identifier."""
    rng = np.random.default_rng(seed)
    values: list[Any] = [f"{value:.4g}" for value in rng.normal(shift, 1, ROWS)]
    values[::50] = ["NA"] * len(values[::50])
    return {
        "id": list(range(ROWS)),
        "time": [f"2024-04-{1 + i % 28:02}" for i in range(ROWS)],
        "place": rng.choice(["north", "south"], ROWS).tolist(),
        "value": values,
        "other": rng.integers(0, 50, ROWS).tolist(),
    }


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of every test, under short names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write("reference.csv", made(1))
    write("same.csv", made(2))
    write("shifted.csv", made(3, shift=1.5))
    Path("pipeline.yaml").write_text(PIPELINE)


def write(name: str, columns: Columns) -> None:
    csv.write_csv(pa.table(dict(columns)), name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def checked(*arguments: str) -> DriftReport:
    """The report that --json prints; nothing else may be on stdout."""
    done = run("check", *arguments, "--json")
    assert done.exit_code == 0, done.output
    assert not done.stderr
    return DriftReport.model_validate_json(done.stdout)


def refused(*arguments: str) -> str:
    """What bad input is told on stderr: one line, exit code 2."""
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert not done.stdout
    assert done.stderr.startswith("trimtab: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_no_drift() -> None:
    report = checked("reference.csv", "same.csv")
    assert (report.verdict, report.needs_retraining) == ("no drift", False)
    assert report.name == "same.csv against reference.csv"
    assert report.threshold == pytest.approx(0.001)


def test_drift() -> None:
    report = checked("reference.csv", "shifted.csv")
    assert (report.verdict, report.needs_retraining) == ("drift", True)
    assert report.cells[0].column == "value"
    assert report.cells[0].speaks


def test_types_and_roles_are_read_off_the_reference() -> None:
    report = checked("reference.csv", "same.csv", "--target", "other")
    assert [(column.name, column.type, column.role) for column in report.columns] == [
        ("id", "number", "left out"),
        ("time", "time", "left out"),
        ("place", "category", "compared"),
        ("value", "number", "compared"),
        ("other", "number", "compared"),
    ]
    assert report.columns[4].note == "the target"
    assert report.missing_rates["value"].reference == pytest.approx(0.02)


def test_segment_and_clusters() -> None:
    report = checked(
        *("reference.csv", "shifted.csv", "--segment", "place"),
        *("--cluster", "time", "--cluster", "other"),
    )
    roles = {column.name: column.role for column in report.columns}
    assert (roles["place"], roles["time"], roles["other"]) == ("segment", "cluster", "cluster")
    assert {cell.segment for cell in report.cells} == {None, "north", "south"}


def test_every_kind_of_file_gives_the_same_report() -> None:
    table = csv.read_csv("shifted.csv")
    parquet.write_table(table, "shifted.parquet", row_group_size=150)
    Path("shifted.csv.gz").write_bytes(gzip.compress(Path("shifted.csv").read_bytes()))
    lines = "".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist())
    Path("shifted.jsonl").write_text(lines)
    expected = checked("reference.csv", "shifted.csv")
    for kind in ("parquet", "csv.gz", "jsonl"):
        report = checked("reference.csv", f"shifted.{kind}")
        assert report.p == pytest.approx(expected.p)
        assert report.cells == expected.cells
        assert report.rows == ROWS


def test_the_terminal_shows_verdict_and_reason_first() -> None:
    done = run("check", "reference.csv", "shifted.csv", "--segment", "place")
    assert done.exit_code == 0, done.output
    first, *rest = done.stdout.splitlines()
    assert first == ("drift: shifted.csv against reference.csv; 2 columns questionable: id, time")
    assert rest[0].startswith("value")
    text = done.stdout
    assert "What changed" in text
    assert "value in north" in text
    assert "1 false alarm per 1,000 checks" in " ".join(text.split())
    assert "times: new rows are later" in text
    assert "Assumptions" in text
    assert "No cluster column" in text


def test_the_verdict_line_says_which_columns_a_person_may_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = made(2) | {f"column {n}": ["x"] * ROWS for n in range(7)}
    write("more.csv", columns)
    done = run("check", "reference.csv", "more.csv")
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    verdict = " ".join(done.stdout.partition("nothing beyond chance")[0].split())
    assert verdict == (
        "no drift: more.csv against reference.csv; 9 columns questionable: "
        "id, time, column 0, column 1, column 2 and 4 more"
    )
    text = " ".join(done.stdout.split())
    assert "column 6 left out the reference does not have it" in text
    report = checked("reference.csv", "more.csv")
    assert len(report.questionable_columns) == 9


def test_rows_of_a_wrong_form_are_left_out_and_said() -> None:
    for name in ("reference.csv", "same.csv"):
        with Path(name).open("a") as file:
            file.write("too,few\n" * 3)
    report = checked("reference.csv", "same.csv")
    assert (report.verdict, report.rows, report.rows_set_aside) == ("no drift", ROWS, 3)
    assert report.reference_rows == ROWS
    assert "same.csv: 3 rows are left out: fewer values than columns." in report.assumptions
    assert "reference.csv: 3 rows are left out: fewer values than columns." in report.assumptions


def test_numbers_with_decimal_commas_are_compared() -> None:
    rng = np.random.default_rng(9)
    for name, factor in (("before.csv", 1), ("after.csv", 3)):
        amounts = [
            f"{amount:.2f}".replace(".", ",") for amount in factor * rng.lognormal(4, 1, 300)
        ]
        Path(name).write_text("\n".join(["amount;k", *(f"{each};a" for each in amounts)]))
    report = checked("before.csv", "after.csv")
    assert (report.verdict, report.cells[0].column) == ("drift", "amount")
    done, why = done_with(report)["amount"]
    assert done == "read as numbers"
    assert why.startswith("numbers with decimal commas, such as '")


def test_the_index_of_pandas_in_parquet_is_left_out() -> None:
    for name, first in (("before.parquet", 0), ("after.parquet", ROWS)):
        frame = pd.DataFrame(made(1), index=np.arange(first, first + ROWS) * 3)
        frame.to_parquet(name)
    report = checked("before.parquet", "after.parquet")
    assert report.verdict == "no drift"
    assert done_with(report)["__index_level_0__"] == ("left out", "the index that pandas wrote")


def test_the_terminal_of_no_drift() -> None:
    done = run("check", "reference.csv", "same.csv")
    assert done.stdout.startswith("no drift: ")
    assert "Nearest to a change" in done.stdout


def test_hostile_names_do_not_reach_the_terminal_as_they_are() -> None:
    columns = made(1)
    columns["[bold]\x1b[31m"] = columns.pop("other")
    columns["place"] = ["[/]\x07"] * ROWS
    write("odd.csv", columns)
    write("odd2.csv", columns | {"place": ["\x1b[2J", *["[/]\x07"] * (ROWS - 1)]})
    done = run("check", "odd.csv", "odd2.csv")
    assert done.exit_code == 0, done.output
    assert "[bold]" in done.stdout
    assert not {"\x1b", "\x07"} & set(done.stdout)


def test_fail_on_drift_exits_with_three() -> None:
    done = run("check", "reference.csv", "shifted.csv", "--fail-on-drift", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["verdict"] == "drift"
    assert run("check", "reference.csv", "same.csv", "--fail-on-drift").exit_code == 0


def test_html() -> None:
    done = run("check", "reference.csv", "shifted.csv", "--html", "report.html", "--json")
    assert done.exit_code == 0, done.output
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "shifted.csv against reference.csv" in page


def test_few_and_no_rows_give_no_verdict() -> None:
    write("few.csv", {name: values[:3] for name, values in made(4).items()})
    write("none.csv", {name: values[:0] for name, values in made(4).items()})
    assert checked("reference.csv", "few.csv").verdict == "insufficient data"
    assert checked("reference.csv", "none.csv").verdict == "no data"
    assert "no data" in run("check", "reference.csv", "none.csv").stdout


def test_a_reference_that_is_too_small_is_said_to_be_too_small() -> None:
    for rows in (5, 49, 50):
        write(f"{rows}.csv", {name: values[:rows] for name, values in made(1).items()})
    report = checked("5.csv", "same.csv")
    assert (report.verdict, report.needs_retraining) == ("insufficient data", False)
    assert report.reason == "A reference needs at least 50 rows; this one has 5."
    assert (report.p, report.window, report.cells) == (None, None, [])
    assert (report.rows, report.reference_rows) == (ROWS, 5)
    assert checked("49.csv", "shifted.csv").verdict == "insufficient data"
    assert checked("50.csv", "shifted.csv").verdict == "drift"
    first, second, *_ = run("check", "5.csv", "same.csv").stdout.splitlines()
    assert first.startswith("insufficient data: same.csv against 5.csv")
    assert second == "A reference needs at least 50 rows; this one has 5."
    run("profile", "5.csv", "-o", "kept")
    assert checked("kept", "same.csv").verdict == "insufficient data"
    write("none.csv", {name: values[:0] for name, values in made(4).items()})
    assert checked("5.csv", "none.csv").verdict == "no data"


def test_without_a_verdict_fail_on_drift_exits_with_four() -> None:
    for name, rows in (("few.csv", 3), ("none.csv", 0)):
        write(name, {name: values[:rows] for name, values in made(4).items()})
        assert run("check", "reference.csv", name, "--fail-on-drift").exit_code == 4
        assert run("check", "reference.csv", name).exit_code == 0
    assert run("check", "few.csv", "same.csv", "--fail-on-drift").exit_code == 4


def test_a_column_that_the_current_file_lacks_is_missing_in_every_row() -> None:
    columns = made(2)
    del columns["value"]
    write("lacks.csv", columns)
    report = checked("reference.csv", "lacks.csv")
    assert report.verdict == "drift"
    assert report.missing_rates["value"].current == 1
    assert done_with(report)["value"] == ("missing in every row", "the batch does not have it")


def test_a_column_that_the_reference_lacks_is_left_out_and_said() -> None:
    write("more.csv", made(2) | {"colour": ["red"] * ROWS})
    report = checked("reference.csv", "more.csv")
    assert report.verdict == "no drift"
    assert done_with(report)["colour"] == ("left out", "the reference does not have it")


def done_with(report: DriftReport) -> dict[str, tuple[str, str]]:
    """What was done with the questionable columns, and why."""
    return {column.name: (column.done, column.why) for column in report.questionable_columns}


def test_texts_where_numbers_were_count_as_missing() -> None:
    columns = made(2)
    columns["other"] = [
        "broken" if i % 2 else str(value) for i, value in enumerate(columns["other"])
    ]
    write("texts.csv", columns)
    report = checked("reference.csv", "texts.csv")
    assert report.verdict == "drift"
    assert report.missing_rates["other"].current == pytest.approx(0.5)


def test_a_profile_stands_for_its_reference() -> None:
    done = run("profile", "reference.csv", "-o", "kept", "--segment", "place")
    assert done.exit_code == 0, done.output
    assert f"for {ROWS} rows" in done.stdout
    report = checked("kept", "shifted.csv", "--segment", "place")
    direct = checked("reference.csv", "shifted.csv", "--segment", "place")
    assert (report.verdict, report.reference_rows) == ("drift", ROWS)
    assert report.columns == direct.columns
    assert [cell.direction for cell in report.cells] == [cell.direction for cell in direct.cells]
    assert checked("kept", "same.csv").verdict == "no drift"


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (["--segment", "other"], "this profile was made with segment 'place', not 'other'"),
        (["--cluster", "time"], "this profile was made with cluster none, not 'time'"),
        (["--target", "value"], "this profile was made with target none, not 'value'"),
    ],
)
def test_a_profile_with_other_roles(stated: list[str], said: str) -> None:
    run("profile", "reference.csv", "-o", "kept", "--segment", "place")
    error = refused("check", "kept", "same.csv", *stated)
    assert said in error
    assert "make another with `trimtab profile`" in error


def test_a_profile_of_a_profile() -> None:
    run("profile", "reference.csv", "-o", "kept")
    assert "kept: is a profile already" in refused("profile", "kept", "-o", "again")


def test_a_broken_profile() -> None:
    run("profile", "reference.csv", "-o", "kept")
    document = json.loads(gzip.decompress(Path("kept").read_bytes()))
    del document["binning"]["edges"]
    text = json.dumps(document, separators=(",", ":")).encode()
    Path("kept").write_bytes(gzip.compress(text))
    assert "kept: not a profile (trimtab-profile/2): binning.edges" in refused(
        "check", "kept", "same.csv"
    )
    Path("kept").write_bytes(gzip.compress(text)[:-100])
    assert "kept: not a profile" in refused("check", "kept", "same.csv")
    Path("kept").write_bytes(gzip.compress(text.replace(b"profile/2", b"profile/9", 1)))
    assert "kept: not a profile (trimtab-profile/2): format" in refused("check", "kept", "same.csv")


@pytest.mark.parametrize(
    ("reference", "current", "said"),
    [
        ("none.csv", "same.csv", "none.csv: cannot be read: No such file"),
        ("reference.csv", "none.csv", "none.csv: cannot be read: No such file"),
        ("folder", "same.csv", "folder: a folder"),
        ("empty.csv", "same.csv", "empty.csv: empty"),
        ("reference.csv", "empty.csv", "empty.csv: empty"),
        ("header.csv", "same.csv", "header.csv: the reference has no rows"),
        ("torn.csv", "same.csv", "torn.csv: 2 of 3 rows are broken, most often with 'fewer"),
        ("reference.csv", "torn.csv", "torn.csv: 2 of 3 rows are broken, most often with 'fewer"),
        ("torn.parquet", "same.csv", "torn.parquet: not a Parquet table"),
        ("torn.json", "same.csv", "torn.json: not JSON"),
        ("torn.csv.gz", "same.csv", "torn.csv.gz: cannot be read"),
        ("latin.csv", "same.csv", "latin.csv: not UTF-8: byte 14 is 0xe9; save it as UTF-8"),
        ("reference.csv", "latin.csv", "latin.csv: not UTF-8: byte 14"),
        ("sheet.xlsx", "same.csv", "sheet.xlsx: of no known kind; use .csv"),
        ("reference.csv", "other.csv", "other.csv: has no column in common with the reference"),
        ("times.csv", "same.csv", "times.csv: no column can be compared (time: times"),
    ],
)
def test_files_that_cannot_be_checked(reference: str, current: str, said: str) -> None:
    Path("folder").mkdir()
    for name, content in {
        "empty.csv": b"",
        "header.csv": b"value,other\n",
        "torn.csv": b"value,other\n1,2\n3\n4\n",
        "torn.parquet": b"PAR1",
        "torn.json": b'[{"value": 1}, {"value"',
        "torn.csv.gz": gzip.compress(b"value,other\n" + b"1,2\n" * 9999)[:-12],
        "latin.csv": "value,other\n1,é\n".encode("latin-1"),
        "sheet.xlsx": b"PK",
        "other.csv": b"x,y\n1,2\n",
        "times.csv": b"time\n2024-01-01\n",
    }.items():
        Path(name).write_bytes(content)
    assert said in refused("check", reference, current)
    assert said in refused("check", reference, current, "--json")


@pytest.mark.parametrize("option", ["segment", "cluster", "target"])
def test_a_column_that_is_not_there(option: str) -> None:
    error = refused("check", "reference.csv", "same.csv", f"--{option}", "plcae")
    assert f"{option}: there is no column 'plcae'; did you mean 'place'?" in error
    assert error == refused("profile", "reference.csv", "-o", "kept", f"--{option}", "plcae")
    assert not Path("kept").exists()


@pytest.mark.parametrize("place", ["no/such/folder/report", "folder"])
def test_what_cannot_be_written(place: str) -> None:
    Path("folder").mkdir()
    assert f"{place}: cannot be written" in refused(
        "check", "reference.csv", "same.csv", "--html", place, "--json"
    )
    assert f"{place}: cannot be written" in refused("profile", "reference.csv", "-o", place)


def test_a_pipelines_file_says_everything() -> None:
    """Types, aliases, texts for a missing value, rules for rows, roles, and α."""
    columns = made(2)
    columns["measured"] = ["none", "-99", *columns.pop("value")[2:]]
    write("current.csv", columns)
    report = checked("reference.csv", "current.csv", "--pipeline", "pipeline.yaml")
    assert report.verdict == "no drift"
    assert report.threshold == pytest.approx(0.01)
    assert report.rows_set_aside == 8  # one below the minimum, and where 'NA' is no number
    assert [(column.name, column.role, column.inferred) for column in report.columns] == [
        ("place", "segment", False),
        ("value", "compared", False),
        ("other", "left out", False),
    ]
    assert (
        "8 set aside"
        in run("check", "reference.csv", "current.csv", "--pipeline", "pipeline.yaml").stdout
    )


@pytest.mark.parametrize("spelling", [str, lambda flag: str(flag).lower(), int])
def test_flags_of_a_pipelines_category_are_one_thing(spelling: Callable[[bool], Any]) -> None:
    flags = [n % 3 == 0 for n in range(ROWS)]
    parquet.write_table(pa.table(made(1) | {"other": flags}), "flags.parquet")
    write("flags.csv", made(2) | {"other": [spelling(flag) for flag in flags]})
    Path("flags.yaml").write_text(
        PIPELINE.replace("other: {type: number}", "other: {type: category}")
        .replace("segment: place", "segment: other")
        .replace("features: [place]", "features: [place, other]")
    )
    report = checked("flags.parquet", "flags.csv", "--pipeline", "flags.yaml")
    assert (report.verdict, report.new_categories) == ("no drift", {})
    assert {cell.segment for cell in report.cells} == {None, "true", "false"}


def test_a_profile_and_a_pipeline() -> None:
    done = run("profile", "reference.csv", "-o", "kept", "--pipeline", "pipeline.yaml")
    assert done.exit_code == 0, done.output
    assert checked("kept", "shifted.csv", "--pipeline", "pipeline.yaml").verdict == "drift"
    Path("other.yaml").write_text(PIPELINE.replace("segment: place", "columns: [other]"))
    assert "this profile was made with segment 'place', not none" in refused(
        "check", "kept", "same.csv", "--pipeline", "other.yaml"
    )


def test_what_is_wrong_with_a_pipelines_file_or_its_rows() -> None:
    files = ("check", "reference.csv", "same.csv", "--pipeline")
    assert "No such file" in refused(*files, "none.yaml")
    Path("typo.yaml").write_text(PIPELINE.replace("schema:", "shema:"))
    assert "did you mean 'schema'?" in run(*files, "typo.yaml").stderr
    assert run(*files, "typo.yaml").exit_code == 2
    assert "--pipeline says what --segment" in refused(*files, "pipeline.yaml", "--segment", "id")
    Path("high.yaml").write_text(PIPELINE.replace("-90", "90"))
    assert f"100{NO_BREAK}% of the rows break the pipeline's schema" in refused(*files, "high.yaml")
    write("lacks.csv", {"place": ["north"] * ROWS})
    assert "no column value, other" in refused(
        "check", "reference.csv", "lacks.csv", "--pipeline", "pipeline.yaml"
    )


def test_long_work_is_told_in_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_module, "LINE_SECONDS", 0.05)
    with check_module.shown_progress("comparing") as progress:
        assert progress
        time.sleep(0.08)
        progress(0.5)
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "trimtab: comparing for 0 seconds"
    assert lines[-1] == f"trimtab: comparing for 0 seconds, 50{NO_BREAK}% done"
    time.sleep(0.1)
    assert not capsys.readouterr().err


def test_lists_where_the_reference_has_numbers_are_questionable() -> None:
    lines = [json.dumps({"other": [n], "value": n % 7, "place": "north"}) for n in range(ROWS)]
    Path("lists.jsonl").write_text("\n".join(lines))
    assert done_with(checked("reference.csv", "lists.jsonl"))["other"] == (
        "missing in every row",
        "lists or objects of the batch cannot be compared; give each of their values a column",
    )


def test_rows_of_one_cluster_allow_no_verdict() -> None:
    for name, seed in (("few.csv", 4), ("other.csv", 5)):
        write(name, made(seed) | {"time": ["2024-04-01"] * ROWS})
    one = checked("reference.csv", "few.csv", "--cluster", "time")
    assert (one.verdict, one.reason.partition("; ")[2]) == (
        "insufficient data",
        "the batch has 1.",
    )
    both = checked("few.csv", "other.csv", "--cluster", "time")
    assert both.reason.endswith("; the reference has 1 and the batch has 1.")
    done = run("check", "few.csv", "other.csv", "--cluster", "time", "--fail-on-drift")
    assert done.exit_code == 4
