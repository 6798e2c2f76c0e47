"""What is done from the pages of a whole installation: redriven, sent again, written down; by forms, as without scripts."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.webhooks import text_body
from schemas.codec import decode
from schemas.events.audit import AuditEvent
from tests.driver import ACCOUNT
from tests.ingress.pages.site import form_token
from tests.installation import Installation
from tests.reading import records
from tests.test_dead_letters import Poison, sent_texts

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

PHONES = ("15550009991", "15550009992")


def body(phone: str, text: str) -> bytes:
    return text_body(account=ACCOUNT, phone=phone, texts=[(f"wamid.{phone}.{text}", text)], at_s=int(time.time()))


@asynccontextmanager
async def logged_in(installation: Installation) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=installation.url, timeout=30) as client:
        key = installation.settings.admin_key.get_secret_value()
        assert (await client.post("/login", data={"key": key})).status_code == 303
        yield client


async def until(client: httpx2.AsyncClient, path: str, is_so: Callable[[str], bool]) -> str:
    """Return a page as soon as it is so; TimeoutError otherwise."""
    async with asyncio.timeout(60):
        while True:
            text = (await client.get(path)).text
            if is_so(text):
                return text
            await asyncio.sleep(0.2)


def forms_of(page: str) -> list[dict[str, list[str]]]:
    """Return the hidden fields of each form of a page."""
    found = []
    for form in re.findall(r"<form.*?</form>", page, re.DOTALL):
        fields: dict[str, list[str]] = {}
        for name, value in re.findall(r'type="(?:hidden|checkbox)" name="([^"]+)" value="([^"]*)"', form):
            fields.setdefault(name, []).append(value)
        found.append(fields)
    return found


async def test_failures_are_redriven_and_unknown_sends_sent_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """First it is shown and nothing is done; then it is done, once, and written down; a tenant finds none of it."""
    async with Installation(settings, environment={"OTTLA_UNKNOWN_WAIT": "0.5"}) as installation, logged_in(installation) as client:
        poison = Poison(installation.model, monkeypatch)
        for phone in PHONES:
            assert await installation.post(body(phone, "poison")) == 200
        page = await until(client, "/dead-letters", lambda text: "2 open" in text)
        assert "Redrive all 2" in page
        poison.cured = True
        group = next(form for form in forms_of(page) if "cause" in form)
        before = len(await records(settings, "raw"))
        planned = (await client.post("/dead-letters/redrive", data=group)).text
        assert "Would redrive 2 events" in planned
        assert f"ottla dead-letters redrive --cause {group['cause'][0]} --stage streams --execute" in planned
        assert len(await records(settings, "raw")) == before
        assert await audited(settings) == []
        doing = next(form for form in forms_of(planned) if "do" in form)
        assert "Redrove 2 events" in (await client.post("/dead-letters/redrive", data=doing)).text
        assert "Redrove 0 events" in (await client.post("/dead-letters/redrive", data=doing)).text
        await installation.platform.books.wait_for("accepted", 4, timeout_s=60)
        assert sent_texts(installation, PHONES[0])[-1] == "echo: poison"
        await until(client, "/dead-letters", lambda text: "2 redriven" in text and "open" not in text.partition("data-list")[2])

        installation.platform.faults.turn("cut", Fault(count=1))
        installation.platform.faults.turn("status_missing", Fault(count=1))
        assert await installation.post(body(PHONES[0], "lost")) == 200
        page = await until(client, "/sends", lambda text: "echo: lost" in text)
        (send,) = next(form for form in forms_of(page) if "id" in form)["id"]
        chosen = {"form_token": form_token(page), "id": send}
        planned = (await client.post("/sends/resend", data=chosen)).text
        assert "It may arrive twice" in planned
        assert f"ottla sends resend {send}" in planned
        assert sent_texts(installation, PHONES[0]).count("echo: lost") == 1
        assert "Queued 1 send again" in (await client.post("/sends/resend", data=chosen | {"do": "yes"})).text
        assert "was sent again already" in (await client.post("/sends/resend", data=chosen | {"do": "yes"})).text
        await installation.platform.books.wait_for("accepted", 6, timeout_s=60)
        assert sent_texts(installation, PHONES[0]).count("echo: lost") == 2

        written = [decode(record.value, AuditEvent) for record in await audited(settings)]
        assert [(event.action, event.actor, event.via) for event in written] == [
            ("redrive", "admin", "pages"),
            ("redrive", "admin", "pages"),
            ("resend", "admin", "pages"),
        ]
        assert written[2].subject == send
        assert len({event.session for event in written}) == 1
        audit = (await client.get("/audit")).text
        assert audit.count("<td>redrive</td>") == 2
        assert f"+{PHONES[1]}" in audit
        for empty in ({"form_token": form_token(page)}, {"form_token": form_token(page), "id": "no-such-id", "do": "yes"}):
            assert (await client.post("/dead-letters/redrive", data=empty)).status_code in (404, 422)


async def audited(settings: Settings) -> list[Any]:
    return await records(settings.model_copy(update={"partitions": 1}), "audit")
