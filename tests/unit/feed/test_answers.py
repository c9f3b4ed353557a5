"""What a query is answered, without a socket."""

import csv
import io
import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.feed.answers import RESOURCE, Hour, is_authorised, resource_answer
from services.feed.stations import INDIA, SimulatedStations

HOUR = Hour(
    SimulatedStations(stations=9, start=datetime(2026, 1, 10, 9, tzinfo=INDIA)).rows(0),
    datetime(2026, 1, 10, 3, 30, tzinfo=UTC),
)
FRAGMENTS = [
    *("&", "=", ";", "+", "%", "%ff", "%00", "[", "]", "limit", "offset", "format", "filters"),
    *("city", "csv", "json", "api-key", "0", "12", "-", "é", "\x00"),
]


def ask(**parameters: object) -> dict[str, object]:
    answer = resource_answer(HOUR, urlencode(parameters))
    assert answer.status == 200
    content: dict[str, object] = json.loads(answer.body)
    return content


@settings(deadline=None)
@given(st.integers(1, 80), st.sampled_from(["json", "csv"]))
def test_pages_of_any_size_give_every_row_exactly_once(limit: int, form: str) -> None:
    rows = []
    while True:
        query = urlencode({"format": form, "offset": len(rows), "limit": limit})
        body = resource_answer(HOUR, query).body.decode()
        page = json.loads(body)["records"] if form == "json" else _csv_rows(body)
        if not page:
            break
        assert len(page) <= limit
        rows += page
    assert rows == HOUR.rows


def _csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_envelope_is_data_gov_ins() -> None:
    content = ask(offset=5, limit=3)
    assert content.pop("records") == HOUR.rows[5:8]
    fields = content.pop("field")
    assert isinstance(fields, list)
    assert [field["id"] for field in fields] == list(HOUR.rows[0])
    assert content == {
        "index_name": RESOURCE,
        "title": "Real time Air Quality Index from various locations",
        "status": "ok",
        "message": "Resource lists",
        "version": "2.2.0",
        "total": 63,
        "count": 3,
        "limit": "3",
        "offset": "5",
        "updated_date": "2026-01-10T03:30:00Z",
    }


def test_a_page_past_the_end_is_empty_and_still_names_its_fields() -> None:
    content = ask(offset=1000)
    assert (content["count"], content["total"], content["records"]) == (0, 63, [])
    assert content["field"] == ask()["field"]
    header = resource_answer(HOUR, "format=csv&offset=1000").body.decode()
    assert header == ",".join(HOUR.rows[0]) + "\n"


def test_of_a_repeated_parameter_the_last_counts() -> None:
    assert json.loads(resource_answer(HOUR, "limit=3&limit=4").body)["count"] == 4


def test_filters_hold_together() -> None:
    content = ask(**{"filters[city]": "Delhi", "filters[pollutant_id]": "PM2.5", "limit": 100})
    expected = [
        row for row in HOUR.rows if (row["city"], row["pollutant_id"]) == ("Delhi", "PM2.5")
    ]
    assert content["records"] == expected
    assert content["total"] == len(expected) > 0


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("offset=-1", "offset"),
        ("offset=1.5", "offset"),
        ("format=xml", "format"),
        ("filters%5Bcolour%5D=red", "filters[colour]"),
    ],
)
def test_a_query_without_meaning_is_400_and_says_which_parameter(query: str, named: str) -> None:
    answer = resource_answer(HOUR, query)
    assert answer.status == 400
    assert json.loads(answer.body)["error"].startswith(f"{named}: ")


@settings(deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=20))
def test_no_query_breaks_it(fragments: list[str]) -> None:
    query = "".join(fragments)
    assert resource_answer(HOUR, query).status in (200, 400)
    assert not is_authorised(query, "the key")


def test_the_key_is_compared_whole() -> None:
    assert is_authorised("format=csv&api-key=s%C3%A9cret", "sécret")
    assert not is_authorised("api-key=sécre", "sécret")
    assert not is_authorised("api_key=sécret", "sécret")
