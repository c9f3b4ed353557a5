"""A resource of data.gov.in, read page by page."""

import json
from typing import Annotated, Any, Final

import httpx
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ValidationError

from services.ingest.fetch import Fetch, fetch
from services.ingest.tables import parse_csv, table_of_records
from shared.failures import WillNotPass, WillPass
from shared.pipeline import DataGovInSource
from shared.settings import Settings

OFFICIAL: Final = "https://api.data.gov.in"
_MAX_PAGE_BYTES: Final = 50_000_000

Whole = Annotated[int, BeforeValidator(int)]


class Envelope(BaseModel):
    """The JSON answer around the records. Numbers have been seen as texts."""

    total: Whole
    records: list[dict[str, Any]]


def read_resource(source: DataGovInSource, settings: Settings) -> pd.DataFrame:
    """All rows of the resource, as texts.

    Raises:
        WillPass: a page was not answered within its deadline, or there are no rows at the moment.
        WillNotPass: the key or the resource is refused, or there are more rows than `max_rows`.
    """
    query = _query(source, settings)
    url = f"{settings.feed_url.rstrip('/')}/resource/{source.resource}"
    pages: list[pd.DataFrame] = []
    received = 0
    with httpx.Client(follow_redirects=False) as client:
        while True:
            page, total = _page(client, url, query | {"offset": received}, source)
            received += len(page)
            if received > source.max_rows:
                raise WillNotPass(
                    f"the resource has more than source.max_rows = {source.max_rows:,} rows"
                )
            if len(page):
                pages.append(page)
            if not len(page) or (total is not None and received >= total):
                break
    if not pages:
        raise WillPass("the resource has no rows at the moment")
    return _filtered(pd.concat(pages, ignore_index=True), source)


def _query(source: DataGovInSource, settings: Settings) -> dict[str, str | int]:
    query: dict[str, str | int] = {"format": source.format, "limit": source.page_size}
    query |= {f"filters[{column}]": value for column, value in source.filters.items()}
    if settings.data_gov_in_api_key:
        query["api-key"] = settings.data_gov_in_api_key.get_secret_value()
    elif settings.feed_url.startswith(OFFICIAL):
        raise WillNotPass("data.gov.in wants a key: set DATA_GOV_IN_API_KEY")
    return query


def _page(
    client: httpx.Client, url: str, query: dict[str, str | int], source: DataGovInSource
) -> tuple[pd.DataFrame, int | None]:
    """A page, and how many rows there are in all if the answer says so (CSV does not)."""
    limits = Fetch(source.page_deadline_seconds, _MAX_PAGE_BYTES)
    body = fetch(
        client, url, query, limits, may_be_empty=source.format == "csv" and bool(query["offset"])
    )
    if source.format == "json" or body.lstrip().startswith("{"):
        envelope = _envelope(body)
        return table_of_records(envelope.records), envelope.total
    return (parse_csv(body) if body.strip() else pd.DataFrame()), None


def _envelope(body: str) -> Envelope:
    try:
        content = json.loads(body)
    except (json.JSONDecodeError, RecursionError) as error:
        raise WillPass(f"data.gov.in answered what is not JSON: {error}") from None
    if isinstance(content, dict) and (content.get("error") or content.get("status") == "error"):
        said = content.get("error") or content.get("message")
        raise WillNotPass(f"data.gov.in answered an error: {str(said)[:200]}")
    try:
        return Envelope.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the answer"
        raise WillNotPass(
            f"data.gov.in answered in a form that is not known: {where}: {fault['msg']}"
        ) from None


def _filtered(table: pd.DataFrame, source: DataGovInSource) -> pd.DataFrame:
    """The rows that were asked for; the server has been seen to answer others."""
    for column, value in source.filters.items():
        if column not in table:
            raise WillNotPass(f"source.filters: the answer has no column {column!r}")
        table = table[table[column] == value]
    return table
