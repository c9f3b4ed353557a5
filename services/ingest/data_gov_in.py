"""A resource of data.gov.in, read page by page."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import pandas as pd
import structlog
from pydantic import BaseModel, Field, ValidationError

from services.ingest.fetch import Limits, Query, error_text, fetch, open_client
from services.ingest.tables import parse_csv, parse_json_value, table_of_records
from shared.failures import WillNotPass, WillPass
from shared.pipeline import DataGovInSource
from shared.settings import Settings
from shared.tables.content import UnreadableTable

log = structlog.get_logger(__name__)

_OFFICIAL_HOST: Final = "api.data.gov.in"
_MAX_PAGE_BYTES: Final = 50_000_000
_LONGEST_PAUSE_SECONDS: Final = 0.25
_FRESH_STARTS: Final = 2


class Envelope(BaseModel):
    """The JSON answer around the records. Numbers have been seen as texts."""

    total: int | None = Field(None, ge=0)
    updated_date: Any = None
    records: list[dict[Any, Any]]


@dataclass(frozen=True)
class Page:
    """One answer of the resource."""

    rows: pd.DataFrame
    total: int | None = None
    """Rows in all; None where the answer does not say, as CSV does not."""
    updated: str | None = None
    """What the answer says of the table's last change."""


class TableChanged(Exception):
    """The pages are of two states of the table: some rows of each are missing."""


def read_resource(source: DataGovInSource, settings: Settings) -> pd.DataFrame:
    """All rows of the resource, as texts.

    Raises:
        WillPass: a page was not answered within its deadline, or there are no rows at the moment.
        WillNotPass: the key or the resource is refused, there are more rows than `max_rows`, or
            none that `filters` lets through.
    """
    begun = time.perf_counter()
    pages = asyncio.run(_read_resource(source, settings))
    table = _filtered(pd.concat(pages, ignore_index=True), source)
    seconds = round(time.perf_counter() - begun, 3)
    log.info("source read", pages=len(pages), rows=len(table), seconds=seconds)
    return table


async def _read_resource(source: DataGovInSource, settings: Settings) -> list[pd.DataFrame]:
    """The pages, of one state of the table if it stands still for as long as it takes."""
    for _ in range(_FRESH_STARTS):
        try:
            return await _read_pages(source, settings, of_one_state=True)
        except TableChanged:
            log.info("the table changed while it was read, so it is read anew")
    return await _read_pages(source, settings, of_one_state=False)


async def _read_pages(
    source: DataGovInSource, settings: Settings, *, of_one_state: bool
) -> list[pd.DataFrame]:
    pages: list[pd.DataFrame] = []
    received = 0
    state: tuple[int | None, str | None] | None = None
    async with aclosing(_pages(source, settings)) as answered:
        async for page in answered:
            if of_one_state and state not in (None, (page.total, page.updated)):
                raise TableChanged
            state = (page.total, page.updated)
            received += len(page.rows)
            if max(received, page.total or 0) > source.max_rows:
                raise WillNotPass(
                    f"the resource has more than source.max_rows = {source.max_rows:,} rows"
                )
            if pages and page.rows.equals(pages[-1]):
                raise WillNotPass("data.gov.in answers the same rows at every offset")
            pages.append(page.rows)
    return pages


async def _pages(source: DataGovInSource, settings: Settings) -> AsyncGenerator[Page, None]:
    """The pages with rows, one after another over one connection.

    A server may answer fewer rows than asked for, so the offset goes on by what was received.
    """
    url = f"{settings.feed_url.rstrip('/')}/resource/{source.resource}"
    query = _query(source, settings)
    limits = Limits(source.page_deadline_seconds, _MAX_PAGE_BYTES)
    received = 0
    async with open_client(limits) as client:
        while True:
            begun = time.monotonic()
            read = partial(_read_page, query=query, offset=received)
            page = await fetch(client, url, query | {"offset": received}, limits, read)
            if not len(page.rows):
                return
            yield page
            received += len(page.rows)
            if page.total is not None and received >= page.total:
                return
            # a slow server is a busy one
            await asyncio.sleep(min((time.monotonic() - begun) / 10, _LONGEST_PAUSE_SECONDS))


def _query(source: DataGovInSource, settings: Settings) -> Query:
    query: Query = {"format": source.format, "limit": source.page_size}
    query |= {f"filters[{column}]": value for column, value in source.filters.items()}
    if settings.data_gov_in_api_key:
        query["api-key"] = settings.data_gov_in_api_key.get_secret_value()
    elif urlsplit(settings.feed_url).hostname == _OFFICIAL_HOST:
        raise WillNotPass("data.gov.in wants a key: set DATA_GOV_IN_API_KEY")
    return query


def _read_page(text: str, *, query: Query, offset: int) -> Page:
    """The page that a text is.

    Raises:
        WillPass: it has no rows although there are more, or it is an error.
        WillNotPass: its form is not known.
    """
    if "api-key" in query and f"api-key={query['api-key']}" in text:
        raise WillPass("data.gov.in answered with the request instead of data")
    is_json = query["format"] == "json" or text.lstrip().startswith("{")
    page = _json_page(text) if is_json else _csv_page(text)
    if not len(page.rows) and (offset == 0 or offset < (page.total or 0)):
        raise WillPass(f"data.gov.in answered without rows at offset {offset}")
    return page


def _csv_page(text: str) -> Page:
    if not text.strip():
        return Page(pd.DataFrame())
    try:
        return Page(parse_csv(text))
    except UnreadableTable as error:
        raise UnreadableTable(f"data.gov.in answered what is {error}") from None


def _json_page(text: str) -> Page:
    try:
        content = parse_json_value(text)
    except UnreadableTable as error:
        raise WillPass(f"data.gov.in answered what is {error}") from None
    if isinstance(content, dict) and (content.get("error") or content.get("status") == "error"):
        raise WillPass(f"data.gov.in answered an error: {error_text(content)[:200]}")
    try:
        envelope = Envelope.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the answer"
        raise WillNotPass(
            f"data.gov.in answered in a form that is not known: {where}: {fault['msg']}"
        ) from None
    updated = str(envelope.updated_date)
    return Page(table_of_records(envelope.records), envelope.total, updated)


def _filtered(table: pd.DataFrame, source: DataGovInSource) -> pd.DataFrame:
    """The rows that were asked for; the server has been seen to answer others.

    Raises:
        WillNotPass: there are none.
    """
    for column, value in source.filters.items():
        if column not in table:
            raise WillNotPass(f"source.filters: the answer has no column {column!r}")
        table = table[table[column].str.strip() == value]
        if table.empty:
            raise WillNotPass(f"source.filters: no row of the answer has {column} = {value!r}")
    return table.reset_index(drop=True)
