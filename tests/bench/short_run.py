"""A short run of everything on real servers: nothing is asserted about speed, only that each scenario ends with its figures."""

import math
import re
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from infra.bench.plan import Plan
from infra.bench.report import write_report
from infra.bench.run import run_bench
from infra.bench.scenarios import SCENARIOS
from infra.settings import Settings

BENCH = re.compile("^bench[0-9a-f]{8}-")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

SHORT = Plan(
    seconds=0.5,
    warm_up_messages=10,
    rounds=1,
    warm_up_s=0.3,
    conversations=4,
    connections=4,
    latency_rate=20,
    kill_rate=10,
    down_s=0.2,
    plain_rate=10,
    model_s=0.1,
    turns=1,
    workers=2,
    honest_rate=20,
    idle_connections=20,
    slow_clients=5,
    patience_s=120.0,
    past_conversations=300,
    requests=2,
    pages_rate=20,
    pairs=1,
    scrape_s=0.2,
    ids=3_000,
    busy_ids=1_000,
    memory_minutes=0.02,
    sample_s=0.2,
)


async def test_a_short_run_of_everything_comes_to_an_end(settings: Settings, tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}
    before = {each.pid for each in psutil.Process().children(recursive=True)}

    def progress(what: str, done: int, total: int) -> None:
        seen[what] = (done, total)

    results = await run_bench(settings, SCENARIOS, SHORT, progress)

    assert [result.name for result in results] == [scenario.name for scenario in SCENARIOS]
    assert all(done == total for done, total in seen.values())
    assert list(seen) == ["warm-up", *(scenario.name for scenario in SCENARIOS)]
    figures = {f"{result.name}: {figure.name}": figure for result in results for figure in result.figures}
    # So few rows may be restored faster than two starts differ.
    unknown = {name for name, figure in figures.items() if math.isnan(figure.value)}
    assert unknown <= {"ids: rows restored"}
    assert all(figure.how for figure in figures.values())
    assert figures["latency: without a reply"].value == 0
    assert figures["kill: without a reply"].value == 0
    for killed in ("streams", "sender"):
        for what in ("lost", "sent twice", "out of order"):
            assert figures[f"plain: Ottla, {killed} killed, {what}"].value == 0
    assert figures["plain: plain, each message"].value > 0
    assert figures["hostile: honest refused"].value == 0
    assert figures["hostile: honest lost"].value == 0
    for name in ("ingress", "streams", "sender", "history"):
        assert figures[f"cost: {name}, each message"].value > 0
    # An inbound message, its reply with its outcome, and two statuses.
    assert figures["cost: rows of history, each message"].value > 8
    # 300 rows, and of the busy conversation one and 3 sealed ones.
    assert figures["ids: ready, without its disk"].how.count("all 304 rows")
    assert 8 <= figures["ids: of which the id"].value < figures["ids: changelog, each id"].value
    assert figures["memory: without a reply"].value == 0
    assert {each.pid for each in psutil.Process().children(recursive=True)} == before
    assert list(settings.home.glob("run-*")) == []
    client = AdminClient({"bootstrap.servers": settings.kafka})
    assert [name for name in client.list_topics(timeout=30).topics if BENCH.match(name)] == []
    path = write_report(tmp_path / "report", results, machine={})
    plots = {"cost.svg", "latency.svg", "kill.svg", "memory.svg", "hostile.svg", "plain.svg"}
    assert {each.name for each in path.parent.iterdir()} == {"report.md", "report.json", *plots}
