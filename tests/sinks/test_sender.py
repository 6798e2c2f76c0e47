"""The sender on real servers against a platform with faults: what was not sent is repeated, what may have been sent is not."""

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.webhooks import text_body
from schemas.codec import decode
from schemas.events.dead_letter import read_dead_letter
from schemas.events.sent import SentEvent
from schemas.topics import OUTBOUND
from tests.driver import ACCOUNT, Driver, Load
from tests.installation import Installation
from tests.reading import committed, records, wait_for_records

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]


def text(phone: str, number: int = 1) -> bytes:
    return text_body(account=ACCOUNT, phone=phone, texts=[(f"wamid.{phone}.{number}", f"question {number}")], at_s=1)


async def outcomes(settings: Settings, count: int) -> list[SentEvent]:
    """Return the outcomes once there are so many."""
    return [decode(record.value, SentEvent) for record in await wait_for_records(settings, "sent", lambda found: len(found) >= count)]


async def test_throttling_and_own_errors_are_repeated_in_order(settings: Settings) -> None:
    """Throttled, refused and 500 with the platform's own body: every message is sent once, in order, and nothing is given up."""
    async with Installation(settings) as installation:
        faults = installation.platform.faults
        faults.turn("throttle", Fault(count=6, code=131056, probability=0.3))
        faults.turn("error", Fault(count=2, probability=0.2))
        driver = Driver(installation, Load(conversations=15, messages=4))
        await driver.play()
        await driver.answered(timeout_s=90)
        assert driver.verdict().clean, driver.verdict()
        assert {event.outcome for event in await outcomes(settings, 60)} == {"accepted"}
        assert installation.platform.books.counts["requests"] > 60


async def test_a_platform_that_is_away_is_waited_for(settings: Settings) -> None:
    """While connections are refused nothing is sent and nothing given up; when the platform is back all goes out in order."""
    async with Installation(settings) as installation:
        await installation.platform.stop_listening()
        driver = Driver(installation, Load(conversations=10, messages=3))
        await driver.play()
        await wait_for_records(settings, "outbound-high", lambda found: len(found) >= 30)
        await installation.platform.listen()
        await driver.answered(timeout_s=60)
        assert driver.verdict().clean, driver.verdict()


async def test_a_lost_answer_is_unknown_and_never_sent_again(settings: Settings) -> None:
    """Cut off after accepting, or 502 without the platform's own body: recorded as unknown, sent once, also after a restart."""
    async with Installation(settings, environment={"OTTLA_UNKNOWN_WAIT": "1"}) as installation:
        installation.platform.faults.turn("status_missing", Fault())
        installation.platform.faults.turn("cut", Fault(count=1))
        assert await installation.post(text("15550003331")) == 200
        (first,) = await outcomes(settings, 1)
        installation.platform.faults.turn("html", Fault(count=1, accepted=True))
        assert await installation.post(text("15550003332")) == 200
        second = next(event for event in await outcomes(settings, 2) if event.id != first.id)
        assert (first.outcome, second.outcome) == ("unknown", "unknown")
        role = installation.running["sinks"]
        await role.end()
        role.start()
        await installation.ready("sinks")
        assert await installation.post(text("15550003331", 2)) == 200
        await outcomes(settings, 3)
        sent = [(arrival.to, msgspec.json.decode(arrival.body)["text"]["body"]) for arrival in installation.platform.books.accepted()]
        assert sorted(sent) == [
            ("15550003331", "echo: question 1"),
            ("15550003331", "echo: question 2"),
            ("15550003332", "echo: question 1"),
        ]


async def test_a_status_settles_a_lost_answer(settings: Settings) -> None:
    """Cut off after accepting, then a status with our id: the send is accepted after all, sent once, and the next message follows."""
    async with Installation(settings) as installation:
        installation.platform.faults.turn("cut", Fault(count=1))
        assert await installation.post(text("15550003335")) == 200
        assert await installation.post(text("15550003335", 2)) == 200
        first, second = await outcomes(settings, 2)
        assert (first.outcome, first.settled, second.outcome, second.settled) == ("accepted", True, "accepted", False)
        (sent, _) = installation.platform.books.accepted()
        assert first.platform_id == sent.platform_id
        assert len(installation.platform.books.accepted()) == 2


async def test_resend_is_once_and_marked(settings: Settings) -> None:
    """With OTTLA_UNKNOWN=resend a send that no status settles is sent once more, and its outcome says so."""
    async with Installation(settings, environment={"OTTLA_UNKNOWN_WAIT": "1", "OTTLA_UNKNOWN": "resend"}) as installation:
        installation.platform.faults.turn("status_missing", Fault())
        installation.platform.faults.turn("cut", Fault(count=1))
        assert await installation.post(text("15550003336")) == 200
        (only,) = await outcomes(settings, 1)
        assert (only.outcome, only.resent, only.attempts) == ("accepted", True, 2)
        assert len(installation.platform.books.accepted()) == 2


async def test_a_final_refusal_is_recorded_and_kept(settings: Settings) -> None:
    """131026 is final: one attempt, outcome rejected with its code, a dead letter for the operator, and the next message goes out."""
    async with Installation(settings) as installation:
        installation.platform.faults.turn("reject", Fault(count=1, code=131026))
        assert await installation.post(text("15550003333")) == 200
        (rejected,) = await outcomes(settings, 1)
        assert (rejected.outcome, rejected.error_code, rejected.attempts) == ("rejected", 131026, 1)
        (dead,) = await wait_for_records(settings, "dead-letters", lambda found: len(found) >= 1)
        assert read_dead_letter(list(dead.headers)).cause == "rejected-131026"
        assert await installation.post(text("15550003333", 2)) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        assert len(await records(settings, "dead-letters")) == 1


async def test_a_second_record_of_a_send_is_not_sent(settings: Settings) -> None:
    """An Idempotency-Key makes the id: the same call again, also after all was committed and the sender restarted, is one send."""
    body = {"account": ACCOUNT, "to": "15550003334", "type": "text", "text": {"body": "hello"}}
    async with Installation(settings) as installation:
        ids = [await _send(installation, body, key) for key in ("one", "one", "two")]
        await installation.platform.books.wait_for("accepted", 2, timeout_s=60)
        while not await committed(settings, "sender", OUTBOUND["normal"].name):  # noqa: ASYNC110  # the broker tells nobody of a commit
            await asyncio.sleep(0.1)
        role = installation.running["sinks"]
        await role.end()
        ids.append(await _send(installation, body, "one"))
        role.start()
        await installation.ready("sinks")
        ids.append(await _send(installation, body, "three"))
        await installation.platform.books.wait_for("accepted", 3, timeout_s=60)
        assert len(installation.platform.books.accepted()) == 3
    assert len(set(ids)) == 3


async def _send(installation: Installation, body: Mapping[str, object], key: str) -> str:
    headers = {"Authorization": f"Bearer {installation.settings.admin_key.get_secret_value()}", "Idempotency-Key": key}
    async with installation.http.post(f"{installation.url}/v1/messages", json=body, headers=headers) as response:
        answer = await response.json()
        assert (response.status, answer["queued"]) == (202, True), answer
        assert answer["queuePosition"] >= 1
        return str(answer["id"])
