"""A table at any HTTP(S) address."""

import httpx
import pandas as pd

from services.ingest.fetch import Fetch, fetch
from services.ingest.tables import parse_csv, parse_json
from shared.pipeline import HttpSource


def read_address(source: HttpSource) -> pd.DataFrame:
    """The table that the address answers, as texts.

    Raises:
        WillPass: no answer in time.
        WillNotPass: the address refuses, or answers no table of the format.
    """
    limits = Fetch(source.deadline_seconds, source.max_bytes)
    with httpx.Client(follow_redirects=True, max_redirects=5) as client:
        body = fetch(client, source.url, {}, limits, may_be_empty=False)
    return parse_json(body, source.records) if source.format == "json" else parse_csv(body)
