"""The page on observability, the dashboard and the alerts say what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from livesync_trio.metrics.declared import METRICS
from scripts import docs_tables
from tests.telemetry import log_events
from tests.telemetry.promql import ROOT, SERIES, alerts, check_balanced, expressions, names_in, panels

PAGE = log_events.PAGE.read_text(encoding="utf-8")

# --- metrics ---------------------------------------------------------------------------------------------------------


def test_every_metric_is_in_the_documentation() -> None:
    assert docs_tables.table_names(PAGE) == ["metrics"]
    assert docs_tables.refreshed(PAGE) == PAGE, "run: python -m scripts.docs_tables"
    for metric in METRICS:
        assert f"| `{metric.name}` |" in PAGE


def test_metrics_are_named_as_prometheus_wants() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"livesync_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not re.search(r"_(ms|millis|kb|mb|minutes|us)(_|$)", metric.name)
        assert metric.help.endswith("."), metric.name
        assert not set(metric.labels) & {"store", "user", "peer", "address", "le", "job", "instance"}
    assert len({metric.name for metric in METRICS}) == len(METRICS)


# --- dashboard and alerts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", expressions())
def test_dashboard_and_alerts_use_what_there_is(expression: str) -> None:
    check_balanced(expression)
    used = names_in(expression)
    assert used
    assert used <= SERIES


def test_a_metric_that_does_not_exist_is_noticed() -> None:
    assert names_in('sum by (kind) (rate(livesync_nonsense_total{kind!="x"}[5m])) > 3') == {"livesync_nonsense_total"}
    with pytest.raises(AssertionError):
        check_balanced("sum(rate(up[5m])")


def test_labels_in_expressions_exist() -> None:
    labels: dict[str, set[str]] = defaultdict(set)
    for metric in METRICS:
        for name in metric.series:
            labels[name] = {*metric.labels, "le", "job", "instance"}
    for expression in expressions():
        for name, selected in re.findall(r"(livesync_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", selected)) <= labels[name], expression


def test_every_alert_tells_what_to_do() -> None:
    assert alerts()
    for rule in alerts():
        assert re.fullmatch(r"Livesync[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"[0-9]+[smh]", rule.get("for", "0m"))
        assert f"### {rule['alert']}\n" in PAGE, "the page says what to do"
    told = set(re.findall(r"^### (Livesync\w+)$", PAGE, re.MULTILINE))
    assert told == {rule["alert"] for rule in alerts()}


def test_every_panel_can_be_drawn() -> None:
    seen: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & seen, f"{panel['title']} lies upon another"
        seen |= cells
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]
    shown = {name for expression in expressions() for name in names_in(expression)}
    unseen = {metric.name for metric in METRICS if not set(metric.series) & shown}
    assert unseen == set(), "metrics that neither dashboard nor alerts show"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_alerts_and_what_the_dashboard_asks(tmp_path: Path) -> None:
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [re.sub(r"\$\w+", "5m", expression) for expression in shown]
    rules = [{"record": f"shown:{number}", "expr": expression} for number, expression in enumerate(filled)]
    dashboard = tmp_path / "dashboard.yml"
    dashboard.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    for file in (ROOT / "deploy/alerts.yml", dashboard):
        checked = subprocess.run(["promtool", "check", "rules", file], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


# --- log lines -------------------------------------------------------------------------------------------------------


def test_every_log_line_is_in_the_documentation_as_it_is() -> None:
    lines = log_events.documented(PAGE)
    by_name: dict[str, list[log_events.LogEvent]] = defaultdict(list)
    for event in log_events.written():
        by_name[event.name].append(event)
    assert lines.keys() == by_name.keys()
    for name, events in by_name.items():
        levels, fields, meaning = lines[name]
        assert levels == {event.level for event in events}, name
        used = frozenset[str]().union(*(event.fields for event in events))
        assert fields >= used if any(event.open for event in events) else fields == used, name
        assert meaning.endswith("."), name


def test_a_line_that_is_not_a_literal_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text("_log.info(name)\n")
    with pytest.raises(AssertionError, match="literal"):
        log_events.written(tmp_path)
    (tmp_path / "room.py").write_text('_log.log(level, "it happened", store=1, exc_info=error)\n')
    assert log_events.written(tmp_path) == [
        log_events.LogEvent("it happened", "by kind", frozenset({"store", "exception"}))
    ]


def test_the_parser_of_prometheus_reads_what_the_page_shows() -> None:
    (example,) = re.findall(r"```text\n(# HELP.*?)```", PAGE, re.DOTALL)
    families = {family.name for family in text_string_to_metric_families(example)}
    assert {f"{name}_total" for name in families} | families & SERIES
