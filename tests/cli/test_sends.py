"""`ottla sends` on a real installation: a lost answer is listed, a late status settles it, and resending sends once more."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.statuses import DueStatus, Recipient, status_item
from infra.simulator.webhooks import dump, text_body
from schemas.ids import read_callback_data, send_id
from tests.cli.test_send import ottla
from tests.driver import ACCOUNT
from tests.installation import Installation

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

PHONES = ("15550007771", "15550007772")


def text(phone: str) -> bytes:
    return text_body(account=ACCOUNT, phone=phone, texts=[(f"wamid.{phone}", "question")], at_s=int(time.time()))


def late_status(platform_id: str, phone: str, callback: str) -> bytes:
    """Return the body of a status webhook that brings our callback data back."""
    item = status_item(DueStatus(0, "delivered"), platform_id=platform_id, recipient=Recipient(phone, "phone"), callback=callback)
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": ACCOUNT},
        "statuses": [item | {"timestamp": str(int(time.time()))}],
    }
    entry = {"id": "1", "changes": [{"value": value, "field": "messages"}]}
    return dump({"object": "whatsapp_business_account", "entry": [entry]})


def lines(error: str) -> int:
    return error.count("\n")


async def listed(installation: Installation, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Return what `ottla sends list -o json` prints as soon as it is enough; TimeoutError otherwise."""
    async with asyncio.timeout(60):
        while True:
            done = await asyncio.to_thread(ottla, installation, "sends", "list", "-o", "json")
            assert (done.returncode, done.stderr) == (0, "")
            found: list[dict[str, Any]] = json.loads(done.stdout)
            if enough(found):
                return found
            await asyncio.sleep(0.2)


async def accepted(installation: Installation, send: str) -> dict[str, Any]:
    """Return a send as soon as history says that it was accepted; TimeoutError otherwise."""
    async with asyncio.timeout(60):
        while True:
            status, message = await installation.get(f"/v1/messages/{send}")
            if status == 200 and message["status"] == "accepted":
                return dict(message)
            await asyncio.sleep(0.1)


async def test_lost_answers_are_listed_settled_and_sent_again(settings: Settings) -> None:
    """Two cut answers: a late signed status settles one, the other is sent once more on demand; then the list is empty again."""
    async with Installation(settings, environment={"OTTLA_UNKNOWN_WAIT": "1"}) as installation:
        assert await listed(installation, lambda _: True) == []
        installation.platform.faults.turn("status_missing", Fault())
        installation.platform.faults.turn("cut", Fault(count=2))
        for phone in PHONES:
            assert await installation.post(text(phone)) == 200
        await installation.platform.books.wait_for("accepted", 2, timeout_s=60)
        unknown = {each["to"]: each for each in await listed(installation, lambda found: len(found) == 2)}
        assert set(unknown) == set(PHONES)
        for each in unknown.values():
            assert (each["outcome"], each["account"], each["text"], each["settled"]) == ("unknown", ACCOUNT, "echo: question", False)
        settled, parked = (unknown[phone]["id"] for phone in PHONES)

        arrival = next(each for each in installation.platform.books.accepted() if each.to == PHONES[0])
        found = read_callback_data(arrival.callback)
        assert found is not None
        assert found[0] == settled
        assert await installation.post(late_status(arrival.platform_id, PHONES[0], arrival.callback)) == 200
        assert [each["id"] for each in await listed(installation, lambda found: len(found) == 1)] == [parked]
        _, message = await installation.get(f"/v1/messages/{settled}")
        assert (message["status"], message["settled"], message["platform_ids"]) == ("delivered", True, [arrival.platform_id])

        refused = await asyncio.to_thread(ottla, installation, "sends", "resend", parked, settled)
        assert (refused.returncode, refused.stdout, lines(refused.stderr)) == (4, "", 1)
        absent = await asyncio.to_thread(ottla, installation, "sends", "resend", "f" * 32)
        assert (absent.returncode, absent.stdout, lines(absent.stderr)) == (3, "", 1)
        planned = await asyncio.to_thread(ottla, installation, "sends", "resend", "--dry-run", parked)
        again = send_id(conversation=unknown[PHONES[1]]["conversation"], cause=parked, step="resend")
        assert (planned.returncode, planned.stdout) == (0, f"Would send {parked} again as {again}.\n")
        assert len(installation.platform.books.accepted()) == 2

        done = await asyncio.to_thread(ottla, installation, "sends", "resend", parked)
        assert (done.returncode, done.stderr) == (0, "")
        assert again in done.stdout
        assert await listed(installation, lambda _: True) == []
        twice = await asyncio.to_thread(ottla, installation, "sends", "resend", parked)
        assert (twice.returncode, lines(twice.stderr)) == (4, 1)
        await installation.platform.books.wait_for("accepted", 3, timeout_s=60)
        assert installation.platform.books.accepted()[-1].to == PHONES[1]
        message = await accepted(installation, again)
        assert (message["step"], message["cause"], message["text"]) == ("resend", parked, "echo: question")
        assert len(installation.platform.books.accepted()) == 3
