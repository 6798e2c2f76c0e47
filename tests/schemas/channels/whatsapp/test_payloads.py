"""Every stored body comes through: a table of what each must yield, and the conversations of the tricky ones."""

from collections import Counter

import pytest

from schemas.channels.base import BodyRefusedError
from schemas.codec import DecodeError, decode
from schemas.events.webhook_part import WebhookPart
from tests.schemas.channels.whatsapp.bodies import CHANNEL, PAYLOADS, RECEIVED_AT_MS, events, items, split, statuses, stored

# What a body yields by the first word of its name, unless it is listed by its whole name below.
_USUAL: dict[str, dict[str, int]] = {
    "msg": {"message": 1},
    "status": {"status": 1},
    "odd": {"message": 1},
    "field-account-update": {"change": 1},
    "field-calls": {"call": 1},
    "field-message-template-components-update": {"change": 1},
    "field-message-template-quality-update": {"change": 1},
    "field-message-template-status-update": {"change": 1},
    "field-smb-message-echoes": {"echo": 1},
    "field-template-category-update": {"change": 1},
    "field-user-preferences": {"preference": 1},
}
_OWN: dict[str, dict[str, int]] = {
    "batch-1000-messages__composed__1": {"message": 1000},
    "batch-messages-and-statuses__composed__1": {"message": 1, "status": 1},
    "batch-multi-change-mixed-fields__composed__1": {"message": 1, "status": 1, "preference": 1, "change": 1},
    "batch-multi-change__netflie-whatsapp-cloud-api__1": {"message": 2},
    "batch-multi-entry__composed__1": {"message": 2, "status": 1},
    "batch-multi-message__chatwoot-chatwoot__1": {"message": 2},
    "batch-multi-sender__composed__1": {"message": 5},
    "batch-multi-status-reversed__composed__1": {"status": 3},
    "batch-multi-status__composed__1": {"status": 3},
    "field-calls__david-lev-pywa__3": {"status": 1},
    "field-calls__david-lev-pywa__4": {"call": 1, "error": 1},
    # Has a second array beside `entry`, which nobody knows.
    "field-message-template-components-update__david-lev-pywa__1": {"change": 1, "unknown": 1},
    "msg-interactive-none-bsuid__david-lev-pywa__1": {"message": 1, "error": 1},
    "odd-empty-change__chatwoot-chatwoot__1": {"unknown": 1},
    "odd-entry-is-object__chatwoot-chatwoot__1": {"unknown": 1},
}
_KEYS: dict[str, list[str]] = {
    "batch-1000-messages__composed__1": ["wa:1122334455667:972987654321"],
    "batch-messages-and-statuses__composed__1": ["wa:1122334455667:972987654321"] * 2,
    "batch-multi-change-mixed-fields__composed__1": [
        "wa:1122334455667:972987654321",
        "wa:1122334455667:972987654321",
        "wa:106540352242922:16505551234",
        "wa:-:-",
    ],
    "batch-multi-entry__composed__1": [
        "wa:1122334455667:972987654321",
        "wa:9988776655443:972987654321",
        "wa:1122334455667:972987654321",
    ],
    "batch-multi-message__chatwoot-chatwoot__1": ["wa:123456789:IN.CURRENTBSUID", "wa:123456789:IN.PREVIOUSBSUID"],
    "batch-multi-sender__composed__1": [f"wa:1122334455667:97298765432{digit}" for digit in range(5)],
    "field-account-update__david-lev-pywa__1": ["wa:-:-"],
    "field-calls__david-lev-pywa__1": ["wa:743897493242:16315553601"],
    "field-calls__david-lev-pywa__2": ["wa:743897493242:972987654321"],
    "field-smb-message-echoes__chatwoot-chatwoot__1": ["wa:-:IN.2081978709342942"],
    "field-smb-message-echoes__chatwoot-chatwoot__2": ["wa:-:IN.2081978709342942"],
    "field-smb-message-echoes__david-lev-pywa__3": ["wa:1122334455667:972123456789"],
    "field-user-preferences__david-lev-pywa__1": ["wa:106540352242922:16505551234"],
    "msg-button-bsuid__david-lev-pywa__2": ["wa:1122334455667:US.13491208655302741918"],
    "msg-request-welcome-nocontacts__chatwoot-chatwoot__1": ["wa:123456789:1111981136571"],
    "msg-revoke-bsuid__david-lev-pywa__1": ["wa:%3CBUSINESS_PHONE_NUMBER_ID%3E:%3CWHATSAPP_USER_PHONE_NUMBER%3E"],
    "msg-system-user-changed-user-id__chatwoot-chatwoot__1": ["wa:123456789:IN.PREVIOUSBSUID"],
    "msg-text-bsuid-nocontacts__chatwoot-chatwoot__1": ["wa:123456789:IN.2081978709342942"],
    "msg-text-bsuid-nofrom__netflie-whatsapp-cloud-api__1": ["wa:PHONE_NUMBER_ID:-"],
    "msg-text-reply__chatwoot-chatwoot__1": ["wa:-:16503071063"],
    "odd-empty-change__chatwoot-chatwoot__1": ["wa:-:-"],
    "odd-entry-is-object__chatwoot-chatwoot__1": ["wa:-:-"],
    "status-read-group-bsuid__david-lev-pywa__1": ["wa:%3CBUSINESS_PHONE_NUMBER_ID%3E:fowefinoewcnw"],
}
_SILENCES: dict[str, str] = {
    "batch-multi-change-mixed-fields__composed__1": "",
    "field-account-update__david-lev-pywa__1": "change",
    "field-calls__david-lev-pywa__2": "call",
    "field-smb-message-echoes__chatwoot-chatwoot__1": "no-account",
    "field-smb-message-echoes__david-lev-pywa__1": "echo",
    "field-user-preferences__david-lev-pywa__1": "preference",
    "msg-audio-bsuid__david-lev-pywa__1": "",
    "msg-button-bsuid__david-lev-pywa__2": "",
    "msg-contacts-bsuid__david-lev-pywa__1": "",
    "msg-document__netflie-whatsapp-cloud-api__1": "",
    "msg-edit-bsuid__david-lev-pywa__1": "edit",
    "msg-image-bsuid__david-lev-pywa__1": "",
    "msg-image-errors__chatwoot-chatwoot__1": "no-account",
    "msg-interactive-button-reply-bsuid__david-lev-pywa__1": "",
    "msg-interactive-call-permission-reply-bsuid__david-lev-pywa__1": "no-reply",
    "msg-interactive-list-reply-bsuid__david-lev-pywa__1": "",
    "msg-interactive-nfm-reply-bsuid__david-lev-pywa__1": "",
    "msg-interactive-none-bsuid__david-lev-pywa__1": "no-reply",
    "msg-location-forwarded-bsuid__david-lev-pywa__1": "",
    "msg-order-bsuid__david-lev-pywa__1": "",
    "msg-reaction-bsuid__david-lev-pywa__1": "reaction",
    "msg-reaction-bsuid__david-lev-pywa__3": "reaction",
    "msg-request-welcome-nocontacts__chatwoot-chatwoot__1": "request-welcome",
    "msg-revoke-bsuid__david-lev-pywa__1": "revoke",
    "msg-sticker-bsuid__david-lev-pywa__1": "",
    "msg-system-customer-identity-changed__david-lev-pywa__1": "system",
    "msg-system-user-changed-user-id__chatwoot-chatwoot__1": "system",
    "msg-text-bsuid-nocontacts__chatwoot-chatwoot__1": "",
    "msg-text-bsuid-nofrom__netflie-whatsapp-cloud-api__1": "no-identity",
    "msg-unknown__netflie-whatsapp-cloud-api__1": "unknown",
    "msg-unsupported-bsuid__david-lev-pywa__1": "unsupported",
    "msg-video-forwarded-bsuid__david-lev-pywa__1": "",
    "odd-empty-change__chatwoot-chatwoot__1": "unknown",
}

_NAMES = sorted(path.stem for path in PAYLOADS.glob("*.json"))
_REFUSED = ("made-bom", "made-empty", "made-nan", "made-not-json", "made-truncated")
_KEPT = ("made-array", "made-deep", "made-dup-keys", "made-lone-surrogate", "made-null")


def _expected(name: str) -> dict[str, int]:
    if name in _OWN:
        return _OWN[name]
    kind = name.split("__", maxsplit=1)[0]
    return _USUAL[kind] if kind in _USUAL else _USUAL[kind.split("-", maxsplit=1)[0]]


def test_all_bodies_are_here() -> None:
    """The table below is about all of the stored bodies."""
    assert len(_NAMES) == 137
    assert {path.name.split("__")[0] for path in (PAYLOADS / "invalid").iterdir()} == {*_REFUSED, *_KEPT}
    assert set(_OWN) | set(_KEYS) | set(_SILENCES) <= set(_NAMES)


@pytest.mark.parametrize("name", _NAMES)
def test_body_yields_its_items(name: str) -> None:
    """Each body yields exactly so many items of each kind, in its parts and when they are parsed."""
    raw = stored(name)
    expected = _expected(name)
    counted: Counter[str] = Counter()
    for event in events(raw):
        for change in event.changes:
            counted[change.kind] += len(change.items)
    assert counted == expected
    assert Counter(item.kind for item in items(raw)) + Counter({"status": len(statuses(raw))}) == Counter(expected)


@pytest.mark.parametrize("name", _NAMES)
def test_items_are_verbatim(name: str) -> None:
    """What is stored of each item is a piece of the body, byte for byte; statuses go to [status], everything else to [raw]."""
    raw = stored(name)
    for part in split(raw):
        for change in decode(part.value, WebhookPart).changes:
            assert (change.kind == "status") == (part.topic == "status")
            for item in (*change.items, *change.contacts):
                assert bytes(item) in raw


@pytest.mark.parametrize("name", sorted(_KEYS))
def test_conversations_of_tricky_bodies(name: str) -> None:
    """The keys are those of the people, groups and accounts that the items name."""
    assert [part.key for part in split(stored(name))] == _KEYS[name]


@pytest.mark.parametrize("name", sorted(_SILENCES))
def test_who_is_answered(name: str) -> None:
    """Only what a user wrote, on an account we know, with an address, is answered; everything else says why not."""
    first = items(stored(name))[0]
    assert (first.silence, first.answerable) == (_SILENCES[name], not _SILENCES[name])


@pytest.mark.parametrize("name", _REFUSED)
def test_what_is_not_json_is_refused(name: str) -> None:
    """Empty, truncated, a form, NaN and a byte-order mark are no JSON: the sender hears so in a sentence."""
    raw = (PAYLOADS / "invalid" / f"{name}__composed__1.txt").read_bytes()
    with pytest.raises(BodyRefusedError, match=r"^The body .+\.$"):
        split(raw)


@pytest.mark.parametrize("name", _KEPT)
def test_json_that_cannot_be_decoded_is_kept_whole(name: str) -> None:
    """A bare array or null, doubled keys, lone surrogates and deep nesting are JSON: kept as received, to be dead-lettered."""
    raw = (PAYLOADS / "invalid" / f"{name}__composed__1.txt").read_bytes()
    (part,) = split(raw)
    assert (part.topic, part.key, part.value, part.partition_hash) == ("raw", "wa:-:-", raw, None)
    with pytest.raises(DecodeError):
        decode(part.value, WebhookPart)


def test_splitting_again_gives_the_same() -> None:
    """Parts are a pure function of the body and its time: what the platform sends again has the same keys and values."""
    raw = stored("batch-multi-change-mixed-fields__composed__1")
    assert CHANNEL.split(raw, received_at_ms=RECEIVED_AT_MS) == CHANNEL.split(raw, received_at_ms=RECEIVED_AT_MS)
