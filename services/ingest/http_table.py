"""A table at any HTTP(S) address."""

import asyncio
import time
from collections.abc import Collection
from typing import Final

import httpx
import pandas as pd
import structlog

from services.ingest.fetch import Body, Limits, fetch, open_client, place, trusted
from services.ingest.redirects import PublicRedirects
from services.ingest.tables import parse_csv, parse_json
from shared.failures import WillPass
from shared.pipeline import HttpSource
from shared.tables.content import LONGEST_LINE, UnreadableTable

log = structlog.get_logger(__name__)

_MAX_REDIRECTS: Final = 5


def read_address(source: HttpSource, wanted: Collection[str] = ()) -> pd.DataFrame:
    """The table that the address answers, as texts; it has rows.

    Args:
        wanted: the columns that the schema names.

    Raises:
        WillPass: no answer in time, or one without rows.
        WillNotPass: the address refuses, or answers no table of the format.
    """
    begun = time.perf_counter()
    table = asyncio.run(_read_address(source, wanted))
    log.info("source read", rows=len(table), seconds=round(time.perf_counter() - begun, 3))
    return table


async def _read_address(source: HttpSource, wanted: Collection[str]) -> pd.DataFrame:
    limits = Limits(source.deadline_seconds, source.max_bytes, _MAX_REDIRECTS)
    place(source.url)
    connect = (
        None if source.private_redirects else PublicRedirects(httpx.URL(source.url), trusted())
    )
    async with open_client(source.url, limits, source.headers, transport=connect) as client:
        return await fetch(
            client, source.url, {}, limits, lambda body: _table(body, source, wanted)
        )


def _table(body: Body, source: HttpSource, wanted: Collection[str]) -> pd.DataFrame:
    where = place(source.url)
    if not body.data.strip():
        raise WillPass(f"{where} answered 200 with nothing in it")
    try:
        table = (
            parse_json(body.chunks(), source.records, wanted)
            if source.format == "json"
            else parse_csv(body.blocks(LONGEST_LINE))
        )
    except UnreadableTable as error:
        raise UnreadableTable(f"{where} answered what is {error}") from None
    if not len(table):
        raise WillPass(f"{where} answered a table without rows")
    return table
