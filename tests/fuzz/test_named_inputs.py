"""The table of docs/input.md, row by row: what is thrown in, and what comes of it."""

import gzip
import json
import resource
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.cli.check import BadInput, Stated, check_files
from services.ingest.batch import ingest_batch
from services.ingest.rows import Rows, validate_rows
from services.ingest.sources import Answer
from services.ingest.tables import read_file
from shared.events import IngestionDue, first_event_fields
from shared.failures import WillNotPass
from shared.pipeline import CategoryColumn, NumberColumn, Pipeline, Schema, TimeColumn
from shared.records import Batch
from shared.store import Store
from shared.tables.content import UnreadableTable
from tests.fuzz.git_objects import FILE
from tests.fuzz.model_repository import (
    LINK,
    ODD_NAMES,
    SUBMODULE,
    TRAPS,
    Foreign,
    Place,
    Ref,
    commit_of,
    publish_to,
)
from tests.integration.publisher.bare import Bare

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SCHEMA = Schema(
    columns={
        "at": TimeColumn(type="time"),
        "value": NumberColumn(type="number"),
        "kind": CategoryColumn(type="category"),
    },
    event_time="at",
    key=("at", "kind"),
)
HEADER = "at,value,kind\n"
GOOD = "2026-04-07T10:00:00Z,1.5,a\n"


def read(tmp_path: Path, content: str | bytes, name: str = "batch.csv") -> Rows:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return validate_rows(read_file(path), SCHEMA, NOW)


def value_of(rows: Rows) -> float:
    (value,) = rows.valid["value"]
    return float(value)


def test_one_row_is_a_batch_of_one_row(tmp_path: Path) -> None:
    rows = read(tmp_path, HEADER + GOOD)
    assert (len(rows.valid), len(rows.refused)) == (1, 0)
    assert value_of(rows) == 1.5


def test_no_row_is_nothing_new(store: Store, air_quality: Pipeline) -> None:
    event = IngestionDue(**first_event_fields("air_quality", "none"), slot=NOW)
    none = pd.DataFrame(columns=list(air_quality.data.columns), dtype=object)
    batch = ingest_batch(event, Answer(none, "a test"), air_quality, store).record
    assert isinstance(batch, Batch)
    assert (batch.outcome, batch.sequence) == ("nothing new", None)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match=r"batch\.csv: empty"):
        read(tmp_path, "")


def test_a_thousand_columns_more_are_left_out(tmp_path: Path) -> None:
    names = "".join(f",c{number}" for number in range(1_000))
    rows = read(tmp_path, HEADER.strip() + names + "\n" + GOOD.strip() + ",7" * 1_000 + "\n")
    assert list(rows.valid.columns) == ["at", "value", "kind"]
    assert value_of(rows) == 1.5


def test_a_hundred_thousand_columns_take_no_longer_than_reading_them(tmp_path: Path) -> None:
    names = "".join(f",c{number}" for number in range(100_000))
    path = tmp_path / "wide.csv"
    path.write_text(HEADER.strip() + names + "\n" + GOOD.strip() + ",7" * 100_000 + "\n")
    assert read_file(path).shape == (1, 100_003)


@pytest.mark.parametrize("text", ["", "NA"])
def test_what_the_schema_calls_missing_is_missing(tmp_path: Path, text: str) -> None:
    rows = read(tmp_path, f"{HEADER}2026-04-07T10:00:00Z,{text},a\n")
    assert rows.valid["value"].isna().all()
    assert len(rows.refused) == 0


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-Infinity", "1e309", "-1e999"])
def test_nan_and_infinities_are_set_aside(tmp_path: Path, text: str) -> None:
    rows = read(tmp_path, f"{HEADER}2026-04-07T10:00:00Z,{text},a\n{GOOD}")
    assert len(rows.valid) == 1
    assert rows.faults["reason"].tolist() == ["not a number"]


def test_the_largest_numbers_are_numbers(tmp_path: Path) -> None:
    assert value_of(read(tmp_path, f"{HEADER}2026-04-07T10:00:00Z,1e308,a\n")) == 1e308
    assert value_of(read(tmp_path, f"{HEADER}2026-04-07T10:00:00Z,5e-324,a\n")) == 5e-324


def test_of_mixed_types_those_that_fit_stay(tmp_path: Path) -> None:
    mixed = [1.5, "2.5", True, [1], {"a": 1}, "x", None]
    records = [
        {"at": f"2026-04-07T1{number}:00:00Z", "value": value, "kind": "a"}
        for number, value in enumerate(mixed)
    ]
    rows = read(tmp_path, json.dumps(records), "batch.json")
    assert rows.valid["value"].dropna().tolist() == [1.5, 2.5]
    assert rows.valid["value"].isna().sum() == 1
    assert rows.faults["reason"].tolist() == ["not a number"] * 4


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match="two columns named 'value'"):
        read(tmp_path, "at,value,value\n")


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WillNotPass, match="value"):
        read(tmp_path, "at,kind\n2026-04-07T10:00:00Z,a\n")


def test_what_is_not_utf8_is_refused_with_the_byte(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match="not UTF-8: byte 64 is 0xe4; save it as UTF-8"):
        read(tmp_path, (HEADER + GOOD).encode() + b"2026-04-07T10:00:00Z,1,\xe4\n")


def test_utf16_is_read_if_a_mark_says_so(tmp_path: Path) -> None:
    assert value_of(read(tmp_path, (HEADER + GOOD).encode("utf-16"))) == 1.5
    with pytest.raises(UnreadableTable, match="the character 0; if it is UTF-16, save it as UTF-8"):
        read(tmp_path, (HEADER + GOOD).encode("utf-16-le"))


def test_gzip_is_read_whatever_its_name_is(tmp_path: Path) -> None:
    assert value_of(read(tmp_path, gzip.compress((HEADER + GOOD).encode()))) == 1.5


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_header_says_what_separates_values(tmp_path: Path, separator: str) -> None:
    assert value_of(read(tmp_path, (HEADER + GOOD).replace(",", separator))) == 1.5


def test_a_stray_quote_spoils_its_row_at_most(tmp_path: Path) -> None:
    later = "2026-04-07T11:00:00Z,2.5,b\n"
    rows = read(tmp_path, HEADER + '2026-04-07T09:00:00Z,"7,a\n' + GOOD + later)
    assert rows.valid["value"].tolist() == [1.5, 2.5]
    (reason,) = rows.reasons
    assert reason.startswith("value: not a number (such as '\"7')")


def test_a_cell_of_a_megabyte_that_nobody_asked_for_is_left_out(tmp_path: Path) -> None:
    rows = read(tmp_path, HEADER.strip() + ",shape\n" + GOOD.strip() + "," + "x" * 1_000_000)
    assert value_of(rows) == 1.5


def test_empty_columns_of_a_spreadsheet_are_no_columns(tmp_path: Path) -> None:
    rows = read(tmp_path, HEADER.strip() + ",,\n" + GOOD.strip() + ",,\n" + GOOD)
    assert len(rows.valid) == 2


def test_an_answer_of_data_gov_in_that_was_saved(tmp_path: Path) -> None:
    row = {"at": "2026-04-07T10:00:00Z", "value": 1.5, "kind": "a"}
    answer = {"status": "ok", "total": 1, "records": [row]}
    for text in (json.dumps(answer), json.dumps(answer, indent=1), json.dumps(row)):
        assert value_of(read(tmp_path, text, "saved.json")) == 1.5


def test_a_byte_order_mark_and_windows_line_ends_mean_nothing(tmp_path: Path) -> None:
    rows = read(tmp_path, ("\ufeff" + HEADER + GOOD).replace("\n", "\r\n"))
    assert value_of(rows) == 1.5


def test_a_row_of_another_length_is_set_aside(tmp_path: Path) -> None:
    rows = read(tmp_path, HEADER + GOOD + "2026-04-07T11:00:00Z,1\n2026-04-07T12:00:00Z,1,a,b\n")
    assert len(rows.valid) == 1
    assert rows.reasons == {
        "row: fewer values than columns": 1,
        "row: more values than columns": 1,
    }


def limited(code: str, tmp_path: Path, gigabytes: int) -> str:
    """What a process of its own prints at its end that may allocate so much."""

    def limit() -> None:
        most = gigabytes << 30
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        preexec_fn=limit,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.splitlines()[-1]


READ = """
    import sys
    from pathlib import Path
    from services.ingest.tables import read_file
    from shared.tables import content
    content.LARGEST_TABLE_BYTES = 100_000_000
    (path,) = Path(sys.argv[1]).iterdir()
    try:
        print(len(read_file(path)), "rows")
    except content.UnreadableTable as error:
        print(error)
"""
"""The limit is lower than it is in earnest, so that the bombs can be smaller."""


def test_a_gzip_bomb_is_refused_within_its_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(12):
            file.write((b"0" * 127 + b"\n") * (1 << 17))
    assert (tmp_path / "bomb.csv.gz").stat().st_size < 2_000_000
    assert "larger than 100,000,000 bytes" in limited(READ, tmp_path, 2)


def test_a_parquet_bomb_is_refused_within_its_memory(tmp_path: Path) -> None:
    """Rows of one text, which the file's dictionary says once."""
    text = pa.array(["x" * 1_000] * 200_000).dictionary_encode()
    pq.write_table(pa.table({"kind": text}), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 100_000
    assert "larger than 100,000,000 bytes" in limited(READ, tmp_path, 1)


def test_a_million_rows_are_read_and_sorted_out_within_two_gigabytes(tmp_path: Path) -> None:
    lines = [f"2026-04-07T10:{n % 60:02}:00Z,{n % 97},{'abc'[n % 3]}\n" for n in range(999_990)]
    bad = ["2026-04-07T10:00:00Z,broken,a\n"] * 10
    (tmp_path / "million.csv").write_text("".join([HEADER, *lines, *bad]))
    code = """
        import sys
        from pathlib import Path
        from services.ingest.rows import validate_rows
        from services.ingest.tables import read_file
        from tests.fuzz.test_named_inputs import NOW, SCHEMA
        (path,) = Path(sys.argv[1]).iterdir()
        rows = validate_rows(read_file(path), SCHEMA, NOW)
        print(len(rows.valid), len(rows.refused))
    """
    assert limited(code, tmp_path, 2) == "999990 10"


PUBLISH = """
    import re, sys
    from pathlib import Path
    from services.publisher.repository import ModelRepository
    from tests.fuzz.model_repository import commit_of
    def most_mib():
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]) // 1024
    folder, before = Path(sys.argv[1]), most_mib()
    repository = ModelRepository(str(folder / "models.git"), "main", folder / "cache", None, None)
    repository.publish(commit_of(1))
    grown = most_mib() - before
    print("published" if grown < 30 else f"grown by {grown} MiB")
"""


OURS = commit_of(2)
THEIRS = (b"model.joblib", FILE, b"theirs")
IN_A_FOLDER = commit_of(2, "models/")
FORGED = Foreign(OURS.message.encode(), (THEIRS,))
OUR_TAG = b"refs/tags/air_quality/v2"
MERGES = (Foreign(b"a"), Foreign(b"b", parents=()), Foreign(b"c", parents=(1, 2)))
ODD_FILES = (*((name, FILE, b"") for name in ODD_NAMES), *TRAPS)


class TestModelRepository:
    """What others have put there before a model is published."""

    @pytest.mark.parametrize(
        ("place", "outcome"),
        [
            (Place(OURS), "published"),
            (Place(OURS, (FORGED,)), "published"),
            (Place(OURS, (FORGED,), (Ref(OUR_TAG, "commit"),)), "refused: stands on"),
            (Place(OURS, MERGES, (Ref(OUR_TAG, "blob", tags=2),)), "refused: stands on"),
            (Place(OURS, (Foreign(b"x", ODD_FILES),)), "published"),
            (Place(OURS, (Foreign(b"x", ((b"model.joblib", LINK, b"/etc"),)),)), "published"),
            (Place(OURS, (Foreign(b"x", ((b"README.md", SUBMODULE, b""),)),)), "published"),
            (Place(OURS, (Foreign(b"x", ((b"README.md/x", FILE, b""),)),)), "refused: in the way"),
            (
                Place(IN_A_FOLDER, (Foreign(b"x", ((b"models", FILE, b""),)),)),
                "refused: in the way",
            ),
            (Place(OURS, MERGES, (Ref(b"refs/tags/air_quality", "blob"),)), "refused: in the way"),
            (Place(OURS, MERGES, padding=60), "published"),
            (Place(OURS, MERGES, shallow=True), "published"),
            (Place(OURS, (Foreign(b"x", (THEIRS,), twice=True),)), "refused: broken"),
            (Place(OURS, refs=(Ref(b"refs/heads/main", "blob"),)), "refused: broken"),
        ],
    )
    def test_it_has_its_outcome(self, place: Place, outcome: str) -> None:
        assert publish_to(place) == outcome

    def test_five_thousand_commits_with_trailers_like_ours(self, tmp_path: Path) -> None:
        bare = Bare.make(tmp_path / "models.git")
        forged = "x\n\nTrimtab-Model: air_quality/v7\nTrimtab-Run: " + "a" * 32
        bare.commit({"other": b"1"}, times=5_000, message=forged)
        assert limited(PUBLISH, tmp_path, 1) == "published"

    def test_trailers_of_ten_megabytes(self, tmp_path: Path) -> None:
        bare = Bare.make(tmp_path / "models.git")
        long = "Trimtab-Model: " + "air_quality/v1 " * 700_000
        bare.commit({"other": b"1"}, times=2, message=f"x\n\n{long}\nTrimtab-Run: {'a' * 32}")
        assert limited(PUBLISH, tmp_path, 1) == "published"


class TestCheck:
    """`trimtab check REFERENCE CURRENT`, which has no schema to go by."""

    REFERENCE = "value,kind\n" + "".join(f"{n % 17}.5,{'abc'[n % 3]}\n" for n in range(200))

    def verdict(self, tmp_path: Path, content: bytes, name: str = "current.csv") -> str:
        (tmp_path / "reference.csv").write_text(self.REFERENCE)
        (tmp_path / name).write_bytes(content)
        return check_files(tmp_path / "reference.csv", tmp_path / name, Stated()).verdict

    @pytest.mark.parametrize(
        ("content", "verdict"),
        [
            ("value,kind\n", "no data"),
            ("value,kind\n1.5,a\n", "insufficient data"),
            ("value,kind\n" + "nan,a\n" * 200, "drift"),
            ("value,kind\n" + "inf,a\n" * 200, "drift"),
            ("value,kind\n" + "1e308,a\n" * 200, "drift"),
            ("value,kind\n" + "text,a\n" * 200, "drift"),
            ("kind\n" + "a\n" * 200, "drift"),
        ],
        ids=["no row", "one row", "NaN", "infinite", "1e308", "texts", "column gone"],
    )
    def test_what_is_a_table_has_a_verdict(
        self, tmp_path: Path, content: str, verdict: str
    ) -> None:
        assert self.verdict(tmp_path, content.encode()) == verdict

    def test_a_mark_and_windows_line_ends_mean_nothing(self, tmp_path: Path) -> None:
        windows = ("\ufeff" + self.REFERENCE).replace("\n", "\r\n").encode()
        assert self.verdict(tmp_path, windows) == "no drift"

    def test_a_thousand_columns_more_mean_nothing(self, tmp_path: Path) -> None:
        lines = self.REFERENCE.splitlines()
        names = "".join(f",c{number}" for number in range(1_000))
        wide = "\n".join([lines[0] + names, *(line + ",7" * 1_000 for line in lines[1:])])
        assert self.verdict(tmp_path, wide.encode()) == "no drift"

    @pytest.mark.parametrize(
        ("content", "name", "says"),
        [
            (b"", "current.csv", "empty"),
            (b"value,value\n1,2\n", "current.csv", "two columns named 'value'"),
            (b"value,kind\n1,\xe4\n", "current.csv", "UTF-8"),
            (b"[1]", "current.json", "records"),
            (b"\x1f\x8b broken", "current.csv.gz", "current.csv.gz"),
            (b"PAR1 broken", "current.parquet", "current.parquet"),
            (b"{", "current.json", "JSON"),
            (b"value\n", "current.xlsx", "known kind"),
        ],
    )
    def test_what_is_none_is_refused_with_its_name(
        self, tmp_path: Path, content: bytes, name: str, says: str
    ) -> None:
        with pytest.raises(BadInput, match=r"current\.") as refused:
            self.verdict(tmp_path, content, name)
        assert says in str(refused.value)
