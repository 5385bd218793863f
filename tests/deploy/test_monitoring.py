"""Alerts fire where they must; they and the dashboard name metrics that the server has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from ruamel.yaml import YAML

from deploy.server.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "deploy/monitoring"
ALERTS, DASHBOARD = FOLDER / "alerts.yaml", FOLDER / "dashboard.json"

with_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")


def promtool(*arguments: object) -> None:
    command = ["promtool", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text("utf-8"))["panels"]


def expressions() -> Iterator[str]:
    """All that the alerts and the dashboard ask Prometheus."""
    for group in YAML(typ="safe").load(ALERTS)["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


@with_promtool
def test_alerts_fire_where_they_must_and_only_there() -> None:
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yaml"))


@with_promtool
def test_prometheus_reads_what_the_dashboard_asks(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": asked.replace("$__rate_interval", "5m")}
        for number, asked in enumerate(expressions())
    ]
    path = tmp_path / "rules.yaml"
    YAML(typ="safe").dump({"groups": [{"name": "panels", "rules": rules}]}, path)
    promtool("check", "rules", path)


def test_the_server_has_the_metrics_that_are_asked_for(counters: Metrics) -> None:
    """By name, with their labels."""
    counters.answered("sample", 200, 0.001)
    counters.called("sampler", 1)
    counters.rejected(429)
    counters.workers.labels("1").set(0)
    counters.compared("champion", 1.0, 0.001)
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    labels: dict[str, set[str]] = {}
    for sample in samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
    for asked in expressions():
        named = re.findall(r"(volvae_\w+)(?:\{([^}]*)\})?", asked)
        assert named, asked
        for name, chosen in named:
            wanted = set(re.findall(r"(\w+)\s*[=!]~?", chosen))
            assert wanted <= labels[name], asked
        grouped = {label.strip() for part in re.findall(r"by \(([^)]*)\)", asked) for label in part.split(",")}
        assert grouped <= set().union(*(labels[name] for name, _ in named)), asked


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in found}) == 10
    assert all(panel["description"].endswith(".") and panel["title"] for panel in found)
