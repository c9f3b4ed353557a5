"""Alerts and dashboard ask for nothing that is not served, and a person finds what to do."""

import re
from pathlib import Path

import pytest
import yaml

from services.exporter.metrics import FAMILIES
from tests.monitoring.queries import (
    DEPLOY,
    Query,
    alert_queries,
    alert_rules,
    dashboard,
    panel_queries,
    panels,
    selected,
)

ROOT = Path(__file__).parents[2]
OF_THE_SCRAPE = {"job", "instance"}
SERVED: dict[str, set[str]] = {
    **{family.name: set(family.labels) for family in FAMILIES},
    "up": set(),
    "process_resident_memory_bytes": set(),
    "ALERTS": {"alertname", "alertstate", "severity", "service"},
}
"""Metric -> its labels: the exporter's, and those of Prometheus and its client library."""


def name_of(query: Query) -> str:
    return f"{query.place}: {query.expression}"[:60]


@pytest.mark.parametrize("query", [*panel_queries(), *alert_queries()], ids=name_of)
def test_only_what_is_served_is_asked_for(query: Query) -> None:
    asked = selected(query.expression)
    assert asked
    for metric, labels in asked:
        assert metric in SERVED, f"{query.place} asks for {metric}, which nobody serves"
        assert labels <= SERVED[metric] | OF_THE_SCRAPE, f"{query.place}: {metric} has no {labels}"


def test_a_wrong_name_or_label_would_be_seen() -> None:
    ((metric, labels),) = selected('sum by (stge) (increase(trimtab_retry_total{pipline="a"}[1h]))')
    assert metric not in SERVED
    assert labels == {"stge", "pipline"}


@pytest.mark.parametrize("query", panel_queries(), ids=name_of)
def test_legends_name_labels_that_come_out(query: Query) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    ((metric, labels), *_) = selected(query.expression)
    aggregates = " by (" in query.expression
    assert named <= (labels if aggregates else SERVED[metric] | OF_THE_SCRAPE)


def test_every_metric_is_shown() -> None:
    shown = {metric for query in panel_queries() for metric, _ in selected(query.expression)}
    assert {family.name for family in FAMILIES} <= shown


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    identities = [panel["id"] for panel in dashboard()["panels"]]
    assert len(identities) == len(set(identities))


def test_panels_use_the_provisioned_source() -> None:
    path = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    variables = dashboard()["templating"]["list"]
    used = {each["datasource"]["uid"] for each in (*panels(), *variables)}
    assert used == {source["uid"]}


def test_the_variables_metric_is_served() -> None:
    (variable,) = dashboard()["templating"]["list"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert found
    assert found[2] in SERVED[found[1]]


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, object]) -> None:
    annotations = rule["annotations"]
    assert isinstance(annotations, dict)
    assert annotations["summary"]
    assert annotations["description"]
    document, _, anchor = annotations["runbook"].partition("#")
    kebab = re.sub(r"(?<!^)(?=[A-Z])", "-", str(rule["alert"])).lower()
    assert anchor == f"alert-{kebab}"
    assert anchor in anchors((ROOT / document).read_text(encoding="utf-8"))


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ +(.+?) *$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_document_names_every_metric_as_it_is_served() -> None:
    document = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        assert f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |" in document
    named = set(re.findall(r"`(trimtab_\w+)`", document))
    assert named == {family.name for family in FAMILIES}
