"""What a Prometheus server answers to the dashboard's and the alerts' queries."""

import math
from typing import Any

import httpx

from tests.monitoring.queries import Query, alert_queries, panel_queries, selectors


class Unanswered(Exception):
    """A query has no answer; the text says which and why."""


def values(address: str, expression: str) -> list[float]:
    """The values of an instant query.

    Raises:
        Unanswered: Prometheus refuses the query.
    """
    answer = httpx.get(f"{address}/api/v1/query", params={"query": expression}, timeout=30)
    content: Any = answer.json()
    if content["status"] != "success":
        raise Unanswered(f"{expression}: {content['error']}")
    return [float(series["value"][1]) for series in content["data"]["result"]]


def without_data(address: str) -> list[str]:
    """The panels that show nothing, and the alerts that look at nothing, with their queries.

    An alert that is silent has no data of its own, so its selectors are asked.
    """
    looked_at = [
        Query(alert.place, selector)
        for alert in alert_queries()
        for selector in selectors(alert.expression)
    ]
    return [
        f"{query.place}: {query.expression}"
        for query in (*panel_queries(), *looked_at)
        if not any(map(math.isfinite, values(address, query.expression)))
    ]
