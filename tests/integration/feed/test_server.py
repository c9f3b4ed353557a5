"""The feed's server over real sockets, as a client of data.gov.in meets it."""

import csv
import io
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.feed.clock import Clock, ManualClock, RunningClock
from services.feed.history import History, Row
from services.feed.recordings import RecordedAnswers
from services.feed.server import RESOURCE, FeedServer
from services.feed.stations import INDIA, SimulatedStations

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "aqi"
PATH = f"/resource/{RESOURCE}"
HISTORY = SimulatedStations(
    stations=9, start=datetime(2026, 1, 10, 9, tzinfo=INDIA), drift_at=2, hours=3
)

Connect = Callable[..., httpx.Client]


@contextmanager
def served(
    history: History, clock: Clock | None = None, api_key: str | None = None
) -> Iterator[httpx.Client]:
    """A client of a server of the history; both are closed at the end."""
    server = FeedServer(history, clock or ManualClock(history.hours), api_key=api_key)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with httpx.Client(base_url=server.url, timeout=10) as client:
            yield client
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Starts a server and returns a client of it."""
    with ExitStack() as stack:
        yield lambda *args, **named: stack.enter_context(served(*args, **named))


@pytest.fixture(scope="module")
def feed() -> Iterator[httpx.Client]:
    """A client of a server that stays at the first hour."""
    with served(HISTORY) as client:
        yield client


def read_all(client: httpx.Client, limit: int, **parameters: str) -> list[Row]:
    """All rows, page by page until the answer's total."""
    rows: list[Row] = []
    while True:
        page = client.get(PATH, params={**parameters, "offset": len(rows), "limit": limit}).json()
        rows += page["records"]
        if len(rows) >= page["total"]:
            return rows


@settings(max_examples=10, deadline=None)
@given(limit=st.integers(1, 70))
def test_paging_until_the_total_gives_every_row_once(feed: httpx.Client, limit: int) -> None:
    assert read_all(feed, limit) == HISTORY.rows(0)


def test_without_a_limit_there_are_ten_rows(feed: httpx.Client) -> None:
    answer = feed.get(PATH).json()
    assert answer["records"] == HISTORY.rows(0)[:10]
    assert (answer["total"], answer["count"]) == (63, 10)
    assert (answer["limit"], answer["offset"], answer["status"]) == ("10", "0", "ok")
    assert len(feed.get(PATH, params={"format": "csv"}).text.splitlines()) == 11


def test_csv_and_json_hold_the_same_rows(feed: httpx.Client) -> None:
    answers = {
        form: feed.get(PATH, params={"format": form, "offset": 7, "limit": 50})
        for form in ("json", "csv")
    }
    table = csv.DictReader(io.StringIO(answers["csv"].text, newline=""))
    assert list(table) == answers["json"].json()["records"] == HISTORY.rows(0)[7:57]
    assert answers["csv"].headers["content-type"].startswith("text/csv")
    assert answers["json"].headers["content-type"].startswith("application/json")


def test_filters_leave_the_rows_that_match_all_of_them(feed: httpx.Client) -> None:
    state = HISTORY.rows(0)[-1]["state"]
    wanted = {"filters[state]": state, "filters[pollutant_id]": "PM10"}
    rows = read_all(feed, 100, **wanted)
    assert rows == [
        row for row in HISTORY.rows(0) if (row["state"], row["pollutant_id"]) == (state, "PM10")
    ]
    assert rows


@pytest.mark.parametrize("query", ["limit=-1", "limit=ten", "offset=-1", "offset=1.5"])
def test_a_bad_page_is_400(feed: httpx.Client, query: str) -> None:
    answer = feed.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]


def test_an_unknown_resource_is_404(feed: httpx.Client) -> None:
    for path in ("/resource/00000000-0000-0000-0000-000000000000", "/", "/resource"):
        answer = feed.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]


def test_a_key_is_asked_for_only_where_one_was_set(connect: Connect) -> None:
    client = connect(HISTORY, api_key="the-key")
    assert client.get(PATH, params={"api-key": "the-key"}).status_code == 200
    for path, parameters in ((PATH, {"api-key": "another"}), (PATH, {}), ("/resource/x", {})):
        answer = client.get(path, params=parameters)
        assert (answer.status_code, answer.json()) == (403, {"error": "Key not authorised"})
    assert connect(HISTORY).get(PATH, params={"api-key": "any"}).status_code == 200


def test_the_manual_clock_is_read_and_advanced_to_the_end(connect: Connect) -> None:
    client = connect(HISTORY)
    assert client.get("/clock").json() == {"hour": 0, "last": False}
    assert client.post("/clock/advance").json() == {"hour": 1, "last": False}
    assert read_all(client, 50) == HISTORY.rows(1)
    assert client.post("/clock/advance").json() == {"hour": 2, "last": True}
    refused = client.post("/clock/advance")
    assert refused.status_code == 409
    assert "last" in refused.json()["error"] or "ends" in refused.json()["error"]
    assert client.get("/clock").json() == {"hour": 2, "last": True}
    assert read_all(client, 50) == HISTORY.rows(2)


def test_a_clock_that_runs_by_itself_takes_no_orders(connect: Connect) -> None:
    client = connect(HISTORY, clock=RunningClock(3600, HISTORY.hours))
    assert client.get("/clock").json()["hour"] == 0
    assert client.post("/clock/advance").status_code == 404
    assert client.get("/clock").json()["hour"] == 0


def test_a_running_clock_ends_at_the_last_hour(connect: Connect) -> None:
    client = connect(HISTORY, clock=RunningClock(1e-6, HISTORY.hours))
    assert read_all(client, 50) == HISTORY.rows(2)


def test_many_clients_at_once_get_the_same_rows(connect: Connect) -> None:
    client = connect(HISTORY)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: read_all(client, 9), range(16)))
    assert all(rows == HISTORY.rows(0) for rows in answers)


def test_a_request_is_logged_at_debug_without_its_query(
    connect: Connect, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="services.feed"):
        client = connect(HISTORY, api_key="the-key")
        client.get(PATH, params={"api-key": "the-key"})
    ours = [record for record in caplog.records if record.name.startswith("services.feed")]
    assert [record.levelname for record in ours] == ["DEBUG"]
    assert PATH in ours[0].getMessage()
    assert "the-key" not in ours[0].getMessage() + "".join(capfd.readouterr())


def test_reading_that_the_clock_overtakes_stays_in_its_hour(connect: Connect) -> None:
    client = connect(HISTORY)
    query = {"limit": "5"}
    first = client.get(PATH, params=query | {"offset": "0"}).json()["records"]
    client.post("/clock/advance")
    second = client.get(PATH, params=query | {"offset": "5"}).json()["records"]
    assert first + second == HISTORY.rows(0)[:10]
    assert client.get(PATH, params=query | {"offset": "0"}).json()["records"] == HISTORY.rows(1)[:5]


def test_recorded_answers_are_served_verbatim(connect: Connect, tmp_path: Path) -> None:
    folder = RECORDED if RECORDED.is_dir() else _simulated_recordings(tmp_path)
    client = connect(RecordedAnswers(folder))
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            expected = list(csv.DictReader(file))
        assert read_all(client, 1000) == expected
        text = client.get(PATH, params={"format": "csv", "limit": 10_000}).text
        assert list(csv.DictReader(io.StringIO(text, newline=""))) == expected
        client.post("/clock/advance")
    assert client.get("/clock").json()["last"]


def _simulated_recordings(folder: Path) -> Path:
    for hour in range(3):
        rows = HISTORY.rows(hour)
        with (folder / f"{hour}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder
