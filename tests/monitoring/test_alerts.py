"""The alert rules: each is tested by Prometheus' own tool, says what to do, and watches what there is."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import infra.monitoring
from infra.monitoring.dashboard import PATH, as_text, dashboard
from tests.monitoring.names import exposed_names, named_in

FOLDER = Path(infra.monitoring.__path__[0])
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]

_EXPECTED = re.compile(r'ALERTS\{alertname="(\w+)"')


def promtool(*words: str, given: str = "") -> str:
    """Return what promtool says; the test is skipped where there is none, and fails where it is not content."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus), so the alert rules are not tested")
    done = subprocess.run(["promtool", *words], cwd=FOLDER, input=given, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_each_alert_fires_when_it_should_and_no_other() -> None:
    """Canaries that do not arrive, a violation of order, a second send and all others, on made-up series."""
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


def test_files_are_valid() -> None:
    """As Prometheus reads them."""
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_each_alert_has_a_test_in_which_it_fires() -> None:
    """And one in which it does not: the first tests expect that nothing fires."""
    text = (FOLDER / "alerts.test.yml").read_text()
    fired = set(_EXPECTED.findall(text)) | {"OttlaOrderViolation"}  # that one's test has its annotations, too
    assert fired == {rule["alert"] for rule in RULES}
    assert text.count("exp_samples: []") >= 2


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    """In sentences; somebody who was woken reads them."""
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description", "action"}
    assert all(len(text) > 15 for text in rule["annotations"].values())
    assert rule["annotations"]["action"].endswith(".")


def test_alerts_and_dashboard_name_what_there_is() -> None:
    """A metric that is renamed, or a label that is gone, would make an alert that never fires and a panel that stays empty."""
    there = exposed_names()
    wanted = {name for rule in RULES for name in named_in(rule["expr"])}
    wanted |= {name for panel in dashboard()["panels"] for target in panel.get("targets", ()) for name in named_in(target["expr"])}
    assert wanted - there == set()


def test_the_dashboard_shows_every_metric() -> None:
    """Nothing is measured that nobody sees; a histogram's sum is a by-product."""
    shown = {name for panel in dashboard()["panels"] for target in panel.get("targets", ()) for name in named_in(target["expr"])}
    bases = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed_names() if name.startswith("ottla_")} - bases == set()


def test_the_dashboard_is_the_one_that_its_source_makes() -> None:
    """`python -m infra.monitoring.dashboard` writes it."""
    assert PATH.read_text() == as_text()


def test_the_dashboard_can_be_imported() -> None:
    """Unique numbers, nothing beside the grid or on top of another, every query from the data source that is chosen."""
    made = dashboard()
    panels = made["panels"]
    assert [each["id"] for each in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    targets = [target for panel in panels for target in panel.get("targets", ())]
    assert len(targets) > 50
    assert all(target["datasource"]["uid"] == "${datasource}" for target in targets)
    assert made["templating"]["list"][0]["type"] == "datasource"


def test_the_dashboard_s_queries_are_promql() -> None:
    """Prometheus itself reads each of them."""
    rules = [
        {"record": f"panel_{number}", "expr": target["expr"].replace("$__rate_interval", "5m").replace("$__range", "3h")}
        for number, target in enumerate(target for panel in dashboard()["panels"] for target in panel.get("targets", ()))
    ]
    promtool("check", "rules", "/dev/stdin", given=yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
