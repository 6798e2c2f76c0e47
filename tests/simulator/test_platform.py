"""The simulated platform takes and refuses sends like the Graph API."""

from typing import Any

import aiohttp
import pytest

from infra.simulator.platform import SimulatedPlatform
from tests.simulator.sending import ACCOUNT, send, text_message


async def test_a_send_is_accepted_with_the_platforms_answer(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """An accepted send is answered with the input, the platform's spelling of the number and a message id."""
    status, answer = await send(client, platform, text_message())
    assert status == 200
    assert answer["messaging_product"] == "whatsapp"
    assert answer["contacts"] == [{"input": "+16505550001", "wa_id": "16505550001"}]
    assert answer["messages"][0]["id"].startswith("wamid.")


async def test_a_send_to_a_user_id_is_answered_with_it(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A send to a business-scoped user id has user_id in its answer and no wa_id."""
    _, answer = await send(client, platform, text_message(to=None, recipient="US.13491208655302741918"))
    assert answer["contacts"] == [{"input": "US.13491208655302741918", "user_id": "US.13491208655302741918"}]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({}, 100),
        ([], 100),
        (text_message(messaging_product="telegram"), 100),
        (text_message(to=""), 100),
        (text_message(to="not a number"), 131009),
        (text_message(to=None, recipient="16505550001"), 131009),
        (text_message(type="poem"), 100),
        (text_message(text=None), 131008),
        (text_message(text={"body": ""}), 131008),
        (text_message(text={"body": "x" * 4097}), 100),
        (text_message(biz_opaque_callback_data="x" * 513), 100),
        (text_message(type="image", image={"caption": "no id"}), 131008),
        (text_message(type="image", image={"id": "1", "caption": "x" * 1025}), 100),
        (text_message(type="reaction", reaction={"emoji": "!"}), 131008),
        (text_message(type="location", location={"latitude": 1}), 131008),
        (text_message(type="template", template={"name": "hello"}), 131008),
        (text_message(type="interactive", interactive={"type": "button"}), 131008),
        (text_message(type="contacts", contacts=[]), 131008),
        ({"messaging_product": "whatsapp", "status": "read"}, 131008),
    ],
)
async def test_a_wrong_send_is_refused_with_the_platforms_error(
    platform: SimulatedPlatform, client: aiohttp.ClientSession, message: object, code: int
) -> None:
    """A wrong send gets 400 and an error body with code, type, error_data and fbtrace_id, and is not accepted."""
    status, answer = await send(client, platform, message)
    error = answer["error"]
    assert (status, error["code"], error["type"]) == (400, code, "OAuthException")
    assert error["message"].startswith(f"(#{code}) ")
    assert error["error_data"]["messaging_product"] == "whatsapp"
    assert error["error_data"]["details"]
    assert error["fbtrace_id"]
    assert platform.books.accepted() == []


@pytest.mark.parametrize(
    "content",
    [
        {"type": "image", "image": {"link": "https://example.org/cat.jpg", "caption": "a cat"}},
        {"type": "audio", "audio": {"id": "1013859600285441", "voice": True}},
        {"type": "reaction", "reaction": {"message_id": "wamid.x", "emoji": ""}},
        {"type": "location", "location": {"latitude": 50.09, "longitude": 14.42}},
        {"type": "template", "template": {"name": "hello_world", "language": {"code": "en_US"}}},
        {"type": "interactive", "interactive": {"type": "button", "action": {"buttons": []}}},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": "Ottla"}}]},
        {"recipient_type": "group", "to": "Y2FwaV9ncm91cDoxOTUwNTU1MDA3OToxMjAzNjM"},
    ],
)
async def test_every_kind_of_message_is_taken(platform: SimulatedPlatform, client: aiohttp.ClientSession, content: dict[str, Any]) -> None:
    """Each kind of message the platform knows is accepted when it is complete."""
    status, _ = await send(client, platform, text_message(**content))
    assert status == 200


async def test_without_a_token_nothing_is_sent(platform: SimulatedPlatform) -> None:
    """A request without a bearer token gets 401 and code 190."""
    async with aiohttp.ClientSession() as stranger:
        status, answer = await send(stranger, platform, text_message())
    assert (status, answer["error"]["code"]) == (401, 190)
    assert platform.books.accepted() == []


async def test_what_is_not_json_is_refused(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A body that is not JSON gets the platform's error 100."""
    async with client.post(f"{platform.api_url}/{ACCOUNT}/messages", data=b"{half") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, 100)


async def test_other_paths_get_a_graph_error(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A path the platform does not have is answered with its own error, also for a number that is none."""
    async with client.get(f"{platform.url}/v25.0/me/accounts") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, 2500)
    async with client.post(f"{platform.api_url}/me/messages", json=text_message()) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, 33)


async def test_read_receipts_and_typing_are_taken(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A read receipt, with or without the typing indicator, is answered with success and is not a send."""
    receipt = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.x", "typing_indicator": {"type": "text"}}
    assert await send(client, platform, receipt) == (200, {"success": True})
    assert platform.books.counts["read"] == 1
    assert platform.books.accepted() == []


async def test_any_version_is_served(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """The version in the path may be any."""
    async with client.post(f"{platform.url}/v19.0/{ACCOUNT}/messages", json=text_message()) as answer:
        assert answer.status == 200


async def test_received_lists_sends_in_order(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """GET /received shows every request in order with what arrived; `after` pages on and a filter chooses."""
    for number in range(3):
        await send(client, platform, text_message(f"text {number}", biz_opaque_callback_data=f"send-{number}"))
    async with client.get(f"{platform.url}/received") as answer:
        received = (await answer.json())["received"]
    assert [arrival["body"]["text"]["body"] for arrival in received] == ["text 0", "text 1", "text 2"]
    assert [arrival["at"] for arrival in received] == sorted(arrival["at"] for arrival in received)
    assert {arrival["account"] for arrival in received} == {ACCOUNT}
    async with client.get(f"{platform.url}/received", params={"after": received[1]["sequence"]}) as answer:
        assert [arrival["callback"] for arrival in (await answer.json())["received"]] == ["send-2"]
    async with client.get(f"{platform.url}/received", params={"callback": "send-0"}) as answer:
        assert [arrival["platform_id"] for arrival in (await answer.json())["received"]] == [received[0]["platform_id"]]


async def test_two_sends_with_the_same_callback_data_are_a_duplicate(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """The platform accepts a repeated send, gives it another id, and the books count the duplicate."""
    first = await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    second = await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    await send(client, platform, text_message(biz_opaque_callback_data="send-2"))
    ids = [answer["messages"][0]["id"] for _, answer in (first, second)]
    assert platform.books.duplicates() == {"send-1": ids}
    assert platform.books.counts["duplicates"] == 1
    async with client.delete(f"{platform.url}/received") as answer:
        assert answer.status == 200
    assert platform.books.duplicates() == {}


async def test_the_books_are_bounded(client: aiohttp.ClientSession) -> None:
    """Only the last arrivals are kept; the counts go on."""
    async with SimulatedPlatform(kept=2, seed=1) as platform:
        for number in range(4):
            await send(client, platform, text_message(biz_opaque_callback_data=f"send-{number}"))
        assert [arrival.callback for arrival in platform.books.arrivals()] == ["send-2", "send-3"]
        assert platform.books.counts["accepted"] == 4


async def test_a_taken_port_is_an_os_error(platform: SimulatedPlatform) -> None:
    """Starting on a port that is in use fails at once."""
    second = SimulatedPlatform(port=platform.port, seed=1)
    try:
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
    finally:
        await second.stop()
