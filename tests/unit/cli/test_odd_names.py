"""Commands on tables whose columns, values and files have odd names."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import pytest
import yaml
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.cli.terminal import console
from services.drift.report.wording import name
from shared.plain_text import visible

NAMES: Final = (
    "[/b]",
    "[red]x",
    "[link=https://example.org]y[/link]",
    "",
    "n" * 10_000,
    "\U0001f600",
    "e\u0301\u0302",
    " a",
    "</script><script>alert(1)</script>",
    "x\x1b[31m",
    "b\u202ec",
    "l\nm",
    "'\"&",
    "{{7*7}}",
    "%s{0}",
    ":smile:",
    "d\x00e",
)
VALUES: Final = ("[/b]", "<script>alert(1)</script>", "\x1b[31m", "e\u0301", "\u202e")
ROWS: Final = 200


def rows(seed: int, shift: float = 0.0) -> list[dict[str, Any]]:
    """Each third column is a category."""
    rng = np.random.default_rng(seed)
    values = VALUES if shift else VALUES[:-1]
    return [
        {
            column: str(rng.choice(values)) if place % 3 == 0 else round(rng.normal(shift), 3)
            for place, column in enumerate(NAMES)
        }
        for _ in range(ROWS)
    ]


def write(file: Path, table: list[dict[str, Any]]) -> str:
    if file.suffix == ".json":
        file.write_text(json.dumps(table), encoding="utf-8")
    else:
        with file.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return file.name


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(autouse=True, params=[".csv", ".json"])
def files(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """A reference and rows that differ, in files whose names are markup too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "_width", 400)
    reference = write(tmp_path / f"[red]{request.param}", rows(1))
    return reference, write(tmp_path / f"[b]{request.param}", rows(2, shift=1.5))


def require_names(output: str) -> None:
    """Those that a CSV file leaves as they are."""
    assert visible(output) == output
    kept = [column for column in NAMES if column.strip()]
    assert [column for column in kept if name(column).strip() not in output] == []


def strictly(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def test_check_prints_them_as_they_are(files: tuple[str, str]) -> None:
    done = run("check", *files)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"drift: {files[1]} against {files[0]}")
    require_names(done.stdout)


def test_in_a_narrow_terminal(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", 80)
    done = run("check", *files)
    assert done.exit_code == 0, done.output
    assert max(map(cell_len, done.stdout.splitlines())) <= 80


def test_the_json_has_them_whole(files: tuple[str, str]) -> None:
    report = json.loads(run("check", *files, "--json").stdout, parse_constant=strictly)
    read = [column["name"].strip() for column in report["columns"]]
    assert [column for column in NAMES if column.strip() and column.strip() not in read] == []


def test_the_page_has_no_script(files: tuple[str, str], tmp_path: Path) -> None:
    run("check", *files, "--html", "[page].html")
    page = (tmp_path / "[page].html").read_text(encoding="utf-8")
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert "table" in tags
    assert "script" not in tags
    assert visible(page) == page


def test_a_profile_keeps_them(files: tuple[str, str]) -> None:
    made = run("profile", files[0], "--output", "[b].profile")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("[b].profile: ")
    done = run("check", "[b].profile", files[1])
    assert done.exit_code == 0, done.output
    require_names(done.stdout)


@pytest.mark.parametrize("option", ["--segment", "--target", "--cluster"])
def test_a_role_for_a_column_that_is_not_there(option: str, files: tuple[str, str]) -> None:
    done = run("check", *files, option, "[/i]\x1b[31m")
    assert done.exit_code == 2
    assert r"[/i]\x1b[31m" in done.stderr


def test_a_replay_prints_them_as_they_are(files: tuple[str, str], tmp_path: Path) -> None:
    definition = {
        "name": "made",
        "source": {"kind": "manual"},
        "schema": {
            "columns": {
                "[/b]": {"type": "category"},
                "[red]x": {"type": "number"},
                "[link=https://example.org]y[/link]": {"type": "number"},
            }
        },
        "drift": {"segment": "[/b]"},
        "training": {
            "target": "[red]x",
            "task": "regression",
            "features": ["[/b]", "[link=https://example.org]y[/link]"],
            "parameters": {"n_estimators": 5},
        },
    }
    (tmp_path / "[i].yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")
    folder = tmp_path / "batches"
    folder.mkdir()
    for number in (1, 2):
        write(folder / f"[{number}]{Path(files[0]).suffix}", rows(number))
    done = run("replay", str(folder), "--pipeline", "[i].yaml", "--policy", "[i].yaml")
    assert done.exit_code == 0, done.output
    words = done.stdout.split()
    assert words.count("[i]") == 2
    assert {"[1]", "[2]"} <= set(words)
