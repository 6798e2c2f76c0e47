"""Webhook bodies for tests: the stored ones, and made ones with what a test is about."""

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings

import infra.simulator
from schemas.channels.base import Item, Part, StatusUpdate
from schemas.channels.whatsapp import WhatsApp
from schemas.codec import decode
from schemas.events.webhook_part import Change, WebhookPart

CHANNEL = WhatsApp()
PAYLOADS = Path(infra.simulator.__file__).parent / "payloads"
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For property tests: how fast an example is says something about the machine only."""
RECEIVED_AT_MS = 1_700_000_000_000
ACCOUNT = "106540352242922"


def stored(name: str) -> bytes:
    """Return a stored body by its name without `.json`."""
    return (PAYLOADS / f"{name}.json").read_bytes()


def value(**members: Any) -> dict[str, Any]:
    """Return a `value` of our account with these members."""
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": ACCOUNT},
        **members,
    }


def body(*values: Any, field: str = "messages") -> bytes:
    """Return a body with one entry and one change for each value."""
    changes = [{"field": field, "value": each} for each in values]
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}).encode()


def message(**members: Any) -> dict[str, Any]:
    """Return a text message in which these members count over the usual ones; None leaves a member out."""
    usual = {"from": "16505550001", "id": "wamid.1", "timestamp": "1699999999", "type": "text", "text": {"body": "hello"}}
    return {name: member for name, member in (usual | members).items() if member is not None}


def split(raw: bytes) -> list[Part]:
    """Return the parts of a body."""
    return CHANNEL.split(raw, received_at_ms=RECEIVED_AT_MS)


def events(raw: bytes) -> list[WebhookPart]:
    """Return the decoded parts of a body."""
    return [decode(part.value, WebhookPart) for part in split(raw)]


def items(raw: bytes) -> list[Item]:
    """Return the items of all parts of a body."""
    return [item for event in events(raw) for item in CHANNEL.parse(event)]


def only_item(raw: bytes) -> Item:
    """Return the one item of a body."""
    (item,) = items(raw)
    return item


def statuses(raw: bytes) -> list[StatusUpdate]:
    """Return the statuses of all parts of a body."""
    return [status for event in events(raw) for status in CHANNEL.parse_statuses(event)]


def part_of(kind: str, *raws: bytes, account: str = ACCOUNT, field: str = "messages") -> WebhookPart:
    """Return a part with one change that holds these items."""
    change = Change(kind=kind, field=field, items=[msgspec.Raw(raw) for raw in raws])
    return WebhookPart(channel="whatsapp", account=account, conversation=f"wa:{account}:1", received_at=RECEIVED_AT_MS, changes=[change])
