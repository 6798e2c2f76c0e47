"""The simulated platform posts signed statuses of what it accepted, in the shape and the disorder of the real one."""

import contextlib
import hashlib
import hmac
import json

import aiohttp

from infra.simulator.faults import Fault
from infra.simulator.platform import SimulatedPlatform
from infra.simulator.poster import Update
from infra.simulator.signing import dump
from tests.simulator.conftest import SECRET
from tests.simulator.receiver import Receiver
from tests.simulator.sending import ACCOUNT, send, text_message


async def test_statuses_follow_a_send(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """An accepted send gets sent, delivered and read, each with its id, recipient and callback data."""
    _, answer = await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    statuses = await receiver.wait_for_statuses(3)
    assert [status["status"] for status in statuses] == ["sent", "delivered", "read"]
    assert {status["id"] for status in statuses} == {answer["messages"][0]["id"]}
    assert {status["biz_opaque_callback_data"] for status in statuses} == {"send-1"}
    assert {status["recipient_id"] for status in statuses} == {"16505550001"}
    assert all(status["timestamp"].isdigit() for status in statuses)
    value = json.loads(receiver.webhooks[0].body)["entry"][0]["changes"][0]["value"]
    assert value["metadata"]["phone_number_id"] == ACCOUNT
    assert value["contacts"][0]["wa_id"] == "16505550001"
    assert value["contacts"][0]["user_id"] == statuses[0]["recipient_user_id"]


async def test_a_webhook_is_signed(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """The signature is the HMAC of exactly the bytes posted."""
    await send(client, platform, text_message())
    (webhook, *_) = await receiver.wait_for_webhooks(1)
    expected = hmac.new(SECRET, webhook.body, hashlib.sha256).hexdigest()
    assert webhook.headers["X-Hub-Signature-256"] == f"sha256={expected}"


async def test_statuses_of_a_moment_come_in_one_body(
    platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession
) -> None:
    """Statuses due together are batched, and none is lost by it."""
    for number in range(30):
        await send(client, platform, text_message(biz_opaque_callback_data=f"send-{number}"))
    statuses = await receiver.wait_for_statuses(90)
    assert len(receiver.webhooks) < 90
    seen = {(status["biz_opaque_callback_data"], status["status"]) for status in statuses}
    assert seen == {(f"send-{number}", name) for number in range(30) for name in ("sent", "delivered", "read")}


async def test_a_refused_webhook_comes_again(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """Anything but a 200 makes the platform post the same bytes again, until it gets one, of which its watchers are told."""
    receiver.answers = [503, 202]
    platform.faults.turn("status_failed", Fault())
    assert platform.poster is not None
    told: list[Update] = []
    platform.poster.watchers.append(told.append)
    await send(client, platform, text_message())
    first, second, third = await receiver.wait_for_webhooks(3)
    assert first.body == second.body == third.body
    await platform.poster.wait_until_idle()
    assert [update.status["status"] for update in told] == ["failed"]
    assert len(receiver.webhooks) == 3
    assert platform.poster.counts == {"posted": 1, "statuses": 1, "refused": 2, "dropped": 0}


async def test_a_failed_send_says_why(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """A message that could not be delivered gets one status, failed, with the error."""
    platform.faults.turn("status_failed", Fault(code=131047))
    await send(client, platform, text_message())
    (status,) = await receiver.wait_for_statuses(1)
    assert (status["status"], status["errors"][0]["code"]) == ("failed", 131047)
    assert status["errors"][0]["title"]
    assert "contacts" not in json.loads(receiver.webhooks[0].body)["entry"][0]["changes"][0]["value"]


async def test_statuses_come_twice(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """With status_twice each status is posted a second time."""
    platform.faults.turn("status_twice", Fault(seconds=0.05))
    await send(client, platform, text_message())
    names = [status["status"] for status in await receiver.wait_for_statuses(6)]
    assert sorted(names) == ["delivered", "delivered", "read", "read", "sent", "sent"]


async def test_statuses_come_out_of_order(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """With status_disorder read is posted first and sent last."""
    platform.faults.turn("status_disorder", Fault())
    await send(client, platform, text_message())
    assert [status["status"] for status in await receiver.wait_for_statuses(3)] == ["read", "delivered", "sent"]


async def test_a_status_comes_before_the_answer(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """With status_early the sent status is posted and answered before the send itself is answered."""
    platform.faults.turn("status_early", Fault())
    await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    assert [status["status"] for status in receiver.statuses] == ["sent"]
    assert [status["status"] for status in await receiver.wait_for_statuses(3)] == ["sent", "delivered", "read"]


async def test_statuses_come_also_when_the_answer_was_cut_off(
    platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession
) -> None:
    """A send whose answer was lost is settled by its statuses, which carry the callback data."""
    platform.faults.turn("cut", Fault())
    with contextlib.suppress(aiohttp.ClientOSError):
        await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    assert {status["biz_opaque_callback_data"] for status in await receiver.wait_for_statuses(3)} == {"send-1"}


async def test_missing_statuses_never_come(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """With status_missing a send gets no status at all, others do."""
    platform.faults.turn("status_missing", Fault(count=1))
    await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    await send(client, platform, text_message(biz_opaque_callback_data="send-2"))
    assert {status["biz_opaque_callback_data"] for status in await receiver.wait_for_statuses(3)} == {"send-2"}
    assert platform.poster is not None
    await platform.poster.wait_until_idle()
    assert len(receiver.statuses) == 3


async def test_late_statuses_wait(platform: SimulatedPlatform, receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """With status_late the statuses of a send come after those of one sent later."""
    platform.faults.turn("status_late", Fault(count=1, seconds=1.0))
    await send(client, platform, text_message(biz_opaque_callback_data="send-1"))
    await send(client, platform, text_message(biz_opaque_callback_data="send-2"))
    order = [status["biz_opaque_callback_data"] for status in await receiver.wait_for_statuses(6)]
    assert order == ["send-2"] * 3 + ["send-1"] * 3


def test_a_body_is_written_as_the_platform_writes_it() -> None:
    """Non-ASCII and slashes are escaped, a lone surrogate too, so a check over decoded and re-written JSON would fail."""
    assert dump({"text": "ä/\ud83d"}) == b'{"text":"\\u00e4\\/\\ud83d"}'
    assert json.loads(dump({"text": "ä/\\/"})) == {"text": "ä/\\/"}
