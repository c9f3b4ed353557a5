"""What is thrown at the readers: valid examples, bent; and structures with hostile leaves."""

import base64
import csv
import gzip
import io
import json
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from shared.events import STAGES, Stage, dump_event
from tests.conftest import AIR_QUALITY
from tests.security.foreign_messages import foreign, message
from tests.security.test_foreign_messages import UNKNOWN_PIPELINE

HOSTILE_TEXTS = (
    *("", " ", "NA", "nan", "NaN", "inf", "-Infinity", "1e308", "-1e999", "0x1p3", "1_000", "١٢"),
    *(
        "\0",
        "\0fault",
        "\ud800",
        "\ufeff",
        "\u202e",
        "a" * 300,
        "=1+1",
        '"',
        "'",
        ",",
        "\r\n",
        "\t",
    ),
    *(
        "31-12-9999 24:00:00",
        "30-02-2026 10:00:00",
        "01-01-0001 00:00:00",
        "9" * 400,
        "-0",
        "1e-400",
    ),
    *("true", "null", "[]", "{}", "../../etc/passwd", "${HOME}", "{{7*7}}", "%s%n", "<script>"),
)
TOKENS = (
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n\n",
        b'"',
        b"'",
        b",",
        b";",
        b"{",
        b"}",
        b"[",
    ),
    *(
        b"]",
        b":",
        b"null",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-",
        b"\\u0000",
        b"\\ud800",
        b"&a",
        b"*a",
    ),
    *(b"!!python/object/apply:os.system [id]", b"<<: *a", b"%", b"\x1f\x8b", b"PAR1", b"9" * 5000),
)
YAML_TOKENS = (
    *(b" 2026-13-45", b" 0x_", b" 1:99:99", b"[" * 400, b" &a [*a]", b" &a {<<: *a}", b"? [a]"),
    b"\na: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
)

values = st.one_of(
    st.sampled_from(HOSTILE_TEXTS),
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)

LARGE_TEXTS = (
    *("9" * 20_000 + "x", "1," * 20_000 + "x", "(" + "1" * 20_000, " " * 50_000 + "x"),
    *("T1" * 20_000, "1 000" * 9_000, "x" * 200_000, "1e" + "9" * 20_000, "0." + "0" * 50_000),
    *("[" * 20_000, '{"a":' * 20_000, "@" * 50_000, '"' * 20_001),
)
LARGE_VALUES = (
    *LARGE_TEXTS,
    10**4_000,
    [[[[[0] * 10_000] * 2]]],
    {f"k{number}": number for number in range(5_000)},
)


def _within(lists: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(lists):
        value = [value]
    return value


large = st.sampled_from((*LARGE_VALUES, _within(80), _within(400)))
"""Long cells, many keys, deep nesting: each is more than a bound allows."""

GOOD_ROW = {
    "country": "India",
    "state": "Delhi",
    "city": "Delhi",
    "station": "Anand Vihar, Delhi - DPCC",
    "last_update": "07-04-2026 21:00:00",
    "latitude": "28.6",
    "longitude": "77.3",
    "pollutant_id": "PM2.5",
    "pollutant_min": "1",
    "pollutant_max": "90",
    "pollutant_avg": "45",
}


@st.composite
def bent(draw: st.DrawFn, examples: list[bytes], tokens: tuple[bytes, ...] = TOKENS) -> bytes:
    """An example with up to six cuts, copies, swaps and insertions."""
    content = bytearray(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content)))
        upto = min(len(content), at + draw(st.integers(0, 40)))
        match draw(st.integers(0, 4)):
            case 0:
                del content[at:upto]
            case 1:
                content[at:at] = content[at:upto]
            case 2:
                content[at:at] = draw(st.sampled_from(tokens))
            case 3:
                content[at:upto] = draw(st.binary(max_size=8))
            case _:
                del content[at:]
    return bytes(content)


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of the feed, in which some values, names and columns are not as they should be."""
    table = []
    for _ in range(draw(st.integers(0, 5))):
        row: dict[str, Any] = dict(GOOD_ROW)
        for name in draw(st.lists(st.sampled_from(sorted(GOOD_ROW)), max_size=4)):
            row[name] = draw(values)
        for name in draw(st.lists(st.sampled_from(sorted(GOOD_ROW)), max_size=1)):
            del row[name]
        row |= draw(st.dictionaries(st.sampled_from(HOSTILE_TEXTS), values, max_size=1))
        table.append(row)
    if draw(st.integers(0, 19)) == 7:
        name = draw(st.sampled_from([*GOOD_ROW, "value", "another"]))
        table.append(GOOD_ROW | {name: draw(large)})
    if draw(st.integers(0, 39)) == 7:
        table += [{f"k{number}": 1} for number in range(draw(st.integers(1, 5_000)))]
    return table


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Answers of data.gov.in as JSON."""
    records = draw(rows())
    envelope: dict[str, Any] = {
        "status": "ok",
        "total": len(records),
        "count": len(records),
        "limit": "300",
        "offset": "0",
        "updated_date": "2026-04-07T15:30:00Z",
        "records": records,
    }
    for name in draw(st.lists(st.sampled_from(sorted(envelope)), max_size=2)):
        envelope[name] = draw(values)
    return json.dumps(envelope).encode()


@st.composite
def csv_tables(draw: st.DrawFn) -> bytes:
    """Tables as CSV, with lines of any length."""
    separator = draw(st.sampled_from(",,,,;\t"))
    ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=ending)
    writer.writerow(draw(st.sampled_from([list(GOOD_ROW), ["value", "kind"], ["a", "a"], []])))
    for row in draw(rows()):
        writer.writerow([str(value) for value in row.values()])
    mark = draw(st.sampled_from(["", "", "\ufeff"]))
    return (mark + text.getvalue()).encode("utf-8", "surrogatepass")


def _parquet() -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"value": [1.5, None, float("inf")], "kind": ["a", "b", None]})
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _packed() -> list[bytes]:
    """Gzip: honest, of little that becomes much, of gzip, of many members."""
    honest = gzip.compress(b"value,kind\n" + b"1,a\n" * 9, mtime=0)
    much = [gzip.compress(text * 30_000_000, 1, mtime=0) for text in (b"\0", b"[")]
    return [
        *(honest, *much, much[0] * 40),
        *(gzip.compress(each, mtime=0) for each in (honest, much[0])),
        gzip.compress(b"", mtime=0) * 9_000 + honest,
        gzip.compress(b"value\n" + b"1\n" * 200_000, mtime=0),
    ]


JSON_EXAMPLE = json.dumps({"status": "ok", "total": 1, "records": [GOOD_ROW]}).encode()
CSV_EXAMPLE = (",".join(GOOD_ROW) + "\n" + ",".join(f'"{v}"' for v in GOOD_ROW.values())).encode()
LIST_EXAMPLE = json.dumps([GOOD_ROW, GOOD_ROW]).encode()
NUMBERS_EXAMPLE = json.dumps([{"value": 1.5, "kind": 2}, {"value": None, "kind": True}]).encode()
LINES_EXAMPLE = b"\n".join(json.dumps(GOOD_ROW).encode() for _ in range(3))
PIPELINE_EXAMPLES = [
    path.read_bytes()
    for path in (
        AIR_QUALITY,
        *sorted((AIR_QUALITY.parents[1] / "examples").rglob("*.yaml")),
    )
]

PACKED = _packed()
packed = bent(PACKED) | st.sampled_from(PACKED)
feed_json = envelopes() | bent([JSON_EXAMPLE, LIST_EXAMPLE])
feed_csv = csv_tables() | bent([CSV_EXAMPLE])
pipelines = bent(PIPELINE_EXAMPLES, (*TOKENS, *YAML_TOKENS))
files = st.one_of(
    st.tuples(st.just(".csv"), csv_tables() | bent([CSV_EXAMPLE])),
    st.tuples(st.just(".json"), bent([LIST_EXAMPLE, NUMBERS_EXAMPLE]) | envelopes()),
    st.tuples(st.just(".jsonl"), bent([LINES_EXAMPLE])),
    st.tuples(st.just(".parquet"), bent([_parquet()])),
    st.tuples(st.just(".csv.gz"), bent([base64.b64decode("H4sIAAAAAAAC/8vMK0ktSkwGAAAA")])),
    st.tuples(st.sampled_from([".csv.gz", ".json", ".jsonl.gz"]), packed),
)


@cache
def foreign_to(stage: Stage) -> list[bytes]:
    """The same list in every case: a case has to be the same when it is tried again."""
    event = dump_event(UNKNOWN_PIPELINE[stage])
    short = foreign(stage, event["type"], event).values()
    return [each for each in short if len(each) < 5_000]


@st.composite
def messages(draw: st.DrawFn) -> tuple[Stage, bytes]:
    """A stage, and what lies in its queue: foreign messages, and events with any one field."""
    stage = draw(st.sampled_from(STAGES))
    event = dump_event(UNKNOWN_PIPELINE[stage])
    if draw(st.booleans()):
        field = draw(st.sampled_from([*event, "another"]))
        return stage, message(stage, event["type"], event | {field: draw(values)})
    return stage, draw(bent(foreign_to(stage)))


NAMES = (
    *("REDIS_URL", "MONGODB_URI", "FEED_URL", "MODEL_REPOSITORY", "DISCORD_WEBHOOK_URL"),
    *("MAX_ATTEMPTS", "LEASE_SECONDS", "TASK_TIME_LIMIT_SECONDS", "VISIBILITY_TIMEOUT_SECONDS"),
    *("TRAINER_CORES", "TRAINER_ALLOWED_ESTIMATORS", "TRAINER_DASK_SCHEDULER", "APPRISE_URLS"),
    *("MODEL_SIGNING_KEY", "LOG_FORMAT", "RETENTION_DAYS", "REDIS_URL_FILE", "PIPELINES"),
)
SETTINGS_TEXTS = (
    *("redis://:a-secret@host:1/0", "rediss://:a-secret@[::1", "mongodb://u:a-secret@h/?tls=true"),
    *(
        "rediss://:a-secret@h/0?ssl_cert_reqs=none",
        "https://u:a-secret@h/x",
        "-1",
        "0",
        "1e9",
        "nan",
    ),
    *("/no/such/file", "/", ".", "../x", "a.b.C", "tcp://h:1", "json", "é" * 50, "\udcff", "a b"),
)
settings = st.dictionaries(
    st.sampled_from(NAMES),
    st.sampled_from(SETTINGS_TEXTS)
    | st.text(st.characters(exclude_characters="\0"), max_size=20).filter(
        lambda text: all(not 0xD800 <= ord(letter) < 0xE000 for letter in text)
    ),
    max_size=6,
)
