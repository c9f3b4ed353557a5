"""What the dashboard and the alert rules ask Prometheus, as they are committed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "trimtab.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"

_EVERY_PIPELINE = ".*"


@dataclass(frozen=True)
class Query:
    """One expression, and where it stands."""

    place: str
    expression: str
    legend: str = ""


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_queries() -> list[Query]:
    """Every query of every panel, for all pipelines."""
    return [
        Query(
            panel["title"],
            target["expr"].replace("$pipeline", _EVERY_PIPELINE),
            target["legendFormat"],
        )
        for panel in panels()
        for target in panel["targets"]
    ]


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alert_queries() -> list[Query]:
    return [Query(rule["alert"], rule["expr"]) for rule in alert_rules()]


def selectors(expression: str) -> list[str]:
    """The selectors of an expression, each an expression of its own."""
    found: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node.prettify())

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def selected(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics that an expression reads, each with the labels that it chooses by.

    Labels of aggregations and of matching, which are of what came out, go to every metric.
    """
    metrics: list[tuple[str, set[str]]] = []
    labels: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name, f"{expression}: a selector without a metric's name"
            metrics.append((node.name, {matcher.name for matcher in node.matchers.matchers}))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            labels.update(node.modifier.labels)
        elif (
            isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching
        ):
            labels.update(node.modifier.matching.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return [(name, chosen | labels) for name, chosen in metrics]
