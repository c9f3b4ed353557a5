"""The client of data.gov.in against a server that plays the feed's faults."""

import gc
import io
import json
import logging
import random
import socket
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from services.ingest.data_gov_in import read_resource as read_whole_resource
from services.ingest.rows import validate_rows
from shared.failures import WillNotPass, WillPass
from shared.pipeline import DataGovInSource, Pipeline
from shared.settings import Settings, read_settings
from tests.integration.ingest.fault_server import Connection, Resource, says, serving

KEY = "579b464db66ec23bdd000001cdd3946e44ce4aad7209ff7b23ac571b"
RESOURCE = "3b01bcb8-0b14-4abf-b6f2-c1bfd384ba69"
ROWS = [
    {
        "country": "India",
        "state": "Delhi" if number % 2 else "Bihar",
        "city": "a city",
        "station": f"Station {number}, with a comma",
        "last_update": "07-04-2026 21:00:00",
        "latitude": "28.6",
        "longitude": "77.3",
        "pollutant_id": "PM2.5",
        "pollutant_min": "1",
        "pollutant_max": str(number + 1),
        "pollutant_avg": "NA",
    }
    for number in range(10)
]


def source(**options: Any) -> DataGovInSource:
    options = {"page_size": 4, "page_deadline_seconds": 5, "deadline_seconds": 20, **options}
    return DataGovInSource(kind="data_gov_in", resource=RESOURCE, **options)


def settings(url: str, key: str | None = KEY) -> Settings:
    return read_settings(
        redis_url="redis://127.0.0.1",
        mongodb_uri="mongodb://127.0.0.1",
        feed_url=url,
        data_gov_in_api_key=key,
    )


def read_resource(source: DataGovInSource, settings: Settings) -> pd.DataFrame:
    """The rows of a resource that answers all of them."""
    found = read_whole_resource(source, settings)
    assert found.missing == 0
    return found.rows


def stations(table: pd.DataFrame) -> list[int]:
    return [int(name.split()[1].rstrip(",")) for name in table["station"]]


@pytest.fixture(autouse=True)
def said() -> Iterator[io.StringIO]:
    """All that is logged on any level: the key may not be in it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    assert KEY not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("largest_page", [1, 3, 10_000])
def test_all_pages_are_read_whatever_size_the_server_allows(form: str, largest_page: int) -> None:
    with serving(Resource(ROWS, largest_page)) as server:
        table = read_resource(source(format=form), settings(server.url))
    assert table.to_dict("records") == ROWS
    assert len(server.connections) == 1
    assert all(f"/resource/{RESOURCE}?" in path and "limit=4" in path for path in server.asked)
    assert all(f"api-key={KEY}" in path for path in server.asked)
    pages = -(-len(ROWS) // min(4, largest_page))
    assert len(server.asked) == pages + 1  # the last one looks behind the end


@pytest.mark.parametrize("numbers_as", [int, str])
def test_numbers_of_the_envelope_are_numbers_or_texts(numbers_as: type) -> None:
    with serving(Resource(ROWS, numbers_as=numbers_as)) as server:
        assert len(read_resource(source(), settings(server.url))) == 10


@pytest.mark.parametrize("form", ["json", "csv"])
def test_the_other_names_of_the_columns(air_quality: Pipeline, form: str) -> None:
    names = {f"pollutant_{part}": f"{part}_value" for part in ("min", "max", "avg")}
    rows = [{names.get(name, name): value for name, value in row.items()} for row in ROWS]
    with serving(Resource(rows)) as server:
        table = read_resource(source(format=form), settings(server.url))
    now = pd.Timestamp("2026-05-01", tz="UTC").to_pydatetime()
    result = validate_rows(table, air_quality.data, now)
    assert result.reasons == {}
    assert result.valid["pollutant_max"].tolist() == list(range(1, 11))
    assert result.valid["pollutant_avg"].isna().all()


OLD = Resource(ROWS, envelope={"updated_date": "2026-04-07T15:00:00Z"})
NEW = Resource(
    [row | {"last_update": "07-04-2026 22:00:00"} for row in ROWS],
    envelope={"updated_date": "2026-04-07T16:00:00Z"},
)


def test_a_table_that_changes_while_it_is_read_is_read_anew() -> None:
    """Else rows of both hours would be missing from a reading that nobody repeats."""
    with serving(OLD, NEW) as server:
        table = read_resource(source(), settings(server.url))
    assert table.to_dict("records") == NEW.rows
    assert len(server.asked) == 2 + 4


def test_a_table_that_never_rests_is_read_as_it_comes() -> None:
    """A server that dates each of its answers is no reason to read nothing."""
    with serving(*[OLD, NEW] * 3, NEW) as server:
        table = read_resource(source(), settings(server.url))
    assert stations(table) == list(range(10))


def test_an_answer_without_total_is_read_to_its_end() -> None:
    with serving(Resource(ROWS, envelope={"total": None})) as server:
        assert len(read_resource(source(), settings(server.url))) == 10


def test_csv_that_ends_with_an_empty_answer() -> None:
    with serving(Resource(ROWS), says("")) as server:
        table = read_resource(source(format="csv", page_size=10), settings(server.url))
    assert stations(table) == list(range(10))


def test_json_where_csv_was_asked_for() -> None:
    with serving(says(json.dumps({"total": 10, "records": ROWS}))) as server:
        assert len(read_resource(source(format="csv"), settings(server.url))) == 10


@pytest.mark.parametrize(
    "fault",
    [
        says("{}", 500),
        says("", 504),
        says("slow down", 429, Retry_After="0"),
        says(""),
        says('{"total": 10, "records": []}'),
        says('{"total": 10, "records": [{'),
        says('{"status": "error", "message": "try again"}'),
        says("<!DOCTYPE html><p>Maintenance"),
        says("down", Content_Type="text/html"),
        says('{"total": 10, "reco', length=5_000),
        says(b"\x1f\x8b nothing", Content_Encoding="gzip"),
        lambda connection: connection.connection.shutdown(socket.SHUT_RDWR),
    ],
)
def test_what_may_pass_is_asked_again(fault: Any) -> None:
    with serving(fault, Resource(ROWS)) as server:
        assert stations(read_resource(source(), settings(server.url))) == list(range(10))


def test_a_fault_in_the_middle_costs_one_page_only() -> None:
    with serving(Resource(ROWS), says("", 502), Resource(ROWS)) as server:
        assert stations(read_resource(source(), settings(server.url))) == list(range(10))
    assert ["offset=4" in path for path in server.asked] == [False, True, True, False, False]


def test_an_empty_page_before_the_end_is_no_end() -> None:
    empty = says('{"total": 10, "records": []}')
    with serving(Resource(ROWS), empty, Resource(ROWS)) as server:
        assert stations(read_resource(source(), settings(server.url))) == list(range(10))


def shuffled(seed: int, rows: list[dict[str, Any]], **how: Any) -> Any:
    """A server that cuts each page from another order of the rows."""
    order = random.Random(seed)  # noqa: S311

    def play(connection: Connection) -> None:
        Resource(order.sample(rows, len(rows)), **how)(connection)

    return play


MANY = [row | {"station": f"Station {number}, here"} for number, row in enumerate(ROWS * 100)]


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("seed", [1, 2])
def test_rows_that_change_their_order_from_page_to_page_all_come(form: str, seed: int) -> None:
    with serving(shuffled(seed, MANY)) as server:
        table = read_resource(source(page_size=300, format=form), settings(server.url))
    assert sorted(stations(table)) == list(range(1_000))


def sorting(seed: int) -> Any:
    """A server that sorts if it is asked to, and shuffles otherwise."""
    order = random.Random(seed)  # noqa: S311

    def play(connection: Connection) -> None:
        by = [name[5:-1] for name in connection.query if name.startswith("sort[")]
        rows = order.sample(MANY, len(MANY))
        ordered = sorted(rows, key=lambda row: [row[name] for name in by]) if by else rows
        Resource(ordered)(connection)

    return play


def test_a_host_that_can_sort_is_asked_to_and_read_twice_at_most() -> None:
    with serving(sorting(1)) as server:
        table = read_resource(source(page_size=300), settings(server.url))
    assert sorted(stations(table)) == list(range(1_000))
    assert sum("&offset=0" in path for path in server.asked) == 2


def test_a_host_that_refuses_to_sort_is_read_without(said: io.StringIO) -> None:
    shuffle = shuffled(3, MANY)

    def play(connection: Connection) -> None:
        if any(name.startswith("sort[") for name in connection.query):
            connection.answer('{"error": "no such parameter"}', 400)
        else:
            shuffle(connection)

    with serving(play) as server:
        table = read_resource(source(page_size=300), settings(server.url))
    assert sorted(stations(table)) == list(range(1_000))
    assert sum("sort%5B" in path for path in server.asked) == 1


def test_rows_that_do_not_come_in_time_are_counted_and_the_others_kept() -> None:
    last_ten_never = shuffled(4, MANY[:-10], envelope={"total": 1_000})
    with serving(last_ten_never) as server:
        begun = time.monotonic()
        found = read_whole_resource(source(page_size=300, deadline_seconds=4), settings(server.url))
    assert time.monotonic() - begun < 8
    assert len(found.rows) + found.missing == 1_000
    assert 10 <= found.missing < 100
    assert not found.rows.duplicated().any()


def test_a_total_that_is_too_large_is_said_and_the_rows_are_kept() -> None:
    with serving(Resource(ROWS, envelope={"total": 13})) as server:
        found = read_whole_resource(source(), settings(server.url))
    assert stations(found.rows) == list(range(10))
    assert found.missing == 3


def test_a_total_that_is_too_small_is_not_believed() -> None:
    with serving(Resource(MANY, envelope={"total": 300})) as server:
        table = read_resource(source(page_size=300), settings(server.url))
    assert stations(table) == list(range(1_000))
    with serving(shuffled(5, MANY, envelope={"total": 300})) as server:
        table = read_resource(source(page_size=300), settings(server.url))
    assert sorted(stations(table)) == list(range(1_000))


def test_a_host_that_answers_its_last_page_again_beyond_the_end_is_complete() -> None:
    def play(connection: Connection) -> None:
        offset = min(int(connection.query["offset"]), 6)
        page = {"total": 10, "records": ROWS[offset : offset + 4]}
        connection.answer(json.dumps(page))

    with serving(play) as server:
        assert stations(read_resource(source(), settings(server.url)))[:8] == list(range(8))


@pytest.mark.parametrize("fault", [says("", 500), says("no", 400), says("<html>")])
def test_a_fault_beyond_the_end_costs_no_row(fault: Any) -> None:
    page = says(json.dumps({"total": 10, "records": ROWS}))
    with serving(page, fault) as server:
        wanted = source(page_size=10, page_deadline_seconds=0.5)
        assert stations(read_resource(wanted, settings(server.url))) == list(range(10))


@pytest.mark.parametrize("largest_page", [3, 10_000])
def test_rows_that_the_table_itself_holds_twice_stay_twice(largest_page: int) -> None:
    """Else a table with two equal rows would never be complete."""
    with serving(Resource([*ROWS, *ROWS[:2]], largest_page)) as server:
        table = read_resource(source(), settings(server.url))
    assert sorted(stations(table)) == sorted([*range(10), 0, 1])
    assert sum("&offset=0" in path for path in server.asked) == 2


def test_retry_after_is_honoured() -> None:
    with serving(says("", 429, Retry_After="1"), Resource(ROWS)) as server:
        begun = time.monotonic()
        read_resource(source(page_size=10), settings(server.url))
        assert time.monotonic() - begun >= 1


def test_retry_after_beyond_the_deadline_is_handed_on_at_once() -> None:
    with serving(says("", 429, Retry_After="600")) as server:
        begun = time.monotonic()
        with pytest.raises(WillPass, match="answered 429") as caught:
            read_resource(source(), settings(server.url))
    assert caught.value.retry_after == 600
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (says('{"error":"Key not authorised"}', 403), "answered 403: Key not authorised"),
        (says("no " * 9_000, 400), "answered 400$"),
        (says("<html>no</html>", 404), f"resource/{RESOURCE} answered 404$"),
        (says("", 302, Location="/elsewhere"), "answered 302, a redirect"),
        (says("[1, 2]"), "form that is not known: the answer"),
        (says('{"total": "many", "records": []}'), "form that is not known: total"),
        (says('{"total": 1, "records": [7]}'), r"form that is not known: records\.0"),
        (says(b'{"total": "\xff"}'), "answered what is not UTF-8: byte 11 is 0xff"),
        (Resource(ROWS, envelope={"total": 20_001}), "more than source.max_rows = 20,000"),
    ],
)
def test_what_cannot_pass_fails_at_once(answer: Any, text: str) -> None:
    with serving(answer) as server, pytest.raises(WillNotPass, match=text):
        read_resource(source(), settings(server.url))
    assert len(server.asked) == 1


def test_csv_that_is_no_table_cannot_pass() -> None:
    with serving(says("a,a\n1,2\n")) as server, pytest.raises(WillNotPass, match="named 'a'"):
        read_resource(source(format="csv"), settings(server.url))


def test_more_rows_than_allowed_end_an_endless_table() -> None:
    endless = Resource(ROWS * 100, envelope={"total": None})
    with serving(endless) as server, pytest.raises(WillNotPass, match="max_rows = 25 rows"):
        read_resource(source(max_rows=25), settings(server.url))
    assert len(server.asked) == 7


def test_a_server_that_ignores_the_offset_is_found_out() -> None:
    same = says(json.dumps({"total": 10, "records": ROWS[:4]}))
    with serving(same) as server, pytest.raises(WillNotPass, match="same rows at every offset"):
        read_resource(source(), settings(server.url))


def test_too_large_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.data_gov_in._MAX_PAGE_BYTES", 500)
    with serving(Resource(ROWS)) as server, pytest.raises(WillNotPass, match="more than 500 bytes"):
        read_resource(source(), settings(server.url))


def drip_body(connection: Connection) -> None:
    connection.send_response(200)
    connection.send_header("Content-Length", "1000")
    connection.end_headers()
    connection.drip(b'{"total": 10, "records": [' + b" " * 900, 0.02)


def drip_head(connection: Connection) -> None:
    connection.drip(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 900, 0.02)


def say_nothing(connection: Connection) -> None:
    time.sleep(3)


@pytest.mark.parametrize("play", [drip_body, drip_head, say_nothing])
def test_no_page_outlasts_its_deadline(play: Any) -> None:
    with serving(play) as server:
        begun = time.monotonic()
        with pytest.raises(WillPass, match=r"within 0\.6 s|in time"):
            read_resource(source(page_deadline_seconds=0.6), settings(server.url))
        assert time.monotonic() - begun < 2


def test_what_went_wrong_before_the_deadline_is_told() -> None:
    text = r"within 0\.6 s; the try before: .* answered 503"
    with serving(says("", 503), drip_body) as server, pytest.raises(WillPass, match=text):
        read_resource(source(page_deadline_seconds=0.6), settings(server.url))


def test_a_silent_server_is_asked_again_within_the_deadline() -> None:
    with serving(say_nothing, Resource(ROWS)) as server:
        read_resource(source(page_deadline_seconds=1.5), settings(server.url))
    assert len(server.asked) == 5


@pytest.mark.filterwarnings(
    # httpcore leaves a connection that is cancelled in its handshake to the garbage collector
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_a_tls_handshake_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(WillPass, match=r"within 0\.6 s|in time"):
            read_resource(source(page_deadline_seconds=0.6), settings(url))
        assert time.monotonic() - begun < 2
    gc.collect()


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(WillPass, match=f"127.0.0.1:{port}/resource/{RESOURCE} is out of reach"):
        read_resource(source(page_deadline_seconds=0.3), settings(f"http://127.0.0.1:{port}"))


def test_filters_are_sent_and_checked_again() -> None:
    with serving(Resource(ROWS)) as server:
        table = read_resource(source(filters={"state": "Delhi"}), settings(server.url))
    assert stations(table) == [1, 3, 5, 7, 9]
    assert all("filters%5Bstate%5D=Delhi" in path for path in server.asked)


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"state": "Dehli"}, "no row of the answer has state = 'Dehli'"),
        ({"district": "x"}, "no column 'district'"),
    ],
)
def test_filters_that_let_nothing_through(filters: dict[str, str], text: str) -> None:
    with serving(Resource(ROWS)) as server, pytest.raises(WillNotPass, match=text):
        read_resource(source(filters=filters), settings(server.url))


def test_a_stand_in_needs_no_key_and_the_official_feed_does() -> None:
    with serving(Resource(ROWS)) as server:
        assert len(read_resource(source(), settings(server.url, key=None))) == 10
    assert not any("api-key" in path for path in server.asked)
    for official in ("https://api.data.gov.in", "https://API.data.gov.in/"):
        with pytest.raises(WillNotPass, match="set DATA_GOV_IN_API_KEY"):
            read_resource(source(), settings(official, key=None))


def echo(status: int) -> Any:
    def play(connection: Connection) -> None:
        body = json.dumps({"error": f"no such thing: {connection.path}"})
        connection.answer(body, status)

    return play


def echo_as_csv(connection: Connection) -> None:
    connection.answer(f"{connection.path}\n1\n" if "offset=0" in connection.path else "")


@pytest.mark.parametrize(
    "play",
    [
        echo(200),
        echo(403),
        echo(500),
        echo_as_csv,
        says("{", length=99),
        says("", 302, Location=f"http://127.0.0.1:1/?api-key={KEY}"),
        drip_body,
    ],
)
@pytest.mark.parametrize("form", ["json", "csv"])
def test_the_key_is_in_no_text_about_a_failure(play: Any, form: str, said: io.StringIO) -> None:
    with serving(play) as server, pytest.raises((WillPass, WillNotPass)) as caught:
        read_resource(
            source(format=form, page_deadline_seconds=0.3),
            settings(server.url),
        )
    logging.getLogger("a test").exception("failed", exc_info=caught.value)
    assert "failed" in said.getvalue()
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in repr(caught.value)
