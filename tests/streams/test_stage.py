"""streams on real servers: every failure is answered and kept, duplicates stay duplicates whatever worker has the table."""

import asyncio
import shutil
import signal
from typing import Any

import msgspec
import pytest

from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.freshen import Wanted
from infra.simulator.webhooks import build, text_body
from schemas.events.dead_letter import read_dead_letter
from schemas.events.inbound import InboundEvent
from streams.decisions import DEFAULT_FALLBACK
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import committed, decided, records, wait_for_records

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

PHONE = "15550002222"
KEY = f"wa:{ACCOUNT}:{PHONE}"


def text(number: int) -> bytes:
    return text_body(account=ACCOUNT, phone=PHONE, texts=[(f"wamid.{number}", f"question {number}")], at_s=number + 1)


def sent_texts(installation: Installation) -> list[str]:
    return [msgspec.json.decode(bytes(arrival.body))["text"]["body"] for arrival in installation.platform.books.accepted()]


async def inbound_events(settings: Settings) -> list[InboundEvent]:
    return decided(await records(settings, "inbound"))


async def test_a_failing_model_is_answered_with_the_fallback_and_kept(settings: Settings) -> None:
    """When the model fails the user gets the fallback once, the dead letter has cause and original bytes, and the next turn works."""
    async with Installation(settings, environment={"OTTLA_AI_TIMEOUT": "1"}) as installation:
        installation.model.faults.turn("error", Fault())
        assert await installation.post(text(1)) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        installation.model.faults.clear()
        assert await installation.post(text(2)) == 200
        await installation.platform.books.wait_for("accepted", 2, timeout_s=60)
        assert sent_texts(installation) == [DEFAULT_FALLBACK, "echo: question 2"]
        (dead,) = await records(settings, "dead-letters")
        (raw, *_) = [record for record in await records(settings, "raw") if b"wamid.1" in record.value]
    letter = read_dead_letter(list(dead.headers))
    assert dead.value == raw.value
    assert (letter.stage, letter.topic, letter.partition, letter.offset) == ("streams", "raw", raw.partition, raw.offset)
    assert letter.cause.startswith("model-")


async def test_what_cannot_be_understood_is_kept_with_its_bytes(settings: Settings) -> None:
    """A body our decoder refuses and a message without account become dead letters with the original bytes; others go on."""
    async with Installation(settings) as installation:
        odd = b'{"object":"whatsapp_business_account","entry":[{"id":"\\ud800"}]}'
        assert await installation.post(odd) == 200
        (no_account,) = build("no-account", Wanted(phone=PHONE))
        assert await installation.post(no_account) == 200
        assert await installation.post(text(1)) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)

        def both(found: list[Any]) -> bool:
            return len(found) >= 2

        letters = {read_dead_letter(list(r.headers)).cause: r for r in await wait_for_records(settings, "dead-letters", both)}
        assert set(letters) == {"undecodable", "no-account"}
        assert letters["undecodable"].value == odd
        assert sent_texts(installation) == ["echo: question 1"]


async def test_duplicates_are_known_to_the_next_worker(settings: Settings) -> None:
    """After a kill and the loss of the worker's disk the restored table still knows every id: nothing is answered twice."""
    async with Installation(settings) as installation:
        for number in range(5):
            assert await installation.post(text(number)) == 200
        await installation.platform.books.wait_for("accepted", 5, timeout_s=60)
        # Killed between its outputs and its row a worker writes the same [inbound] event again, which is not what this is about.
        while not await committed(settings, "streams", "raw"):  # noqa: ASYNC110  # the broker tells nobody of a commit
            await asyncio.sleep(0.05)
        role = installation.running["streams"]
        await role.end(signal.SIGKILL)
        shutil.rmtree(settings.home / "streams")
        role.environment["OTTLA_WORKER"] = "another"
        role.start()
        await installation.ready("streams")
        for number in (*range(5), 5):
            assert await installation.post(text(number)) == 200
        await installation.platform.books.wait_for("accepted", 6, timeout_s=60)
        assert sent_texts(installation) == [f"echo: question {number}" for number in range(6)]
        events = await inbound_events(settings)
        assert sorted(event.platform_id for event in events) == [f"wamid.{number}" for number in range(6)]
        last = installation.model.prompts[-1].messages
        assert [message["content"] for message in last[-3:]] == ["question 4", "echo: question 4", "question 5"]


async def test_decisions_are_recorded(settings: Settings) -> None:
    """Each distinct item has one [inbound] record that says what was decided and why."""
    async with Installation(settings) as installation:
        for kind in ("reaction", "system", "unsupported", "echo"):
            for body in build(kind, Wanted(phone=PHONE)):
                assert await installation.post(body) == 200
        assert await installation.post(text(1)) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        found = await wait_for_records(settings, "inbound", lambda found: len(decided(found)) >= 5)
        events = {event.type if event.kind == "message" else event.kind: event for event in decided(found)}
        assert {event.decision for name, event in events.items() if name != "text"} == {"stored"}
        assert all(event.reason for name, event in events.items() if name != "text")
        answered = events["text"]
        assert (answered.decision, answered.conversation, len(answered.replies)) == ("answered", KEY, 1)
        assert events["echo"].direction == "out"
