"""The whole path on real servers: webhook to reply to history, also while roles are killed."""

import asyncio
import random
import signal

import pytest

from infra.settings import Settings
from infra.simulator.freshen import Wanted
from infra.simulator.webhooks import build
from tests.driver import ACCOUNT, Driver, Load
from tests.installation import Installation

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]


async def test_every_message_is_answered_once_in_order_with_callback_data(settings: Settings) -> None:
    """A burst with a fifth posted twice: each message has one answer, in order, with our callback data, and history has it all."""
    load = Load(conversations=60, messages=5)
    async with Installation(settings) as installation:
        driver = Driver(installation, load)
        await driver.play()
        await driver.answered(timeout_s=60)
        verdict = driver.verdict()
        assert verdict.clean, verdict
        await _history_shows(installation, load, conversation=7)


async def _history_shows(installation: Installation, load: Load, *, conversation: int) -> None:
    """Wait until history has a conversation's messages with their final statuses, then check what it shows."""
    phone = load.phone(conversation)
    async with asyncio.timeout(30):
        while True:
            _, page = await installation.get(f"/v1/conversations/wa:{ACCOUNT}:{phone}/messages")
            messages = page.get("messages", [])
            if len(messages) == 2 * load.messages and all(m["status"] == "read" for m in messages if m["direction"] == "out"):
                break
            await asyncio.sleep(0.2)
    spoken = [(message["direction"], message["text"]) for message in reversed(messages)]
    assert [text for direction, text in spoken if direction == "in"] == [load.text(conversation, n) for n in range(load.messages)]
    assert [text for direction, text in spoken if direction == "out"] == [
        f"echo: {load.text(conversation, n)}" for n in range(load.messages)
    ]
    assert {status["status"] for status in messages[0]["statuses"]} >= {"sent", "delivered", "read"}
    assert messages[0]["raw"]["topic"] == "raw"


@pytest.mark.parametrize("role", ["streams", "sinks", "ingress"])
async def test_a_killed_role_loses_doubles_and_reorders_nothing(settings: Settings, role: str) -> None:
    """A role killed with -9 in the middle of a run, twice: after the restart every message is answered, once and in order.

    A sender may die between the note that a send begins and its bytes. Nobody can know that, so by default the send would be parked.
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # a failing run names it
    load = Load(conversations=100, messages=6, seed=seed)
    async with Installation(settings, environment={"OTTLA_UNKNOWN": "resend", "OTTLA_UNKNOWN_WAIT": "15"}) as installation:
        installation.model.delay_s = 0.05
        driver = Driver(installation, load)
        playing = asyncio.create_task(driver.play())
        for share in (0.2, 0.5):
            await installation.platform.books.wait_for("accepted", int(600 * share), timeout_s=60)
            await installation.running[role].end(signal.SIGKILL)
            installation.running[role].start()
        await playing
        await driver.answered(timeout_s=60)
        assert driver.verdict().clean, driver.verdict()


async def test_a_slow_model_holds_up_its_own_conversation_only(settings: Settings) -> None:
    """With a model of two seconds, forty conversations of three messages wait for their own turns and not for each other."""
    load = Load(conversations=40, messages=3, repeated=0.0)
    async with Installation(settings) as installation:
        installation.model.delay_s = 2.0
        driver = Driver(installation, load)
        await driver.play()
        await driver.answered(timeout_s=60)
        assert driver.verdict().clean, driver.verdict()
        assert installation.model.under_way_max >= 30


async def test_only_what_users_wrote_is_answered(settings: Settings) -> None:
    """Statuses, echoes, reactions and system events get no answer; the text among them does."""
    async with Installation(settings) as installation:
        for kind in ("reaction", "system", "read", "echo", "unsupported", "text"):
            for body in build(kind, Wanted(account=ACCOUNT, phone="15557770001", text="the only question")):
                assert await installation.post(body) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        async with asyncio.timeout(60):
            # History gathers for a quarter of a second what it writes.
            while (await installation.get(f"/v1/conversations/wa:{ACCOUNT}:15557770001/messages"))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert [arrival.to for arrival in installation.platform.books.accepted()] == ["15557770001"]
