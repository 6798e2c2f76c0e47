"""The simulated platform misbehaves on demand, as the real one does by itself."""

import asyncio
from typing import Any

import aiohttp
import pytest

from infra.simulator.faults import Fault, Faults
from infra.simulator.platform import SimulatedPlatform
from tests.simulator.sending import ACCOUNT, send, text_message


async def _control(client: aiohttp.ClientSession, platform: SimulatedPlatform, control: dict[str, Any]) -> tuple[int, Any]:
    async with client.post(f"{platform.url}/control", json=control) as answer:
        return answer.status, await answer.json()


async def test_faults_are_set_and_shown_at_run_time(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """POST /control turns faults on and off, GET shows them with the seed, DELETE clears them."""
    status, shown = await _control(client, platform, {"seed": 7, "faults": {"throttle": {"count": 2}, "slow": {"seconds": 0.5}}})
    assert (status, shown["seed"], set(shown["faults"]), shown["left"]) == (200, 7, {"throttle", "slow"}, {"throttle": 2})
    _, shown = await _control(client, platform, {"faults": {"slow": None}})
    assert set(shown["faults"]) == {"throttle"}
    async with client.delete(f"{platform.url}/control") as answer:
        assert (await answer.json())["faults"] == {}


@pytest.mark.parametrize("control", [{"faults": {"gremlins": {}}}, {"faults": {"slow": {"probability": 2}}}, {"fault": {}}])
async def test_a_wrong_control_is_refused(platform: SimulatedPlatform, client: aiohttp.ClientSession, control: dict[str, Any]) -> None:
    """A fault that does not exist or cannot be is refused with a sentence and changes nothing."""
    status, answer = await _control(client, platform, control)
    assert status == 400
    assert answer["error"]
    assert platform.faults.show()["faults"] == {}


@pytest.mark.parametrize("code", [130429, 131056, 80007])
async def test_throttling(platform: SimulatedPlatform, client: aiohttp.ClientSession, code: int) -> None:
    """A throttled send gets 429 with the platform's error body, is not accepted, and the count ends the fault."""
    platform.faults.turn("throttle", Fault(count=1, code=code, retry_after_s=3))
    async with client.post(f"{platform.api_url}/{ACCOUNT}/messages", json=text_message()) as answer:
        assert (answer.status, (await answer.json())["error"]["code"], answer.headers["Retry-After"]) == (429, code, "3")
    assert platform.books.accepted() == []
    assert (await send(client, platform, text_message()))[0] == 200


async def test_an_error_has_the_platforms_own_body(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A 500 of the platform's own making says so in its body and the send is not accepted."""
    platform.faults.turn("error", Fault(count=1))
    status, answer = await send(client, platform, text_message())
    assert (status, answer["error"]["code"]) == (500, 131000)
    assert platform.books.accepted() == []


@pytest.mark.parametrize("code", [131026, 131047, 190])
async def test_a_final_error_is_the_codes_own(platform: SimulatedPlatform, client: aiohttp.ClientSession, code: int) -> None:
    """A rejected send carries the code asked for, with the HTTP status that goes with it."""
    platform.faults.turn("reject", Fault(count=1, code=code))
    status, answer = await send(client, platform, text_message())
    assert (status, answer["error"]["code"]) == (401 if code == 190 else 400, code)


@pytest.mark.parametrize(("status", "accepted"), [(500, False), (502, False), (503, True)])
async def test_a_gateways_error_has_no_error_body(
    platform: SimulatedPlatform, client: aiohttp.ClientSession, status: int, accepted: bool
) -> None:
    """An HTML error says nothing about the send, which may or may not have been accepted."""
    platform.faults.turn("html", Fault(count=1, status=status, accepted=accepted))
    async with client.post(f"{platform.api_url}/{ACCOUNT}/messages", json=text_message()) as answer:
        assert (answer.status, answer.content_type) == (status, "text/html")
    assert len(platform.books.accepted()) == int(accepted)


async def test_an_answer_that_is_cut_off_is_a_reset_and_the_send_counts(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """The client gets a reset and no answer, while the send was accepted and remembered."""
    platform.faults.turn("cut", Fault(count=1))
    with pytest.raises(aiohttp.ClientOSError, match="reset"):
        await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    accepted = platform.books.accepted()
    assert [(arrival.callback, arrival.answered) for arrival in accepted] == [("send-1", 0)]
    await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    assert platform.books.counts["duplicates"] == 1


async def test_a_reset_reaches_the_socket(platform: SimulatedPlatform) -> None:
    """Cutting off is a TCP reset and not an orderly end, so that reading fails rather than ends."""
    platform.faults.turn("cut", Fault(count=1))
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.port)
    body = b'{"messaging_product":"whatsapp","to":"+16505550001","type":"text","text":{"body":"hello"}}'
    head = f"POST /v25.0/{ACCOUNT}/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert len(platform.books.accepted()) == 1


async def test_a_refused_connection_remembers_nothing(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A connection closed before the body was read is no send, but the books know of the request."""
    platform.faults.turn("refuse", Fault(count=1))
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await send(client, platform, text_message())
    assert platform.books.accepted() == []
    assert platform.books.counts["refused"] == 1


async def test_while_down_connections_are_refused(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A platform that is down refuses connections, drops those it had, and is back at the same port afterwards."""
    await send(client, platform, text_message())
    await platform.stop_listening()
    with pytest.raises(aiohttp.ClientConnectionError):
        await send(client, platform, text_message())
    with pytest.raises(aiohttp.ClientConnectorError):
        await send(client, platform, text_message())
    await platform.listen()
    assert (await send(client, platform, text_message()))[0] == 200


async def test_down_for_a_while_ends_by_itself(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """POST /control with down_s answers first, goes down, and comes back after so many seconds."""
    status, _ = await _control(client, platform, {"down_s": 0.05})
    assert status == 200
    await platform.wait_until_up()
    assert (await send(client, platform, text_message()))[0] == 200


async def test_a_slow_answer_comes_late(platform: SimulatedPlatform, client: aiohttp.ClientSession) -> None:
    """A slow send is accepted at once and answered later."""
    platform.faults.turn("slow", Fault(count=1, seconds=0.3))
    sending = asyncio.create_task(send(client, platform, text_message()))
    await platform.books.wait_for("accepted", 1)
    assert not sending.done()
    assert (await sending)[0] == 200


def test_draws_repeat_with_their_seed() -> None:
    """The same seed gives the same draws, another one others; the share is about the probability."""

    def draws(seed: int) -> list[bool]:
        faults = Faults(frozenset({"slow"}), seed=seed)
        faults.turn("slow", Fault(probability=0.3))
        return [faults.draw("slow") is not None for _ in range(1000)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert 250 < sum(draws(1)) < 350


def test_a_seed_is_made_and_shown_when_none_is_given() -> None:
    """Without a seed one is made, so that a run can be repeated from what was shown."""
    assert isinstance(Faults(frozenset()).show()["seed"], int)
