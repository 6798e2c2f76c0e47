"""What must wait long is in [ledger] and holds nothing up: not other conversations, not the offsets, and not its own order."""

import asyncio
import signal

import msgspec
import pytest

from infra.retries import AwayError
from infra.settings import Settings
from infra.simulator.faults import Fault
from schemas.codec import decode
from schemas.events.planned import PlannedEvent
from schemas.events.sent import SentEvent
from schemas.topics import LEDGER, OUTBOUND, Topic
from sinks.ledger import Since
from sinks.older_sends import OlderSends
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import committed, wait_for_records
from tests.sinks.test_sender import text

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

WAITING, OTHER = "15550004441", "15550004442"


def texts(installation: Installation, phone: str) -> list[str]:
    """Return what the platform took for a phone, in order."""
    return [msgspec.json.decode(arrival.body)["text"]["body"] for arrival in installation.platform.books.accepted() if arrival.to == phone]


async def plans(settings: Settings, count: int) -> list[PlannedEvent]:
    """Return the planned sends once there are so many."""
    return [decode(record.value, PlannedEvent) for record in await wait_for_records(settings, "ledger", lambda found: len(found) >= count)]


async def released(settings: Settings, topic: Topic = OUTBOUND["high"]) -> None:
    """Return once the sender has committed every record of a topic."""
    async with asyncio.timeout(30):
        while not await committed(settings, "sender", topic.name):  # noqa: ASYNC110  # the broker tells nobody of a commit
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("killed", [False, True])
async def test_a_long_pause_releases_its_offsets_and_keeps_its_order(settings: Settings, *, killed: bool) -> None:
    """A throttled conversation waits in [ledger] with all that came later; another goes on; a killed sender goes on where it was."""
    async with Installation(settings, environment={"OTTLA_PLANNED_AFTER": "1"}) as installation:
        installation.platform.faults.turn("throttle", Fault(count=1, code=131056, retry_after_s=12))
        for number in (1, 2, 3):
            assert await installation.post(text(WAITING, number)) == 200
        found = await plans(settings, 3)
        assert {event.state for event in found} == {"planned"}
        assert await installation.post(text(OTHER)) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=30)
        await released(settings)
        assert (texts(installation, WAITING), texts(installation, OTHER)) == ([], ["echo: question 1"])
        if killed:
            role = installation.running["sinks"]
            await role.end(signal.SIGKILL)
            role.start()
        await installation.platform.books.wait_for("accepted", 4, timeout_s=60)
        assert texts(installation, WAITING) == ["echo: question 1", "echo: question 2", "echo: question 3"]
        # The platform has the third before the sender knows; until then the fourth would wait behind it.
        await released(settings, LEDGER)
        assert await installation.post(text(WAITING, 4)) == 200
        await installation.platform.books.wait_for("accepted", 5, timeout_s=30)
        assert len(await plans(settings, 3)) == 3
        assert installation.platform.books.duplicates() == {}


async def test_a_lost_answer_is_settled_or_parked_from_the_ledger(settings: Settings) -> None:
    """Its conversation waits behind it in [ledger]; a late status settles it there, and without one it is parked and the next one goes."""
    environment = {"OTTLA_PLANNED_AFTER": "0.5", "OTTLA_UNKNOWN_WAIT": "4"}
    async with Installation(settings, environment=environment) as installation:
        faults = installation.platform.faults
        faults.turn("cut", Fault(count=1))
        faults.turn("status_late", Fault(count=3, seconds=2))
        assert await installation.post(text(WAITING, 1)) == 200
        (first,) = await plans(settings, 1)
        assert (first.state, first.attempts) == ("unknown", 1)
        assert await installation.post(text(WAITING, 2)) == 200
        await installation.platform.books.wait_for("accepted", 2, timeout_s=30)
        settled, after = await _sent(settings, 2)
        assert (settled.id, settled.outcome, settled.settled, after.outcome) == (first.send.id, "accepted", True, "accepted")
        faults.turn("status_missing", Fault())
        faults.turn("cut", Fault(count=1))
        assert await installation.post(text(OTHER, 1)) == 200
        assert await installation.post(text(OTHER, 2)) == 200
        parked, after = (await _sent(settings, 4))[2:]
        assert (parked.outcome, parked.attempts, after.outcome) == ("unknown", 1, "accepted")
        assert texts(installation, OTHER) == ["echo: question 1", "echo: question 2"]


async def test_one_message_may_have_its_own_policy(settings: Settings) -> None:
    """`unknown` and `unknown_wait` of a message stand for the installation's: sent once more after a second, and marked."""
    async with Installation(settings) as installation:
        installation.platform.faults.turn("status_missing", Fault())
        installation.platform.faults.turn("cut", Fault(count=1))
        body = {"account": ACCOUNT, "to": WAITING, "type": "text", "text": {"body": "hello"}, "unknown": "resend", "unknown_wait": 1}
        headers = {"Authorization": f"Bearer {installation.settings.admin_key.get_secret_value()}"}
        async with installation.http.post(f"{installation.url}/v1/messages", json=body, headers=headers) as response:
            assert response.status == 202
        (only,) = await _sent(settings, 1)
        assert (only.outcome, only.resent, only.attempts) == ("accepted", True, 2)


async def test_an_old_id_is_looked_up_in_history(settings: Settings) -> None:
    """What the ledger no longer remembers is in Cassandra, and is believed only once history has written that far."""
    async with Installation(settings) as installation:
        assert await installation.post(text(WAITING)) == 200
        (sent,) = await _sent(settings, 1)
        partition = await _partition(settings)
        older = OlderSends(settings)
        try:
            async with asyncio.timeout(30):
                while not await _has_outcome(older, sent.id, partition, Since(1, 0)):  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.1)
            assert not await older.has_outcome("0" * 32, partition=partition, since=Since(1, 0))
            with pytest.raises(AwayError, match="history has yet to write"):
                await older.has_outcome(sent.id, partition=partition, since=Since(2, 0))
        finally:
            await older.close()


async def _has_outcome(older: OlderSends, send: str, partition: int, since: Since) -> bool:
    try:
        return await older.has_outcome(send, partition=partition, since=since)
    except AwayError:
        return False


async def _partition(settings: Settings) -> int:
    (record,) = await wait_for_records(settings, "sent", lambda found: len(found) >= 1)
    return int(record.partition)


async def _sent(settings: Settings, count: int) -> list[SentEvent]:
    found = await wait_for_records(settings, "sent", lambda found: len(found) >= count)
    return sorted((decode(record.value, SentEvent) for record in found), key=lambda event: event.at)
