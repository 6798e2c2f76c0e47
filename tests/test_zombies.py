"""A worker that is paused past its session, replaced, and then goes on: it must not do again what its successor did."""

import asyncio
import random
import signal

import msgspec
import pytest

from infra.settings import Settings
from schemas.codec import decode
from schemas.events.sent import SentEvent
from tests.driver import Driver, Load
from tests.installation import Installation
from tests.reading import records

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

MESSAGES = 5


async def parked(settings: Settings) -> list[str]:
    """Return the texts of the sends whose outcome is unknown."""
    sent = [decode(record.value, SentEvent) for record in await records(settings, "sent")]
    return [msgspec.json.decode(event.message)["text"]["body"] for event in sent if event.outcome == "unknown"]


async def done(driver: Driver, settings: Settings) -> None:
    """Wait until every message is answered or its send is recorded as unknown; what is missing then, the verdict names."""
    try:
        async with asyncio.timeout(60):
            while len(driver.verdict().lost) > len(await parked(settings)):
                await driver.answered(timeout_s=1)
    except TimeoutError:
        return


@pytest.mark.parametrize("name", ["sinks", "streams"])
async def test_a_paused_worker_does_nothing_again(settings: Settings, name: str) -> None:
    """SIGSTOP until everything was done by the other worker, then SIGCONT: nothing lost, doubled or reordered, before and after."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # a failing run names it
    first, second = (Load(conversations=60, messages=MESSAGES, seed=seed, first_phone=phone) for phone in (15551000000, 15552000000))
    async with Installation(settings, environment={"OTTLA_UNKNOWN_WAIT": "3"}) as installation:
        await installation.twin(name)
        driver = Driver(installation, first)
        playing = asyncio.create_task(driver.play())
        await installation.platform.books.wait_for("accepted", 60, timeout_s=60)
        paused = installation.running[name]
        paused.tell(signal.SIGSTOP)
        try:
            await playing
            await done(driver, settings)
        finally:
            paused.tell(signal.SIGCONT)
        await installation.ready(name)
        later = Driver(installation, second)
        await later.play()
        await later.answered(timeout_s=60)
        verdict = driver.verdict()
        assert (verdict.doubled, verdict.reordered) == ([], [])
        assert sorted(verdict.lost) == sorted(await parked(settings)), verdict
        assert len(verdict.lost) <= 32
        assert later.verdict().clean, later.verdict()
        assert installation.platform.books.duplicates() == {}
