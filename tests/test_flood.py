"""One conversation that writes far faster than it is answered, on real servers: nobody else waits for it, and it loses nothing."""

import asyncio
import signal

import msgspec
import pytest

from infra.settings import Settings
from infra.simulator.books import Arrival
from infra.simulator.faults import Fault
from infra.simulator.webhooks import text_body
from tests.driver import ACCOUNT, Send
from tests.installation import Installation

pytestmark = [pytest.mark.servers, pytest.mark.timeout(280)]

# More than a streams worker holds of all conversations together.
FLOOD = 4_400
LOUD = "15550009990"


class Answers:
    """What the platform took, by phone and in order."""

    def __init__(self, installation: Installation) -> None:
        self.of: dict[str, list[str]] = {}
        self._came = asyncio.Event()
        installation.platform.books.watchers.append(self._saw)

    def _saw(self, arrival: Arrival) -> None:
        if arrival.outcome == "accepted":
            send = msgspec.json.decode(arrival.body, type=Send)
            self.of.setdefault(send.to, []).append(send.text.body)
            self._came.set()

    async def count(self, phone: str, count: int, *, timeout_s: float) -> None:
        """Wait until a phone has so many."""
        async with asyncio.timeout(timeout_s):
            while len(self.of.get(phone, [])) < count:
                self._came.clear()
                await self._came.wait()


async def write(installation: Installation, phone: str, number: int) -> None:
    body = text_body(account=ACCOUNT, phone=phone, texts=[(f"wamid.{phone}.{number}", f"{number}")], at_s=1)
    assert await installation.post(body) == 200


async def test_a_flooded_conversation_holds_up_nobody_else(settings: Settings) -> None:
    """With a model that takes a second: others are answered at once, also after a kill -9; the flood itself once and in order."""
    async with Installation(settings) as installation:
        answers = Answers(installation)
        installation.model.faults.turn("slow", Fault(seconds=1.0))
        for number in range(FLOOD):
            await write(installation, LOUD, number)
        quiet = [str(15550009000 + number) for number in range(16)]  # in all partitions
        await asyncio.gather(*(write(installation, phone, 0) for phone in quiet))
        for phone in quiet:
            await answers.count(phone, 1, timeout_s=15)
        streams = installation.running["streams"]
        await streams.end(signal.SIGKILL)
        streams.start()
        await asyncio.gather(*(write(installation, phone, 1) for phone in quiet))
        for phone in quiet:
            await answers.count(phone, 2, timeout_s=30)
        assert len(answers.of[LOUD]) < FLOOD / 10
        installation.model.faults.turn("slow", None)
        await answers.count(LOUD, FLOOD, timeout_s=150)
        assert answers.of[LOUD] == [f"echo: {number}" for number in range(FLOOD)]
        assert all(answers.of[phone] == ["echo: 0", "echo: 1"] for phone in quiet)
        assert installation.platform.books.duplicates() == {}
