"""The seed documents' endpoints on a real installation: every figure is counted, who may ask, and a restart that is one."""

import asyncio
from typing import Any

import msgspec
import pytest

from infra.settings import Settings
from ingress.api_operations import ANSWERS
from schemas.topics import AUDIT
from tests.cli.test_lag import caught_up, until
from tests.driver import Driver, Load
from tests.installation import Installation
from tests.reading import records

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


async def post(installation: Installation, path: str, key: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with installation.http.post(f"{installation.url}{path}", headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def test_every_figure_is_counted(settings: Settings) -> None:
    """What was posted is what is shown; roles that are away leave nulls; a restart drains the roles and is written down."""
    load = Load(conversations=10, messages=2, repeated=0.5)
    async with Installation(settings, environment={"OTTLA_SUPERVISED": "1"}, supervised=True) as installation:
        driver = Driver(installation, load)
        await driver.play()
        await driver.answered(timeout_s=100)
        await until(installation, caught_up)
        found = {}
        for path in ANSWERS:
            status, found[path] = await installation.get(path)
            assert (path, status) == (path, 200)

        webhook = found["/api/webhook/health"]
        assert webhook["status"] == "healthy"
        assert webhook["processor"] == {"processed": 20, "duplicates": driver.posted - 20, "errors": 0, "currentlyProcessing": 0}
        assert webhook["cache"]["misses"] >= 10
        assert webhook["cache"]["hits"] + webhook["cache"]["misses"] >= driver.posted
        webhooks = found["/api/webhooks/whatsapp/health"]
        assert webhooks["database"]["connected"]
        assert webhooks["webhooks"]["stored"] == webhooks["webhooks"]["received"] > driver.posted
        assert webhooks["errorRate"] == 0
        workers = found["/api/workers/whatsapp"]
        assert workers["queueSize"] == 0
        assert (workers["statistics"]["sent"], workers["statistics"]["errors"]) == (20, 0)
        assert found["/health/whatsapp"]["healthy"]
        assert found["/health/whatsapp"]["metrics"]["conversationStates"] >= 10
        assert found["/health/whatsapp"]["metrics"]["rateLimitTracking"] == 0
        assert found["/admin/cache/stats"]["tables"]["conversations"]["keys"] == found["/health/whatsapp"]["metrics"]["conversationStates"]
        for group, completed in (("streams", 20), ("sender", 20)):
            queue = {"waiting": 0, "active": 0, "completed": completed, "failed": 0, "successRate": 1.0}
            assert found["/admin/queues/stats"][group] == queue
        assert found["/admin/queues/stats"]["history"]["completed"] >= 60
        database = found["/admin/db/stats"]
        # A batch of rows of one partition is one write.
        assert database["tables"]["messages"]["writes"] >= 10
        assert database["performance"]["writes"] == sum(table["writes"] for table in database["tables"].values()) >= 30

        assert (await post(installation, "/admin/queues/restart", "nobody"))[0] == 401
        before = {name: role.process for name, role in installation.running.items()}
        status, answer = await post(installation, "/admin/queues/restart", settings.admin_key.get_secret_value())
        assert (status, sorted(answer["restarting"]), answer["refused"]) == (202, ["sinks-1", "streams-1"], [])
        for name in ("streams", "sinks"):
            process = before[name]
            assert process is not None
            assert await asyncio.to_thread(process.wait, 30) == 0
        assert before["ingress"] is installation.running["ingress"].process
        for name in ("streams", "sinks"):
            await installation.ready(name)
        async with asyncio.timeout(30):
            # What was asked of a role a moment ago is not asked again; some are back before that is over.
            while (await installation.get("/admin/queues/stats"))[1]["streams"]["completed"] != 0:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.1)
        await no_roles(installation)
    assert await audited(settings) == [("restart", "queues")] * 2


async def no_roles(installation: Installation) -> None:
    """Where no other role is known there is nothing to add up and nothing to restart."""
    role = installation.running["ingress"]
    role.environment["OTTLA_ROLE_URLS"] = ""
    await role.end()
    await installation.ready("ingress")
    async with asyncio.timeout(60):
        while (await installation.get("/admin/queues/stats"))[1]["streams"]["waiting"] is None:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.1)
    status, webhook = await installation.get("/api/webhook/health")
    assert (status, webhook["status"], webhook["processor"]["processed"]) == (200, "healthy", None)
    status, page = await installation.get("/health/whatsapp")
    assert (status, page["metrics"]["queueLength"], page["metrics"]["conversationStates"]) == (200, 0, None)
    status, told = await post(installation, "/admin/queues/restart", installation.settings.admin_key.get_secret_value())
    assert (status, told["title"]) == (409, "Nothing was restarted")


async def audited(settings: Settings) -> list[tuple[str, str]]:
    """Return action and subject of every event in [audit]."""
    found = await records(settings.model_copy(update={"partitions": 1}), AUDIT.name)
    return [(event["action"], event["subject"]) for event in (msgspec.json.decode(each.value) for each in found)]


def test_addresses_of_roles_are_checked() -> None:
    """One that is no URL is a setting that cannot be used."""
    with pytest.raises(ValueError, match="http"):
        Settings(role_urls="nowhere", _env_file=None)
    assert Settings(role_urls=" http://127.0.0.1:1/ , http://127.0.0.1:2", _env_file=None).role_urls == (
        "http://127.0.0.1:1,http://127.0.0.1:2"
    )
