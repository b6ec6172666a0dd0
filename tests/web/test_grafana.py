"""The example dashboard for Grafana asks for nothing that `/metrics` does not serve, by its names and its labels."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet
from tests.web.conftest import served

BOARD = Path(__file__).resolve().parents[2] / "configs" / "grafana" / "tsfleet.json"
#: Of a selector: the metric, and what stands in its braces.
SELECTOR = re.compile(r"(tsfleet_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
#: What PromQL has of its own in these expressions.
WORDS = {"sum", "max", "min", "count", "by", "delta", "or", "vector", "label_values"}
PROMETHEUS = {"instance", "job"}  # labels that Prometheus adds itself; it would rename ours


def boards() -> Any:
    return json.loads(BOARD.read_text(encoding="utf-8"))


def expressions() -> list[str]:
    panels = [target["expr"] for panel in boards()["panels"] for target in panel["targets"]]
    return [*panels, *(one["query"]["query"] for one in boards()["templating"]["list"] if one["type"] == "query")]


@pytest.fixture(scope="module")
def served_labels(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Of each metric that a server tells, its labels with their values; of a fleet that has a job, too."""
    folder = tmp_path_factory.mktemp("grafana") / "f"
    shutil.copytree(built, folder)
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write('\n[jobs.nightly]\nkind = "score"\ncron = "0 2 * * *"\n')
    with Fleet.open(folder / "fleet.toml") as fleet, served(fleet) as ask:
        text = ask("/metrics").text
    found: dict[str, dict[str, set[str]]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()  # type: ignore[union-attr]  # else it fails
            mine = found.setdefault(name, {})
            for label, value in re.findall(r'(\w+)="([^"]*)"', labels or ""):
                mine.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_of_the_dashboard_is_served(
    served_labels: dict[str, dict[str, set[str]]], expression: str
) -> None:
    selectors = SELECTOR.findall(expression)
    assert selectors
    for name, inside in selectors:
        assert name in served_labels
        for label, value in MATCHER.findall(inside):
            assert label in {*served_labels[name], *PROMETHEUS}
            if not value.startswith("$"):
                assert value in served_labels[name][label]
        for label in {each.strip() for names in GROUPED.findall(expression) for each in names.split(",")}:
            assert label in served_labels[name]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_has_no_word_that_is_not_known(expression: str) -> None:
    """So that nothing hides from the law above behind another way to name a metric."""
    plain = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)', "", expression)
    assert {word for word in re.findall(r"[a-zA-Z_]\w*", plain) if not word.startswith("tsfleet_")} <= {
        *WORDS, "instance", "product",
    }  # fmt: skip


def test_every_metric_that_is_served_has_a_panel(served_labels: dict[str, dict[str, set[str]]]) -> None:
    assert {name for expression in expressions() for name, _ in SELECTOR.findall(expression)} == set(served_labels)


def test_no_label_is_one_that_prometheus_would_rename(served_labels: dict[str, dict[str, set[str]]]) -> None:
    assert not {label for labels in served_labels.values() for label in labels} & PROMETHEUS


def test_every_panel_lies_in_its_own_place() -> None:
    places = [panel["gridPos"] for panel in boards()["panels"]]
    cells = [
        (x, y)
        for one in places
        for x in range(one["x"], one["x"] + one["w"])
        for y in range(one["y"], one["y"] + one["h"])
    ]
    assert len(cells) == len({*cells})
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in boards()["panels"]}) == len(places)
