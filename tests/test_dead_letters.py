"""Dead letters on real servers, from the failure over the list to the redrive: answered after all, once, in order."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.model import SimulatedModel, _last_user_text, _Request
from infra.simulator.webhooks import text_body
from schemas.codec import decode
from schemas.events.outbound import OutboundEvent
from schemas.ids import send_id
from schemas.topics import DEAD_LETTERS
from streams.decisions import DEFAULT_FALLBACK
from tests.cli.test_send import ottla
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import records, wait_for_records
from tests.topic_settings import set_topic

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

PHONES = ("15550008881", "15550008882")


class Poison:
    """Makes a simulated model fail for texts that hold the word poison, until it is cured."""

    def __init__(self, model: SimulatedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.cured = False
        answer = model._answer

        async def answered(request: web.Request, asked: _Request) -> web.Response:
            text = _last_user_text(asked)
            self.asked.append(text)
            if "poison" in text and not self.cured:
                # Refused, which is not tried again: the cause is the same however busy the machine is.
                return web.json_response({"error": {"message": "cannot", "type": "invalid_request_error"}}, status=400)
            return await answer(request, asked)

        monkeypatch.setattr(model, "_answer", answered)


def body(phone: str, *texts: str) -> bytes:
    return text_body(account=ACCOUNT, phone=phone, texts=[(f"wamid.{phone}.{text}", text) for text in texts], at_s=int(time.time()))


def sent_texts(installation: Installation, phone: str) -> list[str]:
    accepted = [each for each in installation.platform.books.accepted() if each.to == phone]
    return [msgspec.json.decode(bytes(arrival.body))["text"]["body"] for arrival in accepted]


async def cli(installation: Installation, *words: str, code: int = 0) -> str:
    """Return what `ottla dead-letters` printed; what it refuses is one line on standard error."""
    done = await asyncio.to_thread(ottla, installation, "dead-letters", *words)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1 if code else 0), done
    return done.stderr if code else done.stdout


async def listed(installation: Installation, enough: Callable[[list[dict[str, Any]]], bool], *words: str) -> list[dict[str, Any]]:
    """Return what `ottla dead-letters list -o json` prints as soon as it is enough; TimeoutError otherwise."""
    async with asyncio.timeout(60):
        while True:
            found: list[dict[str, Any]] = json.loads(await cli(installation, "list", "-o", "json", *words))
            if enough(found):
                return found
            await asyncio.sleep(0.2)


async def test_a_failed_item_is_answered_after_all_and_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three messages in one record one fails: listed, shown, redriven once cured, its real answer sent once, its siblings left alone."""
    phone = PHONES[0]
    async with Installation(settings) as installation:
        poison = Poison(installation.model, monkeypatch)
        assert await listed(installation, lambda _: True) == []
        assert await installation.post(body(phone, "first", "poison", "third")) == 200
        await installation.platform.books.wait_for("accepted", 3, timeout_s=60)
        assert sent_texts(installation, phone) == ["echo: first", DEFAULT_FALLBACK, "echo: third"]
        (letter,) = await listed(installation, lambda found: len(found) == 1)
        assert (letter["state"], letter["stage"], letter["tenant"], letter["retry_count"]) == ("open", "streams", "default", 0)
        assert (letter["conversation"], letter["topic"], letter["redriven_at"]) == (f"wa:{ACCOUNT}:{phone}", "raw", None)
        shown = await cli(installation, "show", letter["id"])
        assert "Traceback" in shown
        assert f"wamid.{phone}.poison" in shown

        poison.cured = True
        before = len(await records(settings, "raw"))
        planned = await cli(installation, "redrive", letter["id"])
        assert planned == f"Would redrive {letter['id']} to raw.\nNothing was done: --execute does it.\n"
        assert len(await records(settings, "raw")) == before
        assert "Redrove" in await cli(installation, "redrive", letter["id"], "--execute")
        await installation.platform.books.wait_for("accepted", 4, timeout_s=60)
        (redriven,) = await listed(installation, lambda _: True)
        assert (redriven["state"], redriven["retry_count"]) == ("redriven", 1)
        assert await listed(installation, lambda _: True, "--state", "open") == []

        assert "again" in await cli(installation, "redrive", letter["id"], "--execute", code=4)
        await cli(installation, "redrive", letter["id"], "--again", "--execute")
        assert await installation.post(body(phone, "last")) == 200
        await installation.platform.books.wait_for("accepted", 5, timeout_s=60)
        assert sent_texts(installation, phone) == ["echo: first", DEFAULT_FALLBACK, "echo: third", "echo: poison", "echo: last"]
        assert [poison.asked.count(text) for text in ("first", "third", "last")] == [1, 1, 1]
        assert (await listed(installation, lambda _: True))[0]["retry_count"] == 2
        again = [decode(each.value, OutboundEvent) for each in await records(settings, "outbound-high")][3:5]
        assert [(event.step, event.lookup) for event in again] == [("redrive", True), ("redrive", True)]
        assert again[0].id == again[1].id
        async with asyncio.timeout(60):
            while True:  # history gathers for a quarter of a second what it writes
                _, page = await installation.get(f"/v1/conversations/wa:{ACCOUNT}:{phone}/messages")
                (question,) = [message for message in page["messages"] if message["text"] == "poison"]
                if (question["decision"], question["replies"]) == ("answered", [again[0].id]):
                    break
                await asyncio.sleep(0.1)


async def test_all_are_redriven_in_order_and_may_fail_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redriven too early they fail again without a second fallback; cured, `--all` answers each conversation in its order."""
    first, second = PHONES
    async with Installation(settings) as installation:
        poison = Poison(installation.model, monkeypatch)
        for number in range(3):
            assert await installation.post(body(first, f"poison {number}")) == 200
        assert await installation.post(body(second, "poison 0")) == 200
        old = {each["id"] for each in await listed(installation, lambda found: len(found) == 4)}
        planned = await cli(installation, "redrive", "--all")
        assert "Would redrive 4 of streams" in planned
        assert "Nothing was done" in planned
        assert await cli(installation, "redrive", "--all", "--execute") == "Redrove 4, oldest first.\n"
        found = await listed(installation, lambda found: len(found) == 8)
        assert {each["id"]: each["state"] for each in found if each["id"] in old} == dict.fromkeys(old, "redriven")
        assert {each["redrive_of"] for each in found if each["state"] == "open"} == old
        (group,) = await listed(installation, lambda _: True, "--by-cause")
        assert (group["open"], group["redriven"]) == (4, 4)
        assert group["first"] < group["last"]

        poison.cured = True
        assert await cli(installation, "redrive", "--cause", "no-such-cause", "--execute") == "None is open.\n"
        assert await cli(installation, "redrive", "--cause", group["cause"], "--execute") == "Redrove 4, oldest first.\n"
        await installation.platform.books.wait_for("accepted", 8, timeout_s=60)
        assert sent_texts(installation, first) == [DEFAULT_FALLBACK] * 3 + [f"echo: poison {number}" for number in range(3)]
        assert sent_texts(installation, second) == [DEFAULT_FALLBACK, "echo: poison 0"]
        assert await cli(installation, "redrive", "--all", "--execute") == "None is open.\n"


async def test_what_was_rejected_and_what_nobody_can_redrive(settings: Settings) -> None:
    """A rejected send goes out as a new send, once; records of strangers in the topic are listed and refused; unknown ids are told."""
    phone = PHONES[0]
    async with Installation(settings) as installation:
        installation.platform.faults.turn("reject", Fault(count=1, code=131026))
        assert await installation.post(body(phone, "question")) == 200
        (letter,) = await listed(installation, lambda found: len(found) == 1)
        assert (letter["stage"], letter["cause"], letter["tenant"]) == ("sender", "rejected-131026", "default")
        (outbound,) = [decode(each.value, OutboundEvent) for each in await records(settings, "outbound-high")]
        resent = send_id(conversation=outbound.conversation, cause=outbound.id, step="resend")
        await _has_outcome(installation, outbound.id)
        assert resent in await cli(installation, "redrive", letter["id"])
        assert resent in await cli(installation, "redrive", letter["id"], "--execute")
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        await cli(installation, "redrive", letter["id"], "--execute", code=4)
        await _has_outcome(installation, resent)
        await cli(installation, "redrive", letter["id"], "--again", "--execute")
        assert await installation.post(body(phone, "last")) == 200
        await installation.platform.books.wait_for("accepted", 2, timeout_s=60)
        assert sent_texts(installation, phone) == ["echo: question", "echo: last"]

        producer = Producer(settings, client_id="stranger")
        await producer.start()
        await producer.send(DEAD_LETTERS.name, key=b"\xff", value=b"\x1b[2J", headers=[("ce_id", b"1")])
        await producer.stop()
        (foreign,) = await listed(installation, lambda found: len(found) == 1, "--cause", "unreadable-headers")
        assert (foreign["tenant"], foreign["size"]) == ("default", 4)
        shown = await cli(installation, "show", foreign["id"])
        assert "\\x1b[2J" in shown
        await cli(installation, "redrive", foreign["id"], "--execute", code=4)
        await cli(installation, "redrive", "--all", "--execute", code=4)
        for words in (("show", "0" * 32), ("redrive", "0" * 32, "--execute")):
            await cli(installation, *words, code=3)
        await cli(installation, "redrive", code=2)
        assert len(await records(settings, "dead-letters")) == 2


async def _has_outcome(installation: Installation, send: str) -> None:
    async with asyncio.timeout(60):
        while True:
            _, message = await installation.get(f"/v1/messages/{send}")
            if message.get("status", "queued") != "queued":
                return
            await asyncio.sleep(0.1)


async def test_when_dead_letters_cannot_be_written_the_role_stops_and_says_so(settings: Settings) -> None:
    """Streams and sinks end with one sentence and keep their place; when the topic takes letters again, nothing was lost."""
    async with Installation(settings) as installation:
        await _limit_dead_letters(settings, 100)
        assert await installation.post(b'{"object":"whatsapp_business_account","entry":[{"id":"\\ud800"}]}') == 200
        producer = Producer(settings, client_id="stranger")
        await producer.start()
        await producer.send("inbound", key=b"wa:1:1", value=b"{")
        await producer.stop()
        for name, stage in (("streams", "streams"), ("sinks", "history")):
            role = installation.running[name]
            assert role.process is not None
            assert await asyncio.to_thread(role.process.wait, 60) == 1
            (sentence,) = [line for line in role.log.read_text().splitlines() if line.startswith(f"{stage} stops")]
            assert "[dead-letters] does not take it (Broker: Message size too large)" in sentence
            assert sentence.endswith("run `ottla topics create` and start again, nothing is lost.")
        assert await records(settings, "dead-letters") == []
        await create_topics(settings)
        for name in ("streams", "sinks"):
            installation.running[name].start()
        found = await wait_for_records(settings, "dead-letters", lambda found: len(found) >= 2)
        assert b"{" in {each.value for each in found}
        assert {each["stage"] for each in await listed(installation, lambda found: len(found) == 2)} == {"streams", "history"}


async def _limit_dead_letters(settings: Settings, size: int) -> None:
    await set_topic(settings, DEAD_LETTERS.name, "max.message.bytes", str(size))
