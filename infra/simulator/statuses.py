"""Delivery statuses of a send in the platform's shape of 2026, and when each of them is due."""

import hashlib
import random
import re
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from infra.simulator.faults import Faults
from infra.simulator.graph_errors import webhook_error

Seconds = Annotated[float, Meta(ge=0, le=3600)]
_USER_ID = re.compile(r"^[A-Z]{2}\.")
_FAILED_DEFAULT = 131026

STATUS_FAULTS = frozenset({"status_twice", "status_disorder", "status_late", "status_early", "status_missing", "status_failed"})


class StatusTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long after an accepted send its statuses are due, in seconds, and which share of messages is read."""

    on: bool = True
    sent_s: Seconds = 0.05
    delivered_s: Seconds = 0.2
    read_s: Seconds = 0.6
    read_share: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Recipient(NamedTuple):
    """Who a send went to, by what the send named."""

    address: str
    kind: str  # phone, user or group


class DueStatus(NamedTuple):
    """A status webhook to post in so many seconds; its timestamp is written when it leaves."""

    after_s: float
    name: str
    error_code: int = 0


def user_id_of(phone: str) -> str:
    """Return the business-scoped user id of a phone number: the simulated platform gives each number one."""
    digits = phone.removeprefix("+")
    return f"US.{int.from_bytes(hashlib.sha256(digits.encode()).digest()[:8], 'big'):020d}"


def business_account_id(account: str) -> str:
    """Return the id of the business account that a phone number id belongs to."""
    return f"{int.from_bytes(hashlib.sha256(account.encode()).digest()[:6], 'big'):015d}"


def recipient_of(message: dict[str, object]) -> Recipient:
    """Return who a checked send goes to; where both are given, `to` wins over `recipient`."""
    if message.get("to"):
        group = message.get("recipient_type") == "group"
        return Recipient(str(message["to"]), "group" if group else "phone")
    return Recipient(str(message.get("recipient", "")), "user")


def phone_digits(address: str) -> str:
    """Return the spelling the platform itself uses for a phone number."""
    return re.sub(r"[^0-9]", "", address)


def due_statuses(times: StatusTimes, faults: Faults) -> list[DueStatus]:
    """Return the statuses of one accepted send, with the faults that hit drawn in."""
    if not times.on or faults.draw("status_missing"):
        return []
    failed = faults.draw("status_failed")
    if failed:
        due = [DueStatus(times.delivered_s, "failed", failed.code or _FAILED_DEFAULT)]
    else:
        due = [DueStatus(times.sent_s, "sent"), DueStatus(times.delivered_s, "delivered"), *_read(times, faults.random)]
    if faults.draw("status_disorder"):
        due = [status._replace(after_s=other.after_s) for status, other in zip(due, reversed(due), strict=True)]
    if late := faults.draw("status_late"):
        due = [status._replace(after_s=status.after_s + late.seconds) for status in due]
    if twice := faults.draw("status_twice"):
        due += [status._replace(after_s=status.after_s + twice.seconds) for status in due]
    return due


def _read(times: StatusTimes, chance: random.Random) -> list[DueStatus]:
    read = times.read_share and (times.read_share >= 1 or chance.random() < times.read_share)
    return [DueStatus(times.read_s, "read")] if read else []


def status_item(status: DueStatus, *, platform_id: str, recipient: Recipient, callback: str) -> dict[str, object]:
    """Return the entry of `statuses[]`, still without its timestamp."""
    item: dict[str, object] = {"id": platform_id, "status": status.name}
    if recipient.kind == "user":
        item["recipient_user_id"] = recipient.address
    elif recipient.kind == "group":
        item |= {"recipient_id": recipient.address, "recipient_type": "group"}
    else:
        item["recipient_id"] = phone_digits(recipient.address)
        if status.name != "failed":
            item["recipient_user_id"] = user_id_of(phone_digits(recipient.address))
    if callback:
        item["biz_opaque_callback_data"] = callback
    if status.name in {"sent", "delivered"}:
        item["pricing"] = {"billable": False, "pricing_model": "PMP", "category": "service", "type": "free_customer_service"}
    if status.error_code:
        item["errors"] = [webhook_error(status.error_code)]
    return item


def contact_item(recipient: Recipient, status: str) -> dict[str, object] | None:
    """Return the entry of `contacts[]` that goes with a status; a failed one and a group have none."""
    if status == "failed" or recipient.kind == "group":
        return None
    if _USER_ID.match(recipient.address):
        return {"profile": {"name": "Simulated"}, "user_id": recipient.address}
    digits = phone_digits(recipient.address)
    return {"profile": {"name": "Simulated"}, "wa_id": digits, "user_id": user_id_of(digits)}
