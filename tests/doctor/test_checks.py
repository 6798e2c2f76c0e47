"""What each check of `ottla doctor` finds, on installations that are broken in one way."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from infra.children import start_mark
from infra.cli.doctor import CHECKS
from infra.doctor.finding import Finding, ok, run_checks
from infra.doctor.machine import check_disk, check_local_servers, check_settings
from infra.doctor.outside import check_model, check_platform
from infra.doctor.roles import check_ingress, check_roles
from infra.doctor.servers import check_cassandra, check_kafka
from infra.errors import OttlaError
from infra.kafka.admin import create_topics
from infra.settings import Settings
from infra.supervisor.home import Recorded, record_children
from tests.listening import listening

KEY = "the-admin-key"


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Give settings of an installation of which nothing runs."""
    monkeypatch.chdir(tmp_path)
    return Settings(home=tmp_path, admin_key=SecretStr(KEY), worker="test", _env_file=None)


def _states(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.state) for finding in findings]


@asynccontextmanager
async def _server(**answers: web.Response) -> AsyncIterator[str]:
    """Serve fixed answers, by path."""
    app = web.Application()
    for name, answer in answers.items():

        async def handler(_: web.Request, answer: web.Response = answer) -> web.Response:
            return web.Response(body=answer.body, status=answer.status)

        app.router.add_get(f"/{name}", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _with_ingress(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"port": _port(url)})


async def test_a_check_that_fails_or_hangs_hides_no_other(nothing: Settings) -> None:
    """Whatever a check meets is a sentence of its own, and all findings come in the order of the checks."""

    async def check_one(_: Settings) -> list[Finding]:
        raise OttlaError("Do this.")

    async def check_two(_: Settings) -> list[Finding]:
        raise ZeroDivisionError("odd")

    async def check_three_hangs(_: Settings) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def check_four(_: Settings) -> list[Finding]:
        return [ok("four", "Fine.")]

    found = await run_checks((check_one, check_two, check_three_hangs, check_four), nothing, deadline_s=0.05)
    assert found == [
        Finding("one", "problem", "Do this."),
        Finding("two", "problem", "The check itself failed (ZeroDivisionError: odd)."),
        Finding("three hangs", "problem", "The check took longer than 0.05 s: look at the log of what it asks."),
        Finding("four", "ok", "Fine."),
    ]


async def test_settings_of_a_real_platform_need_its_secrets(nothing: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a platform set and made secrets every webhook and send would be refused; a simulated one needs nothing."""
    assert _states(await check_settings(nothing)) == [("settings", "ok")]
    local = nothing.model_copy(update={"whatsapp_api": "http://127.0.0.1:9/v25.0"})
    assert _states(await check_settings(local)) == [("settings", "ok")]
    real = nothing.model_copy(update={"whatsapp_api": "https://graph.example/v25.0"})
    assert _states(await check_settings(real)) == [("settings", "problem")] * 3
    for name in ("APP_SECRET", "TOKEN", "VERIFY_TOKEN"):
        monkeypatch.setenv(f"OTTLA_WHATSAPP_{name}", "set")
    assert _states(await check_settings(real)) == [("settings", "ok")]
    monkeypatch.setenv("OTTLA_PARTITION", "8")
    (found,) = await check_settings(real)
    assert found == Finding("settings", "warning", "OTTLA_PARTITION in the environment is no setting: did you mean OTTLA_PARTITIONS?")


@pytest.mark.parametrize(("free_gib", "state"), [(0.5, "problem"), (3, "warning"), (50, "ok")])
async def test_disk(nothing: Settings, monkeypatch: pytest.MonkeyPatch, free_gib: float, state: str) -> None:
    """Little room is told before it is none; a home that does not exist yet is fine."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gib * (1 << 30)) if path.exists() else None)
    settings = nothing.model_copy(update={"home": nothing.home / "not" / "yet"})
    (found,) = await check_disk(settings)
    assert found.state == state
    assert f"{free_gib:.1f} GiB" in found.message


async def test_local_servers(nothing: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jars that are not fetched are told together with the command; servers that are set need none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(nothing.home))
    (found,) = await check_local_servers(nothing)
    assert found.state == "warning"
    assert "`ottla infra fetch`" in found.message
    elsewhere = nothing.model_copy(update={"kafka": "a:1", "cassandra": "b:1"})
    assert _states(await check_local_servers(elsewhere)) == [("local servers", "ok")]


async def test_no_servers(nothing: Settings) -> None:
    """Without servers each says how to get it; addresses at which nobody answers are named."""
    found = await run_checks((check_kafka, check_cassandra), nothing)
    assert [finding.message for finding in found] == [
        "There is no Kafka: run `ottla infra up`, or set OTTLA_KAFKA to one that runs.",
        "There is no Cassandra: run `ottla infra up`, or set OTTLA_CASSANDRA to one that runs.",
    ]
    away = nothing.model_copy(update={"kafka": "127.0.0.1:1", "cassandra": "127.0.0.1:1"})
    found = await run_checks((check_kafka, check_cassandra), away, deadline_s=30)
    assert [finding.message.partition(":1 ")[2] for finding in found] == [
        "does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_KAFKA.",
        "does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_CASSANDRA.",
    ]


@pytest.mark.servers
async def test_topics_and_tables(new_settings: Settings) -> None:
    """Missing topics, another partition count and a keyspace without tables are told; looking makes nothing."""
    kafka, topics = await check_kafka(new_settings)
    assert kafka.state == "ok"
    assert topics.message.endswith("run `ottla topics create`.")
    assert _states(await check_kafka(new_settings)) == [("kafka", "ok"), ("topics", "problem")]
    await create_topics(new_settings)
    assert _states(await check_kafka(new_settings)) == [("kafka", "ok"), ("topics", "ok")]
    _, divided = await check_kafka(new_settings.model_copy(update={"partitions": 3}))
    assert divided.message.endswith(
        "have 8 partitions and should have 3: set OTTLA_PARTITIONS=8, because with another number keys would leave their state."
    )
    for _ in range(2):
        (tables,) = await check_cassandra(new_settings)
        assert tables.state == "problem"
        assert f"keyspace {new_settings.keyspace} lacks 0001_" in tables.message


async def test_nothing_listens(nothing: Settings, unused_tcp_port: int) -> None:
    """No ingress is one sentence with the command that starts it."""
    (found,) = await check_ingress(nothing.model_copy(update={"port": unused_tcp_port}))
    assert found.message == f"Nothing listens at http://127.0.0.1:{unused_tcp_port}: `ottla up` starts the whole installation."


async def test_another_program_has_the_port(nothing: Settings) -> None:
    """A port that somebody else answers on is told apart from an ingress that does not run."""
    async with _server(readyz=web.Response(body=b"<html>")) as url:
        (found,) = await check_ingress(_with_ingress(nothing, url))
    assert found.message == f"Another program answers at {url}: stop it, or set OTTLA_PORT to a free port."


async def test_an_ingress_that_is_not_ready(nothing: Settings) -> None:
    """What the ingress waits for is told in its own words."""
    waiting = web.json_response({"status": "starting", "reason": "waiting for streams"}, status=503)
    async with _server(readyz=waiting) as url:
        (found,) = await check_ingress(_with_ingress(nothing, url))
    assert found == Finding("ingress", "problem", f"The ingress at {url} is not ready: waiting for streams.")


@pytest.mark.parametrize(
    ("metrics", "state", "words"),
    [
        ("", "ok", "No webhook was refused"),
        ('ottla_webhooks_total{status="200"} 7.0\n', "ok", "7 were stored"),
        ('ottla_webhooks_total{status="401"} 3.0\n', "problem", "All 3 webhooks had a wrong signature: OTTLA_WHATSAPP_APP_SECRET"),
        (
            'ottla_webhooks_total{status="401"} 3.0\nottla_webhooks_total{status="200"} 1e+06\n',
            "warning",
            "3 webhooks had a wrong signature, 1000000 a right one",
        ),
    ],
)
async def test_signatures(nothing: Settings, metrics: str, state: str, words: str) -> None:
    """Webhooks that were all refused for their signature point to the app secret."""
    async with _server(readyz=web.json_response({"status": "ready"}), metrics=web.Response(body=metrics.encode())) as url:
        ready, signatures = await check_ingress(_with_ingress(nothing, url))
    assert ready.state == "ok"
    assert (signatures.check, signatures.state) == ("signatures", state)
    assert words in signatures.message


async def test_another_key(nothing: Settings) -> None:
    """An ingress that refuses our key runs with other settings than ours."""
    async with _server(readyz=web.json_response({"status": "ready"}), metrics=web.Response(status=401)) as url:
        _, found = await check_ingress(_with_ingress(nothing, url))
    assert found.state == "problem"
    assert "has another key: set OTTLA_ADMIN_KEY, or OTTLA_HOME" in found.message


async def test_roles(nothing: Settings, unused_tcp_port: int) -> None:
    """Each role that `up` keeps running is asked; without `up` none is missed."""
    assert _states(await check_roles(nothing)) == [("roles", "ok")]
    mark = start_mark(os.getpid())
    assert mark is not None
    (nothing.home / "run").mkdir()
    none, metrics = web.Response(), web.Response(text='ottla_sends_waiting{place="budget"} 12.0\nottla_sends_waiting{place="status"} 3.0\n')
    async with (
        _server(readyz=web.json_response({}), metrics=metrics) as ready,
        _server(readyz=web.Response(status=503), metrics=none) as starting,
    ):
        ports = {"ingress": _port(ready), "streams": _port(starting), "sinks": unused_tcp_port}
        record_children(nothing.home, [Recorded(name, os.getpid(), mark, port) for name, port in ports.items()])
        found = await check_roles(nothing)
    advice = "if the platform lets more through, raise the account's `rate` (or OTTLA_NUMBER_RATE, OTTLA_PAIR_RATE)"
    waits = f"12 sends wait for the rate of their number or recipient: {advice}."
    assert [finding.message for finding in found] == [
        "The role ingress is ready.",
        waits,
        "The role streams is not ready: see what `ottla up` prints of it.",
        f"The role sinks does not answer on port {unused_tcp_port}: see what `ottla up` prints of it.",
    ]


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (404, "ok"), (401, "problem"), (403, "problem"), (500, "problem")])
async def test_the_model_endpoint(nothing: Settings, status: int, state: str) -> None:
    """An endpoint that answers is fine, also without a list of models; a refused key and a broken server are not."""
    async with _server(models=web.Response(status=status)) as url:
        (found,) = await check_model(nothing.model_copy(update={"ai_url": url}))
    assert found.state == state


async def test_what_takes_no_connections(nothing: Settings, unused_tcp_port: int) -> None:
    """A platform or model that cannot be reached is a problem, one that is not set is none."""
    assert _states(await run_checks((check_platform, check_model), nothing)) == [("platform", "ok"), ("model", "ok")]
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    away = nothing.model_copy(update={"whatsapp_api": url, "ai_url": url})
    assert _states(await run_checks((check_platform, check_model), away)) == [("platform", "problem"), ("model", "problem")]


async def test_what_hangs(nothing: Settings) -> None:
    """Something that takes connections and never answers holds nothing up beyond the deadline."""
    with listening() as port:
        hanging = nothing.model_copy(update={"port": port, "ai_url": f"http://127.0.0.1:{port}", "cassandra": f"127.0.0.1:{port}"})
        found = await run_checks((check_ingress, check_model), hanging, deadline_s=0.2)
    assert [finding.state for finding in found] == ["problem", "problem"]


async def test_every_check_has_its_name(nothing: Settings) -> None:
    """Each check is a function `check_...`, whose name is what people see when it fails."""
    assert all(check.__name__.startswith("check_") for check in CHECKS)
