"""Every role dies at every step of its work, in the middle of a load, and goes on: nothing is lost, doubled or out of order."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from infra.fault_points import POINTS
from infra.kafka.producer import Producer
from infra.servers.local import Servers
from infra.simulator.faults import Fault
from schemas.events.dead_letter import read_dead_letter
from tests.at_rest import at_rest
from tests.conftest import settings_on
from tests.driver import Driver, Load
from tests.installation import Installation
from tests.reading import committed, records, wait_for_records

pytestmark = [pytest.mark.servers, pytest.mark.timeout(150), pytest.mark.asyncio(loop_scope="module")]

# A load of so few messages comes to every point more often; history takes what came within a quarter of a second together.
OCCURRENCE_MAX = 12
HISTORY_OCCURRENCE_MAX = 4


@dataclass(frozen=True)
class Provoked:
    """What leads to a point that a plain load never comes to; `letters` are the causes of the dead letters that it leaves."""

    fault: str = ""
    body: bytes = b""
    record: bytes = b""
    letters: tuple[str, ...] = ()
    unanswered: int = 0


UNDECODABLE = Provoked(body=b'{"object":"whatsapp_business_account","entry":[{"id":"\\ud800"}]}', letters=("undecodable",))
REJECTED = Provoked(fault="reject", letters=("rejected-131026",), unanswered=1)
NO_EVENT = Provoked(record=b"no event", letters=("undecodable",))
PROVOKED = {
    "streams.before_dead_letter": UNDECODABLE,
    "streams.dead_letter_written": UNDECODABLE,
    "sender.waiting_for_status": Provoked(fault="cut"),
    "sender.before_plan": Provoked(fault="throttle"),
    "sender.planned": Provoked(fault="throttle"),
    # Nothing tells yet that it was rejected, and it certainly was not sent: it is tried again.
    "sender.before_dead_letter": Provoked(fault="reject"),
    "sender.dead_letter_written": REJECTED,
    "sinks.before_dead_letter": NO_EVENT,
    "sinks.dead_letter_written": NO_EVENT,
}
FAULTS = {"throttle": Fault(count=1, code=131056, retry_after_s=5)}
# What had begun to leave may not have left: nobody can know, so it is listed and not sent again.
PERHAPS_SENT = {"sender.leaving": 8}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """One installation for all points: what one leaves behind is part of the next one's world."""
    settings = settings_on(servers, tmp_path_factory.mktemp("crashes"))
    async with Installation(settings, environment={"OTTLA_UNKNOWN_WAIT": "3", "OTTLA_PLANNED_AFTER": "2"}, breakable=True) as running:
        running.model.delay_s = 0.02
        yield running


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_loses_doubles_and_reorders_nothing(installation: Installation, point: str) -> None:
    """The role dies there and is started again: every message is answered once and in order, or its send listed; history is complete."""
    seed = random.randrange(1 << 32)
    provoked = PROVOKED.get(point, Provoked())
    most = HISTORY_OCCURRENCE_MAX if point.startswith("history.") else OCCURRENCE_MAX
    occurrence = 1 if point in PROVOKED else random.Random(seed).randint(1, most)
    print(f"seed {seed}, time {occurrence}")  # noqa: T201  # a failing run names it
    load = Load(conversations=8, messages=4, connections=8, seed=seed, first_phone=15560000000 + 100 * POINTS.index(point))
    before = _causes(await records(installation.settings, "dead-letters"))
    role = installation.running[_role(point)]
    role.arm(f"crash={point}:{occurrence}")
    driver = Driver(installation, load)
    playing = asyncio.create_task(driver.play())
    try:
        await _provoke(installation, provoked)
        assert await role.ended(timeout_s=40) == -signal.SIGKILL
    finally:
        role.arm("")
        installation.platform.faults.clear()
        await role.end(signal.SIGKILL)
        role.start()
    await playing
    shown = await at_rest(installation, load)
    verdict = driver.verdict()
    assert (verdict.doubled, verdict.reordered, verdict.without_callback) == ([], [], [])
    assert shown.missing == []
    assert sorted(verdict.lost) == sorted(shown.unanswered)
    assert len(verdict.lost) <= provoked.unanswered + PERHAPS_SENT.get(point, 0)
    # One may be written twice: where nobody can know that it was written, the restarted role writes it again.
    letters = await wait_for_records(
        installation.settings, "dead-letters", lambda found: set(_causes(found) - before) >= set(provoked.letters), timeout_s=15
    )
    assert set(_causes(letters) - before) == set(provoked.letters)
    if provoked.record:
        # It may be about to be written a second time.
        while not await committed(installation.settings, "history", "inbound"):  # noqa: ASYNC110  # the broker tells nobody of a commit
            await asyncio.sleep(0.1)


def _causes(letters: Sequence[Any]) -> Counter[str]:
    return Counter(read_dead_letter(list(letter.headers)).cause for letter in letters)


def _role(point: str) -> str:
    role = point.partition(".")[0]
    return role if role in ("ingress", "streams") else "sinks"


async def _provoke(installation: Installation, provoked: Provoked) -> None:
    if provoked.fault:
        installation.platform.faults.turn(provoked.fault, FAULTS.get(provoked.fault, Fault(count=1)))
    if provoked.body:
        assert await installation.post(provoked.body) == 200
    if provoked.record:
        producer = Producer(installation.settings, client_id="test")
        await producer.start()
        await producer.send("inbound", key=b"nobody", value=provoked.record)
        await producer.stop()
