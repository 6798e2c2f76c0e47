"""What real roles tell of themselves over a real flow: their metrics and their logs, and what must never be in either."""

import asyncio
import json
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.statuses import user_id_of
from infra.simulator.webhooks import text_body
from tests.driver import ACCOUNT
from tests.installation import Installation

PHONE = "15550107777"


async def exposed(installation: Installation, role: str) -> str:
    """Return what a role's /metrics says."""
    headers = {"Authorization": f"Bearer {installation.settings.admin_key.get_secret_value()}"}
    async with installation.http.get(f"http://127.0.0.1:{installation.running[role].port}/metrics", headers=headers) as response:
        assert response.status == 200
        return await response.text()


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(text: str, name: str, **labels: str) -> float | None:
    """Return the sum of a metric over all series with these labels; None if there is no such series."""
    found = [sample.value for sample in samples(text) if sample.name == name and labels.items() <= sample.labels.items()]
    return sum(found) if found else None


async def until(installation: Installation, role: str, holds: Callable[[str], bool]) -> str:
    """Return a role's metrics as soon as they are as wanted."""
    async with asyncio.timeout(60):
        while not holds(text := await exposed(installation, role)):  # noqa: ASYNC110  # a scrape is all that tells
            await asyncio.sleep(0.1)
    return text


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_every_role_measures_its_work(settings: Settings) -> None:
    """Stages, table, agents, sends, database and groups have figures after three messages, and no label holds anything personal."""
    async with Installation(settings) as installation:
        for number in range(3):
            body = text_body(account=ACCOUNT, phone=PHONE, texts=[(f"wamid.monitored{number}", "what is measured?")], at_s=1)
            assert await installation.post(body) == 200
        await installation.platform.books.wait_for("accepted", 3, timeout_s=60)
        sinks = await until(installation, "sinks", lambda text: (value(text, "ottla_sends_total", outcome="accepted") or 0) >= 3)
        sinks = await until(
            installation, "sinks", lambda text: (value(text, "ottla_events_total", stage="history", outcome="handled") or 0) >= 9
        )
        streams = await until(installation, "streams", lambda text: (value(text, "ottla_table_writes_total") or 0) >= 4)
        ingress = await until(installation, "ingress", lambda text: (value(text, "ottla_topic_end_offsets", topic="sent") or 0) >= 3)

        # A fourth record tells the person's other name whose it is; that name is the second miss.
        assert value(streams, "ottla_event_stage_duration_seconds_count", stage="streams") == 4
        assert (value(streams, "ottla_table_reads_total", result="miss"), value(streams, "ottla_table_reads_total", result="hit")) == (2, 2)
        assert value(streams, "ottla_table_writes_total", table="conversations") == 4
        assert 2 <= (value(streams, "ottla_table_keys") or 0) <= 4  # an estimate
        assert value(streams, "ottla_table_recovery_remaining_records") == 0
        assert (value(streams, "ottla_table_recovery_duration_seconds_count") or 0) >= 1
        assert value(streams, "ottla_agent_duration_seconds_count", kind="openai", outcome="answered") == 3
        assert value(streams, "ottla_order_violations_total", stage="streams") == 0

        assert value(sinks, "ottla_event_stage_duration_seconds_count", stage="sender") >= 3  # type: ignore[operator]
        assert value(sinks, "ottla_send_duration_seconds_count", outcome="accepted") == 3
        assert value(sinks, "ottla_reply_duration_seconds_count") == 3
        assert value(sinks, "ottla_sends_total", outcome="unknown") == 0
        assert value(sinks, "ottla_sends_waiting") == 0
        assert value(sinks, "ottla_duplicate_sends_total") == 0
        assert value(sinks, "ottla_order_violations_total") == 0
        assert value(sinks, "ottla_database_in_flight") is not None
        statements = {sample.labels["statement"] for sample in samples(sinks) if sample.name == "ottla_database_duration_seconds_count"}
        assert {each.split()[-1] for each in statements} >= {"messages"}  # `sends` are in the same requests

        assert (value(ingress, "ottla_webhooks_total", status="200") or 0) >= 3  # statuses come the same way
        assert value(ingress, "ottla_consumer_group_state", group="sender", topic="outbound-high", state="OK") == 1
        assert value(ingress, "ottla_consumer_committed_offsets", group="streams", topic="raw") is not None

        for text in (ingress, streams, sinks):
            assert value(text, "process_cpu_seconds_total") is not None
            assert PHONE not in text
            assert "wamid." not in text


async def _repeats_what_it_is_told(request: web.Request) -> web.Response:
    """Refuse a prompt as some model servers do: with the prompt in the error."""
    return web.json_response({"error": {"message": f"cannot answer {await request.text()}"}}, status=400)


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_nothing_personal_and_no_secret_is_logged(settings: Settings) -> None:
    """Through every stage, with a model that repeats the prompt in its error, sends that are rejected and bodies that cannot be read."""
    needles = {
        "phone": PHONE,
        "user id": user_id_of(PHONE),
        "name": "Zebulon Needleworth",
        "text": "where is my haystack",
        "message id": "wamid.HBgLMTU1NTAxMDc3NzcVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA",
        "app secret": settings.whatsapp_app_secret.get_secret_value(),
        "token": settings.whatsapp_token.get_secret_value(),
        "admin key": settings.admin_key.get_secret_value(),
    }
    model = web.Application()
    model.router.add_post("/chat/completions", _repeats_what_it_is_told)
    async with (
        TestServer(model) as endpoint,
        Installation(settings, environment={"OTTLA_AI_URL": str(endpoint.make_url("/")), "OTTLA_LOG_LEVEL": "debug"}) as installation,
    ):
        installation.platform.faults.turn("reject", Fault(count=1))
        installation.platform.faults.turn("status_failed", Fault())
        for number in range(2):
            texts = [(f"{needles['message id']}{number}", needles["text"])]
            body = text_body(account=ACCOUNT, phone=PHONE, texts=texts, at_s=1, name=needles["name"])
            assert await installation.post(body) == 200
        unreadable = body.replace(b'"text":', b'"text":1,"text":') + b" "
        assert await installation.post(unreadable) in {200, 400}
        async with installation.http.post(installation.webhook_url, data=body, headers={"X-Hub-Signature-256": "sha256=0"}) as response:
            assert response.status == 401
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        await until(installation, "sinks", lambda text: (value(text, "ottla_events_total", stage="history", outcome="handled") or 0) >= 5)
        logs = {name: role.log.read_text() for name, role in installation.running.items()}
    said = [json.loads(line)["event"] for line in "".join(logs.values()).splitlines() if line.startswith("{")]
    assert {"agent failed, fallback sent", "send not accepted", "dead letter"} <= set(said)
    for role, log in logs.items():
        found = [what for what, needle in needles.items() if needle in log]
        assert not found, f"{role} logged its {found}"
