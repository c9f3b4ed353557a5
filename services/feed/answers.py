"""What data.gov.in answers to a request for a resource, as bytes; knows nothing of sockets."""

import csv
import hmac
import io
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from services.feed.history import Row

RESOURCE: Final = "3b01bcb8-0b14-4abf-b6f2-c1bfd384ba69"
"""'Real time Air Quality Index from various locations': the one resource that is here."""

_TITLE: Final = "Real time Air Quality Index from various locations"
_DEFAULT_LIMIT: Final = 10
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_FILTER: Final = re.compile(r"filters\[(.+)\]")


@dataclass(frozen=True)
class Hour:
    """What is served during one hour: every page is cut from these rows."""

    rows: list[Row]
    served_since: datetime
    """In UTC."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    content_type: str
    body: bytes


class BadQuery(ValueError):
    """The query cannot be answered; the text names the parameter."""


@dataclass(frozen=True)
class Query:
    """Which rows are asked for, and how they are to be written."""

    format: str
    offset: int
    limit: int
    filters: dict[str, str]


def read_query(text: str) -> Query:
    """Read what follows the question mark. Of a repeated parameter the last counts.

    Raises:
        BadQuery: `format`, `offset` or `limit` has no meaning.
    """
    parameters = dict(parse_qsl(text, keep_blank_values=True))
    chosen = parameters.get("format", "json")
    if chosen not in ("json", "csv"):
        raise BadQuery("format: json or csv")
    return Query(
        format=chosen,
        offset=_number(parameters, "offset", default=0, least=0),
        limit=_number(parameters, "limit", default=_DEFAULT_LIMIT, least=1),
        filters={
            match[1]: value
            for name, value in parameters.items()
            if (match := _FILTER.fullmatch(name))
        },
    )


def begins_reading(text: str) -> bool:
    """Whether a query asks for the first page."""
    try:
        return read_query(text).offset == 0
    except BadQuery:
        return True


def _number(parameters: dict[str, str], name: str, *, default: int, least: int) -> int:
    text = parameters.get(name, str(default))
    if not _NUMBER.fullmatch(text) or int(text) < least:
        raise BadQuery(f"{name}: a whole number from {least} to 999999999")
    return int(text)


def is_authorised(text: str, api_key: str) -> bool:
    """Whether the query's `api-key` is the key, compared in constant time."""
    given = dict(parse_qsl(text)).get("api-key", "")
    return hmac.compare_digest(given.encode(), api_key.encode())


def resource_answer(hour: Hour, text: str) -> Answer:
    """The page of an hour that a query asks for, or 400 with what is wrong with the query.

    Args:
        hour: the rows that are served now.
        text: the query, undecoded, without the question mark.
    """
    try:
        query = read_query(text)
        rows = _filtered(hour.rows, query.filters)
    except BadQuery as error:
        return json_answer(400, {"error": str(error)})
    page = rows[query.offset : query.offset + query.limit]
    columns = list(hour.rows[0])
    if query.format == "csv":
        return Answer(200, "text/csv; charset=utf-8", _csv(columns, page))
    envelope = {
        "index_name": RESOURCE,
        "title": _TITLE,
        "status": "ok",
        "message": "Resource lists",
        "version": "2.2.0",
        "total": len(rows),
        "count": len(page),
        "limit": str(query.limit),
        "offset": str(query.offset),
        "updated_date": hour.served_since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "field": [{"id": name, "name": name, "type": "keyword"} for name in columns],
        "records": page,
    }
    return json_answer(200, envelope)


def json_answer(status: int, content: dict[str, Any]) -> Answer:
    """A status with a JSON object."""
    body = json.dumps(content, ensure_ascii=False).encode()
    return Answer(status, "application/json; charset=utf-8", body)


def _filtered(rows: list[Row], filters: dict[str, str]) -> list[Row]:
    if unknown := [name for name in filters if name not in rows[0]]:
        raise BadQuery(f"filters[{unknown[0]}]: no such field")
    return [row for row in rows if all(row[name] == value for name, value in filters.items())]


def _csv(columns: list[str], rows: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
