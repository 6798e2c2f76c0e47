"""Webhook bodies of every kind, made from the stored real ones: what `ottla trigger`, the demo and tests post. Pure functions."""

import difflib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from infra.simulator.freshen import DISPLAY_NUMBER, Json, Wanted, change_values, fresh_id, freshen
from infra.simulator.signing import SIGNATURE_HEADER, dump, sign
from infra.simulator.statuses import business_account_id, user_id_of

__all__ = ["SIGNATURE_HEADER", "Kind", "UnknownKindError", "Wanted", "build", "dump", "kinds", "sign", "text_body"]

_PAYLOADS = Path(__file__).with_name("payloads")
_DAY_S = 86_400


class UnknownKindError(LookupError):
    """There is no such kind; `near` are the ones that read most like it."""

    def __init__(self, kind: str, near: list[str]) -> None:
        super().__init__(kind)
        self.near = near


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of webhook: one line about it, the stored body it comes from, and what is changed in it."""

    about: str
    payload: str = ""
    edit: Callable[[Json, Wanted], None] | None = None
    age_s: int = 0
    times: int = 1


def build(kind: str, wanted: Wanted) -> list[bytes]:
    """Return the bodies to post for a kind, in order: mostly one, two for `duplicate`. Raises UnknownKindError."""
    if kind.startswith("invalid-") and kind in _invalid():
        return [_invalid()[kind].read_bytes()]
    chosen = _all_kinds().get(kind)
    if chosen is None:
        raise UnknownKindError(kind, difflib.get_close_matches(kind, [*kinds()], n=4, cutoff=0.5))
    if chosen.age_s:
        wanted = msgspec.structs.replace(wanted, age_s=chosen.age_s)
    body = freshen(_payload(chosen.payload), wanted)
    if chosen.edit is not None:
        chosen.edit(body, wanted)
    return [dump(body)] * chosen.times


def kinds() -> Mapping[str, str]:
    """Return every kind with one line about it: first the usual ones, then each stored body under its own name."""
    known = {name: kind.about for name, kind in _all_kinds().items()}
    return known | {name: f"stored body {path.name}, posted as it is" for name, path in _invalid().items()}


def text_body(*, account: str, phone: str, texts: Sequence[tuple[str, str]], at_s: int, name: str = "") -> bytes:
    """Return a body with text messages (id and text each) of one person, as the platform sends it in 2026 for a number it may show."""
    contact = {"profile": {"name": name or phone}, "wa_id": phone, "user_id": user_id_of(phone)}
    messages = [
        {"from": phone, "id": message_id, "timestamp": str(at_s), "text": {"body": text}, "type": "text"} for message_id, text in texts
    ]
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": DISPLAY_NUMBER, "phone_number_id": account},
        "contacts": [contact],
        "messages": messages,
    }
    entry = {"id": business_account_id(account), "changes": [{"value": value, "field": "messages"}]}
    return dump({"object": "whatsapp_business_account", "entry": [entry]})


def _only(body: Json) -> Json:
    return next(change_values(body))


def _without_phone(body: Json, wanted: Wanted) -> None:
    value = _only(body)
    for contact in value["contacts"]:
        del contact["wa_id"]
        contact["profile"]["username"] = "ottla.user"
    for message in value["messages"]:
        del message["from"]
        message["from_user_id"] = user_id_of(wanted.phone)


def _with_both_ids(body: Json, wanted: Wanted) -> None:
    for message in _only(body)["messages"]:
        message["from_user_id"] = user_id_of(wanted.phone)


def _in_group(body: Json, _: Wanted) -> None:
    for message in _only(body)["messages"]:
        message["group_id"] = "Y2FwaV9ncm91cDoxOTUwNTU1MDA3OToxMjAzNjMzOTQzMjAdOTY0MTUZD"


def _never_seen(body: Json, _: Wanted) -> None:
    for message in _only(body)["messages"]:
        message["type"] = "hologram"
        message["hologram"] = message.pop("text")


def _never_seen_field(body: Json, _: Wanted) -> None:
    change = body["entry"][0]["changes"][0]
    change["field"] = "something_new"
    change["value"] = {"messaging_product": "whatsapp", "metadata": change["value"]["metadata"], "news": [{"id": "1"}]}


def _status(name: str) -> Callable[[Json, Wanted], None]:
    def rename(body: Json, _: Wanted) -> None:
        for status in _only(body)["statuses"]:
            status["status"] = name

    return rename


def _as_history(body: Json, wanted: Wanted) -> None:
    change = body["entry"][0]["changes"][0]
    message = change["value"]["messages"][0] | {"id": fresh_id(wanted.token, 1), "history_context": {"status": "READ"}}
    thread = {"id": wanted.phone, "messages": [message]}
    part = {"metadata": {"phase": 0, "chunk_order": 1, "progress": 100}, "threads": [thread]}
    change["field"] = "history"
    change["value"] = {"messaging_product": "whatsapp", "metadata": change["value"]["metadata"], "history": [part]}


def _without_account(body: Json, _: Wanted) -> None:
    del _only(body)["metadata"]


_USUAL = {
    "text": Kind(about="a text message", payload="msg-text-bsuid__david-lev-pywa__1"),
    "image": Kind(about="a photo", payload="msg-image-bsuid__david-lev-pywa__1"),
    "audio": Kind(about="a voice message", payload="msg-audio-bsuid__david-lev-pywa__1"),
    "video": Kind(about="a forwarded video", payload="msg-video-forwarded-bsuid__david-lev-pywa__1"),
    "document": Kind(about="a document", payload="msg-document__chatwoot-chatwoot__1"),
    "sticker": Kind(about="a sticker", payload="msg-sticker-bsuid__david-lev-pywa__1"),
    "location": Kind(about="a place", payload="msg-location-forwarded-bsuid__david-lev-pywa__1"),
    "contacts": Kind(about="contact cards", payload="msg-contacts-bsuid__david-lev-pywa__1"),
    "button": Kind(about="a tapped button of a template", payload="msg-button-bsuid__david-lev-pywa__1"),
    "interactive": Kind(about="a tapped reply button", payload="msg-interactive-button-reply-bsuid__david-lev-pywa__1"),
    "list": Kind(about="a row chosen from a list", payload="msg-interactive-list-reply-bsuid__david-lev-pywa__1"),
    "flow": Kind(about="a filled form (nfm_reply)", payload="msg-interactive-nfm-reply-bsuid__david-lev-pywa__1"),
    "reply": Kind(about="a text that quotes a message (--message)", payload="msg-text-reply-bsuid__david-lev-pywa__1"),
    "forwarded": Kind(about="a forwarded text", payload="msg-text-forwarded-bsuid__david-lev-pywa__1"),
    "referral": Kind(about="a text after a tap on an advertisement", payload="msg-text-referral-bsuid__david-lev-pywa__1"),
    "reaction": Kind(about="an emoji on a message (--message)", payload="msg-reaction-bsuid__david-lev-pywa__1"),
    "order": Kind(about="a cart", payload="msg-order-bsuid__david-lev-pywa__1"),
    "system": Kind(about="the user's number changed", payload="msg-system-user-changed-number__david-lev-pywa__1"),
    "edit": Kind(about="a message was edited (--message)", payload="msg-edit-bsuid__david-lev-pywa__1"),
    "revoke": Kind(about="a message was taken back (--message)", payload="msg-revoke-bsuid__david-lev-pywa__1"),
    "unsupported": Kind(about="what the platform itself cannot carry", payload="msg-unsupported-bsuid__david-lev-pywa__1"),
    "unknown": Kind(about="a message of a type nobody knows yet", payload="msg-text-bsuid__david-lev-pywa__1", edit=_never_seen),
    "new-field": Kind(about="a field nobody knows yet", payload="msg-text-bsuid__david-lev-pywa__1", edit=_never_seen_field),
    "bsuid": Kind(about="a text with phone and user id", payload="msg-text-bsuid__david-lev-pywa__1", edit=_with_both_ids),
    "bsuid-only": Kind(about="a text of a user without a phone number", payload="msg-text-bsuid__david-lev-pywa__1", edit=_without_phone),
    "group": Kind(about="a text in a group", payload="msg-text-bsuid__david-lev-pywa__1", edit=_in_group),
    "no-account": Kind(about="a text without a phone number id", payload="msg-text-bsuid__david-lev-pywa__1", edit=_without_account),
    "late": Kind(about="a text that is six days old", payload="msg-text-bsuid__david-lev-pywa__1", age_s=6 * _DAY_S),
    "duplicate": Kind(about="a text, posted twice", payload="msg-text-bsuid__david-lev-pywa__1", times=2),
    "batch": Kind(about="a message and a status in one body", payload="batch-messages-and-statuses__composed__1"),
    "multi-sender": Kind(about="messages of five people in one body", payload="batch-multi-sender__composed__1"),
    "multi-entry": Kind(about="several accounts in one body", payload="batch-multi-entry__composed__1"),
    "thousand": Kind(about="1,000 messages in one body", payload="batch-1000-messages__composed__1"),
    "big": Kind(about="a text of 64 KiB", payload="odd-text-64k__composed__1"),
    "status": Kind(about="a delivered status (--message)", payload="status-delivered-bsuid__david-lev-pywa__1"),
    "sent": Kind(about="a sent status (--message)", payload="status-sent-bsuid__david-lev-pywa__1"),
    "delivered": Kind(about="a delivered status (--message)", payload="status-delivered-bsuid__david-lev-pywa__1"),
    "read": Kind(about="a read status (--message)", payload="status-read-bsuid__david-lev-pywa__1"),
    "failed": Kind(about="a failed status (--message)", payload="status-failed-bsuid__david-lev-pywa__1"),
    "played": Kind(about="a voice message was played (--message)", payload="status-played-bsuid__david-lev-pywa__1"),
    "deleted": Kind(about="a rare status (--message)", payload="status-read-bsuid__david-lev-pywa__1", edit=_status("deleted")),
    "echo": Kind(about="what the business wrote in its own app", payload="field-smb-message-echoes__david-lev-pywa__1"),
    "history": Kind(about="old messages of a business app", payload="msg-text-bsuid__david-lev-pywa__1", edit=_as_history, age_s=_DAY_S),
    "call": Kind(about="a call of a user", payload="field-calls__david-lev-pywa__2"),
    "preference": Kind(about="marketing messages stopped or resumed", payload="field-user-preferences__david-lev-pywa__1"),
    "account-update": Kind(about="news about the account", payload="field-account-update__david-lev-pywa__3"),
    "template-status": Kind(about="a template was approved or not", payload="field-message-template-status-update__david-lev-pywa__1"),
}


@functools.cache
def _all_kinds() -> dict[str, Kind]:
    stored = sorted(path.stem for path in _PAYLOADS.glob("*.json"))
    return _USUAL | {_short(stem): Kind(about=f"stored body {stem}.json", payload=stem) for stem in stored if _short(stem) not in _USUAL}


def _short(stem: str) -> str:
    """Return `msg-image.netflie-whatsapp-cloud-api.1` for `msg-image__netflie-whatsapp-cloud-api__1`: easy to type and to complete."""
    return stem.replace("__", ".")


@functools.cache
def _invalid() -> dict[str, Path]:
    return {f"invalid-{path.stem.split('__')[0].removeprefix('made-')}": path for path in sorted((_PAYLOADS / "invalid").glob("*"))}


@functools.lru_cache(maxsize=64)
def _payload(stem: str) -> Any:
    return json.loads((_PAYLOADS / f"{stem}.json").read_bytes())
