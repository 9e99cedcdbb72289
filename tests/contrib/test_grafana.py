"""The dashboard for Grafana asks for the metrics there are, and for all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from botmilter.milter import metrics
from botmilter.milter.observer import Totals

FILE = Path(__file__).parents[2] / "contrib/grafana/botmilter.json"
METRIC = re.compile(r"\bbotmilter_[a-z_]+")
SOURCE = "${datasource}"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


@pytest.fixture(scope="module")
def exposed() -> dict[str, dict[str, set[str]]]:
    """Labels of each sample name, by metric: as Prometheus' parser reads them, each label used."""
    totals = Totals()
    rows = (*metrics.COUNTERS, *metrics.GAUGES)
    counts = {" ".join((row.word, *row.labels)): 1.0 for row in rows}
    counts |= {" ".join((row.word, *row.labels, "inf")): 1.0 for row in metrics.HISTOGRAMS}
    totals.take_in({"pid": 1, "counts": counts, "gauges": counts})
    text = metrics.page(totals, "")[1].decode()
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            names = found.setdefault(family.name, {})
            names.setdefault(sample.name, set()).update(sample.labels)
    return found


def targets(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_metric_asked_for_is_exposed_and_every_one_exposed_is_asked_for(
    dashboard: dict[str, Any], exposed: dict[str, dict[str, set[str]]]
) -> None:
    asked = {name for one in targets(dashboard) for name in METRIC.findall(one["expr"])}
    asked_by_variables = set(METRIC.findall(json.dumps(dashboard["templating"])))
    samples = {sample for names in exposed.values() for sample in names}
    assert asked | asked_by_variables <= samples
    assert [name for name, names in exposed.items() if not asked & set(names)] == []


def test_lines_are_grouped_and_named_by_labels_there_are(
    dashboard: dict[str, Any], exposed: dict[str, dict[str, set[str]]]
) -> None:
    labels = {name: have for names in exposed.values() for name, have in names.items()}
    for one in targets(dashboard):
        have = set.intersection(*(labels[name] for name in METRIC.findall(one["expr"])))
        by = {
            word
            for group in re.findall(r"by \(([^)]*)\)", one["expr"])
            for word in group.split(", ")
        }
        named = set(re.findall(r"{{(\w+)}}", one["legendFormat"]))
        assert named == by - {"le"}, one
        assert by <= have, one


def test_the_data_source_is_the_reader_s_choice(dashboard: dict[str, Any]) -> None:
    kinds = {one["name"]: one["type"] for one in dashboard["templating"]["list"]}
    assert kinds["datasource"] == "datasource"
    parts = (*dashboard["panels"], *targets(dashboard))
    assert {one["datasource"]["uid"] for one in parts} == {SOURCE}
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
