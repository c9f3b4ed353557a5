"""A resource of data.gov.in, read page by page."""

import asyncio
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pandas as pd
import structlog
from pydantic import BaseModel, Field, ValidationError

from services.ingest.fetch import Body, Limits, Query, error_text, fetch, open_client
from services.ingest.paging import Collection as Collected
from services.ingest.paging import Read
from services.ingest.tables import DECODER, FAULT, parse_csv, table_of_records
from shared.failures import WillNotPass, WillPass, first_fault
from shared.pipeline import DataGovInSource
from shared.settings import Settings
from shared.tables.content import UnreadableTable
from shared.tables.json_rows import JsonRows, NotJson
from shared.tables.json_text import ANSWER_KEY, chunks_of

log = structlog.get_logger(__name__)

_OFFICIAL_HOST: Final = "api.data.gov.in"
_MAX_PAGE_BYTES: Final = 50_000_000
_LONGEST_PAUSE_SECONDS: Final = 0.25
_FRESH_STARTS: Final = 2
_PAGE_SIZES: Final = (1.0, 0.7, 1.5, 0.5, 2.0)
"""What the page size is multiplied by, read after read."""
_LARGEST_PAGE: Final = 10_000
_SORTED_BY: Final = 20
"""A repeated read asks for rows sorted by at most this many columns."""
_TRIES_OF_EMPTY_PAGE: Final = 3
_BEYOND_SECONDS: Final = 10.0
"""How long the page behind the last one is waited for."""
_REST_SECONDS: Final = 0.2
"""The rest before a repeated read grows by this much, read after read."""
_LONGEST_REST_SECONDS: Final = 5.0
_LONGEST_STATE: Final = 1_000
"""Characters of `updated_date` that tell one state of the table from another."""


class Envelope(BaseModel):
    """The JSON answer around the records. Numbers have been seen as texts."""

    total: int | None = Field(None, ge=0)
    updated_date: Any = None
    status: Any = None
    error: Any = None
    message: Any = None


@dataclass(frozen=True)
class Page:
    """One answer of the resource."""

    rows: pd.DataFrame
    total: int | None = None
    """Rows in all; None where the answer does not say, as CSV does not."""
    updated: str | None = None
    """What the answer says of the table's last change."""


_NO_PAGE: Final = Page(pd.DataFrame())


class TableChanged(Exception):
    """The pages are of two states of the table: some rows of each are missing."""


@dataclass(frozen=True)
class Resource:
    """What a resource answered."""

    rows: pd.DataFrame
    """As texts."""
    missing: int = 0
    """Rows that the resource says it has, and that did not come."""


def read_resource(
    source: DataGovInSource, settings: Settings, wanted: Collection[str] = ()
) -> Resource:
    """All rows of the resource.

    The resource is read again, with pages of another size, until as many distinct rows have come
    as it says it has. After `deadline_seconds` the rows that came are kept, and the others counted.

    Args:
        wanted: the columns that the schema names.

    Raises:
        WillPass: a page was not answered within its deadline, or there are no rows at the moment.
        WillNotPass: the key or the resource is refused, there are more rows than `max_rows`, or
            none that `filters` lets through.
    """
    begun = time.perf_counter()
    collected = asyncio.run(_read_resource(source, settings, wanted))
    table = _filtered(collected.rows, source)
    seconds = round(time.perf_counter() - begun, 3)
    log.info("source read", pages=collected.pages, rows=len(table), seconds=seconds)
    if collected.missing:
        log.warning("the source did not answer all of its rows", missing=collected.missing)
    return Resource(table, collected.missing)


async def _read_resource(
    source: DataGovInSource, settings: Settings, wanted: Collection[str]
) -> Collected:
    """The rows, of one state of the table if it stands still for as long as a read takes."""
    deadline = asyncio.get_running_loop().time() + source.deadline_seconds
    reader, collected = _Reader(source, settings, wanted), Collected()
    while not collected.is_final:
        read = Read()
        until = deadline if collected.is_begun else None
        try:
            async with asyncio.timeout_at(until):
                await reader.read_into(read)
        except TableChanged:
            log.info("the table changed while it was read, so it is read anew")
            collected = Collected()
            continue
        except (WillPass, WillNotPass) as error:
            if not collected.is_begun:
                raise
            log.info("a repeated read failed", reason=str(error))
        except TimeoutError:
            pass
        collected.add(read)
        if asyncio.get_running_loop().time() >= deadline:
            break
    return collected


class _Reader:
    """Reads the resource as often as asked, each time with pages of another size."""

    def __init__(
        self, source: DataGovInSource, settings: Settings, wanted: Collection[str]
    ) -> None:
        self._source = source
        self._wanted = frozenset((*wanted, *source.filters))
        self._url = f"{settings.feed_url.rstrip('/')}/resource/{source.resource}"
        self._query = _query(source, settings)
        self._limits = Limits(source.page_deadline_seconds, _MAX_PAGE_BYTES)
        self._reads = 0
        self._changes = 0
        self._state: tuple[int | None, str | None] | None = None
        self._first_page = pd.DataFrame()
        self._can_sort = True

    async def read_into(self, read: Read) -> None:
        """Read page after page over one connection, and note each with `read` as it comes.

        Raises:
            TableChanged: since the first page, or the last read. A table that changes with each
                answer is read as it comes.
            WillPass: a page was not answered within its deadline.
            WillNotPass: there are more rows than `max_rows`, or the host refuses.
        """
        await asyncio.sleep(min(self._reads * _REST_SECONDS, _LONGEST_REST_SECONDS))
        query = self._query | {"limit": self._page_size()}
        is_sorted = self._reads % 2 == 1 and self._can_sort
        if is_sorted:
            query |= self._order
        self._reads += 1
        async with open_client(self._url, self._limits, self._source.headers) as client:
            try:
                page = await self._page(client, query, 0)
            except WillNotPass:
                self._can_sort &= not is_sorted
                raise
            self._first_page = page.rows
            while len(page.rows):
                self._note_state(page)
                self._note(page, read)
                page = await self._next_page(client, query, read)
        read.ended = True

    def _page_size(self) -> int:
        """How many rows to ask for. Smaller pages than the last are smaller than what was answered,
        which may be fewer rows than were asked for."""
        factor, size = _PAGE_SIZES[self._reads % len(_PAGE_SIZES)], self._source.page_size
        if factor < 1:
            size = min(size, len(self._first_page))
        return min(max(round(size * factor), 1), _LARGEST_PAGE)

    @property
    def _order(self) -> Query:
        """What asks a host that can sort for a fixed order."""
        names = [name for name in self._first_page.columns if name != FAULT]
        return {f"sort[{name}]": "asc" for name in names[:_SORTED_BY]}

    def _note_state(self, page: Page) -> None:
        state, self._state = self._state, (page.total, page.updated)
        if state not in (None, self._state) and self._changes < _FRESH_STARTS:
            self._changes += 1
            self._state, self._reads = None, 0
            raise TableChanged

    def _note(self, page: Page, read: Read) -> None:
        read.total = page.total
        if max(read.received + len(page.rows), page.total or 0) > self._source.max_rows:
            raise WillNotPass(
                f"the resource has more than source.max_rows = {self._source.max_rows:,} rows"
            )
        if read.pages and page.rows.equals(read.pages[-1]):
            raise WillNotPass("data.gov.in answers the same rows at every offset")
        read.pages.append(page.rows)

    async def _next_page(self, client: httpx.AsyncClient, query: Query, read: Read) -> Page:
        """The page behind those that came; without rows if there is none.

        A server may answer fewer rows than asked for, so the offset is what was received.
        """
        offset, total = read.received, read.total
        if total is not None and offset >= total:
            return await self._page_beyond(client, query, read)
        for _ in range(_TRIES_OF_EMPTY_PAGE):
            page = await self._page(client, query, offset)
            if len(page.rows) or total is None:
                break
        return page

    async def _page_beyond(self, client: httpx.AsyncClient, query: Query, read: Read) -> Page:
        """What comes after as many rows as the host says there are: nothing, if that is right."""
        seconds = min(self._limits.deadline_seconds, _BEYOND_SECONDS)
        try:
            page = await self._page(client, query, read.received, Limits(seconds, _MAX_PAGE_BYTES))
        except (WillPass, WillNotPass):
            return _NO_PAGE
        if not len(page.rows) or read.brings_nothing_new(page.rows):
            return _NO_PAGE
        if not read.total_is_wrong:
            log.warning("the source has more rows than its total says", total=read.total)
        read.total_is_wrong = True
        return page

    async def _page(
        self, client: httpx.AsyncClient, query: Query, offset: int, limits: Limits | None = None
    ) -> Page:
        begun = time.monotonic()

        def read(body: Body) -> Page:
            return _read_page(_text_of(body), query, offset, self._wanted)

        page = await fetch(
            client, self._url, query | {"offset": offset}, limits or self._limits, read
        )
        # a slow server is a busy one
        await asyncio.sleep(min((time.monotonic() - begun) / 10, _LONGEST_PAUSE_SECONDS))
        return page


def _query(source: DataGovInSource, settings: Settings) -> Query:
    query: Query = {"format": source.format}
    query |= {f"filters[{column}]": value for column, value in source.filters.items()}
    if settings.data_gov_in_api_key:
        query["api-key"] = settings.data_gov_in_api_key.get_secret_value()
    elif urlsplit(settings.feed_url).hostname == _OFFICIAL_HOST:
        raise WillNotPass("data.gov.in wants a key: set DATA_GOV_IN_API_KEY")
    return query


def _text_of(body: Body) -> str:
    try:
        return body.text
    except UnreadableTable as error:
        raise UnreadableTable(f"data.gov.in answered what is {error}") from None


def _read_page(text: str, query: Query, offset: int, wanted: Collection[str] = ()) -> Page:
    """The page that a text is.

    Raises:
        WillPass: it is the first one and has no rows, or it is an error.
        WillNotPass: its form is not known.
    """
    if "api-key" in query and f"api-key={query['api-key']}" in text:
        raise WillPass("data.gov.in answered with the request instead of data")
    is_json = query["format"] == "json" or text.lstrip().startswith("{")
    page = _json_page(text, wanted) if is_json else _csv_page(text)
    if not len(page.rows) and offset == 0:
        raise WillPass(f"data.gov.in answered without rows at offset {offset}")
    return page


def _csv_page(text: str) -> Page:
    if not text.strip():
        return Page(pd.DataFrame())
    try:
        return Page(parse_csv(text))
    except UnreadableTable as error:
        raise UnreadableTable(f"data.gov.in answered what is {error}") from None


def _json_page(text: str, wanted: Collection[str]) -> Page:
    rows = JsonRows(chunks_of(text), DECODER, ANSWER_KEY, Envelope.model_fields)
    try:
        table = table_of_records(_objects(rows), wanted)
    except NotJson as error:
        raise WillPass(f"data.gov.in answered what is not JSON: {error}") from None
    except UnreadableTable as error:
        raise UnreadableTable(f"data.gov.in answered what is {error}") from None
    content = rows.members
    if content.get("error") or content.get("status") == "error":
        raise WillPass(f"data.gov.in answered an error: {error_text(content)[:200]}")
    if not rows.is_object:
        raise _unknown("the answer: not an object")
    if not rows.is_found:
        raise _unknown(f"{ANSWER_KEY}: not a list")
    try:
        envelope = Envelope.model_validate(content)
    except ValidationError as error:
        raise _unknown(first_fault(error, "the answer")) from None
    return Page(table, envelope.total, str(envelope.updated_date)[:_LONGEST_STATE])


def _objects(rows: JsonRows) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            where = f"{ANSWER_KEY}.{number}" if rows.is_object else "the answer"
            raise _unknown(f"{where}: not an object")
        yield row


def _unknown(fault: str) -> WillNotPass:
    return WillNotPass(f"data.gov.in answered in a form that is not known: {fault}")


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
