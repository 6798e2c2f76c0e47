"""Make a stored webhook body new: fresh ids, times of now, and the numbers that the caller asks for. Pure functions.

The same old number becomes the same new one everywhere in a body, other people get the numbers after it, and timestamps keep their
order, so that a batch keeps its shape. What is not understood stays as it is.
"""

import copy
import hashlib
import secrets
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import msgspec

from infra.simulator.statuses import user_id_of

ACCOUNT_DEFAULT = "106540352242922"
PHONE_DEFAULT = "16505550001"
DISPLAY_NUMBER = "15550783881"
_ITEM_LISTS = ("messages", "statuses", "message_echoes", "calls", "user_preferences")
_MILLISECONDS_FROM = 100_000_000_000  # above this a timestamp is in milliseconds: seconds reach it in the year 5138
_APART_MAX_S = 60
_REFERENCES = (("context", "id"), ("reaction", "message_id"), ("edit", "original_message_id"), ("revoke", "original_message_id"))

Json = dict[str, Any]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a body is to say. Empty text keeps the stored one; `message_id` is what statuses, replies and reactions speak of.

    `token` makes the ids: the same token gives the same ids again.
    """

    account: str = ACCOUNT_DEFAULT
    phone: str = PHONE_DEFAULT
    text: str = ""
    message_id: str = ""
    age_s: int = 0
    now_s: int = msgspec.field(default_factory=lambda: int(time.time()))
    token: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))


def fresh_id(token: str, number: int) -> str:
    """Return a message id in the platform's form, made from a token and a number."""
    return "wamid." + b64encode(hashlib.sha256(f"{token}/{number}".encode()).digest()[:24]).decode()


def freshen(body: Json, wanted: Wanted) -> Json:
    """Return a copy of a webhook body with fresh ids, times and numbers."""
    fresh = copy.deepcopy(body)
    values = list(change_values(fresh))
    maker = _Maker(wanted, newest_s=max((_seconds(item.get("timestamp")) for value in values for item in _items(value)), default=0))
    for value in values:
        maker.refresh_value(value)
    for entry in _dicts(fresh.get("entry")):
        if "time" in entry:
            entry["time"] = wanted.now_s - wanted.age_s
    return fresh


def change_values(body: Json) -> Iterator[Json]:
    """Yield the value of every change that has one."""
    for entry in _dicts(body.get("entry")):
        for change in _dicts(entry.get("changes")):
            if isinstance(change.get("value"), dict):
                yield change["value"]


class _Maker:
    """Gives each old number, account and id its new one, in the order of appearance."""

    def __init__(self, wanted: Wanted, *, newest_s: int) -> None:
        self._wanted = wanted
        self._newest_s = newest_s
        self._people: dict[str, str] = {}
        self._accounts: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._status_ids: dict[str, str] = {}
        self._number = 0

    def refresh_value(self, value: Json) -> None:
        metadata = value.get("metadata")
        if isinstance(metadata, dict):
            metadata["display_phone_number"] = DISPLAY_NUMBER
            metadata["phone_number_id"] = self._account(str(metadata.get("phone_number_id", "")))
        for name in _ITEM_LISTS:
            for item in _dicts(value.get(name)):
                self._refresh_item(name, item)
        for contact in _dicts(value.get("contacts")):
            self._refresh_contact(contact)

    def _refresh_item(self, name: str, item: Json) -> None:
        person = self._refresh_person(name, item)
        for key in ("from_user_id", "to_user_id", "recipient_user_id"):
            if key in item:
                item[key] = user_id_of(person)
        if "id" in item:
            item["id"] = self._status_id(str(item["id"])) if name == "statuses" else self._message_id(str(item["id"]))
        if "timestamp" in item:
            item["timestamp"] = self._time(item["timestamp"])
        for holder, key in _REFERENCES:
            if isinstance(item.get(holder), dict) and key in item[holder]:
                old = str(item[holder][key])
                item[holder][key] = self._wanted.message_id or self._ids.get(old, old)
        if self._wanted.text and name in {"messages", "message_echoes"}:
            set_text(item, self._wanted.text)

    def _refresh_person(self, name: str, item: Json) -> str:
        key = {"statuses": "recipient_id", "message_echoes": "to", "user_preferences": "wa_id"}.get(name, "from")
        if name == "calls" and item.get("direction") == "BUSINESS_INITIATED":
            key = "to"
        if item.get(key) and item.get("recipient_type") != "group":
            item[key] = self._person(str(item[key]))
        system = item.get("system")
        if isinstance(system, dict) and "wa_id" in system:  # the number this person has from now on
            system["wa_id"] = self._person(str(system["wa_id"]))
            for old, new in self._people.items():
                system["body"] = str(system.get("body", "")).replace(old, new)
        return str(item.get(key) or self._wanted.phone)

    def _refresh_contact(self, contact: Json) -> None:
        phone = self._people.get(str(contact.get("wa_id")), self._wanted.phone)
        if "wa_id" in contact:
            contact["wa_id"] = phone
        if "user_id" in contact:
            contact["user_id"] = user_id_of(phone)

    def _person(self, old: str) -> str:
        return self._people.setdefault(old, _after(self._wanted.phone, len(self._people)))

    def _account(self, old: str) -> str:
        return self._accounts.setdefault(old, _after(self._wanted.account, len(self._accounts)))

    def _message_id(self, old: str) -> str:
        self._ids[old] = self._new_id()
        return self._ids[old]

    def _status_id(self, old: str) -> str:
        # Stored batches use one id for a user's message and for the sends that the statuses speak of.
        return self._wanted.message_id or self._status_ids.setdefault(old, self._new_id())

    def _new_id(self) -> str:
        self._number += 1
        return fresh_id(self._wanted.token, self._number)

    def _time(self, stamp: object) -> object:
        seconds = _seconds(stamp)
        if not seconds:
            return stamp
        moved = self._wanted.now_s - self._wanted.age_s - min(self._newest_s - seconds, _APART_MAX_S)
        moved *= 1000 if int(str(stamp)) > _MILLISECONDS_FROM else 1
        return moved if isinstance(stamp, int) else str(moved)


def set_text(item: Json, text: str) -> None:
    """Put the text where this kind of message has words; nothing happens where it has none."""
    content = item.get(str(item.get("type")))
    if not isinstance(content, dict):
        return
    inner = content.get(str(content.get("type")))
    if isinstance(inner, dict) and "title" in inner:
        inner["title"] = text
    for key in ("body", "text", "caption", "emoji"):
        if isinstance(content.get(key), str):
            content[key] = text
            return
    if item["type"] in {"image", "video", "document"}:
        content["caption"] = text


def _after(number: str, steps: int) -> str:
    return str(int(number) + steps) if steps and number.isdigit() else number


def _seconds(stamp: object) -> int:
    text = str(stamp)
    if not text.isdigit():
        return 0
    return int(text) // 1000 if int(text) > _MILLISECONDS_FROM else int(text)


def _items(value: Json) -> Iterator[Json]:
    for name in _ITEM_LISTS:
        yield from _dicts(value.get(name))


def _dicts(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
