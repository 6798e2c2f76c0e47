"""One person under a phone number and a user id, on real servers: one thread, and nothing doubles."""

import asyncio
import json
import signal
from typing import Any

import pytest

from infra.settings import Settings
from schemas.topics import RAW
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import decided, records, wait_for_records

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

PHONE, USER = "15550008811", "US.13491208655302741918"
PHONE_KEY, USER_KEY = f"wa:{ACCOUNT}:{PHONE}", f"wa:{ACCOUNT}:{USER}"


def message(text: str, **who: str) -> bytes:
    item = {"id": f"wamid.{text}", "type": "text", "text": {"body": text}} | {name.rstrip("_"): value for name, value in who.items()}
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": ACCOUNT}, "messages": [item]}
    changes = [{"field": "messages", "value": value}]
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}).encode()


async def thread(installation: Installation, key: str, *, length: int) -> dict[str, Any]:
    """Return a conversation's page when it has this many messages."""
    async with asyncio.timeout(30):
        while True:
            _, page = await installation.get(f"/v1/conversations/{key}/messages")
            if len(page.get("messages", [])) >= length:
                return dict(page)
            await asyncio.sleep(0.2)


async def test_one_person_has_one_thread(settings: Settings) -> None:
    """A message by phone number, one with both, one by user id: each answered once in one thread, also when the first webhook comes again
    and the API writes to the user id.
    """
    async with Installation(settings) as installation:
        books = installation.platform.books
        bodies = [message("one", from_=PHONE), message("two", from_=PHONE, from_user_id=USER), message("three", from_user_id=USER)]
        for count, body in enumerate(bodies, 1):
            assert await installation.post(body) == 200
            await books.wait_for("accepted", count, timeout_s=60)
        for body in (*bodies, message("four", from_=PHONE)):
            assert await installation.post(body) == 200
        await books.wait_for("accepted", 4, timeout_s=60)
        for key in (PHONE_KEY, USER_KEY):
            page = await thread(installation, key, length=8)
            assert page["conversation"] == PHONE_KEY
            spoken = [each["text"] for each in reversed(page["messages"]) if each["direction"] == "in"]
            assert spoken == ["one", "two", "three", "four"]
            assert len(page["messages"]) == 8
        assert {tuple(each["raw"]) for each in page["messages"]} == {("topic", "partition", "offset")}
        assert [message["content"] for message in installation.model.prompts[-1].messages][-7:] == [
            "one",
            "echo: one",
            "two",
            "echo: two",
            "three",
            "echo: three",
            "four",
        ]
        _, listed = await installation.get("/v1/conversations")
        assert [each["conversation"] for each in listed["conversations"]] == [PHONE_KEY]
        _, listed = await installation.get(f"/v1/conversations?contact={USER}")
        assert [each["conversation"] for each in listed["conversations"]] == [PHONE_KEY]
        status, queued = await installation.send({"account": ACCOUNT, "to": USER, "type": "text", "text": {"body": "by the way"}})
        assert (status, queued["conversation"]) == (202, PHONE_KEY)
        await books.wait_for("accepted", 5, timeout_s=60)
        page = await thread(installation, USER_KEY, length=9)
        assert page["messages"][0]["text"] == "by the way"
        assert len(books.accepted()) == 5


async def test_the_first_of_a_killed_worker_is_answered_once(settings: Settings) -> None:
    """A worker killed right after webhooks with both ids: what was on its way between two keys is answered, once."""
    async with Installation(settings) as installation:
        people = [(f"1555000{number:04}", f"US.1349120865530{number:04}") for number in range(40)]
        for phone, user in people:
            assert await installation.post(message(f"both {phone}", from_=phone, from_user_id=user)) == 200
        await wait_for_records(settings, RAW.name, lambda found: len(found) > len(people) + 10)
        await installation.running["streams"].end(signal.SIGKILL)
        installation.running["streams"].start()
        for phone, user in people:
            assert await installation.post(message(f"user {phone}", from_user_id=user)) == 200
        await installation.platform.books.wait_for("accepted", 2 * len(people), timeout_s=90)
        events = {event.id: event for event in decided(await records(settings, "inbound"))}
        said = sorted(f"{kind} {phone}" for kind in ("both", "user") for phone, _ in people)
        assert sorted(event.text for event in events.values()) == said
        assert {event.conversation for event in events.values()} == {f"wa:{ACCOUNT}:{user}" for _, user in people}
        assert len(installation.platform.books.accepted()) == 2 * len(people)
