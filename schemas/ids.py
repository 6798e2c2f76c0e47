"""Ids: pure functions of what they name, so that a second run makes the same ones.

The conversation key is the Kafka key byte for byte. A send's id comes from its cause and step. Callback data ties a status webhook
to the partition of its send: it carries the send's id and the hash by which Kafka placed the conversation.
"""

import functools
import hashlib
import re
from urllib.parse import quote

_CONTACT_LENGTH_MAX = 200
_SAFE = re.compile(r"[A-Za-z0-9_.~-]*")
_CALLBACK = re.compile(r"o1\.([0-9a-f]{32})\.([0-9a-f]{8})")


NOBODY = "-"
"""Stands in a conversation's key for an account or a contact that was not named."""


def conversation_key(*, channel: str, account: str, contact: str) -> str:
    """Return `channel:account:contact`, URL-safe; an empty account or contact becomes `-`.

    Very long contacts (nothing real) are replaced by their hash, so that a key stays short.
    """
    return f"{channel}:{_key_part(account)}:{_key_part(contact.removeprefix('+'))}"


def _key_part(text: str) -> str:
    if not text:
        return NOBODY
    # What nearly every id is made of is safe as it is, and known to be at a tenth of what quoting costs.
    part = text if _SAFE.fullmatch(text) else quote(text, safe="", errors="surrogatepass")
    if len(part) <= _CONTACT_LENGTH_MAX:
        return part
    return "sha256-" + hashlib.sha256(part.encode()).hexdigest()


def split_conversation_key(key: str) -> tuple[str, str, str]:
    """Return channel, account and contact as the key spells them; ValueError if it has no three parts."""
    channel, account, contact = key.split(":")
    return channel, account, contact


def account_of_key(key: str) -> str:
    """Return the account as a conversation's key spells it; empty for what is no such key, and where nobody's account is known."""
    try:
        _, account, _ = split_conversation_key(key)
    except ValueError:
        return ""
    return account if account != NOBODY else ""


def event_id(*parts: str) -> str:
    """Return 32 hex digits made from the parts, which are kept apart by a byte that none of them holds."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def send_id(*, conversation: str, cause: str, step: str) -> str:
    """Return the id of the send that `cause` (an event's id) leads to in `step` (such as `reply` or `fallback`)."""
    return event_id("send", conversation, cause, step)


def callback_data(*, send: str, conversation: str) -> str:
    """Return what a send carries to the platform and every status of it brings back."""
    return f"o1.{send}.{_hash_of(conversation):08x}"


@functools.lru_cache(maxsize=10_000)  # of those who talk just now
def _hash_of(conversation: str) -> int:
    return key_hash(conversation.encode())


def read_callback_data(data: str) -> tuple[str, int] | None:
    """Return the send id and the key's hash in callback data; None if it is not ours."""
    match = _CALLBACK.fullmatch(data)
    return (match[1], int(match[2], 16)) if match else None


def key_hash(key: bytes) -> int:
    """Return the positive murmur2 hash of a key; modulo the partition count it is the partition.

    The algorithm is that of Kafka's default partitioner (org.apache.kafka.common.utils.Utils.murmur2).
    """
    length = len(key)
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    value = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for start in range(0, whole, 4):
        chunk = int.from_bytes(key[start : start + 4], "little") * multiplier & mask
        chunk = (chunk ^ chunk >> 24) * multiplier & mask
        value = value * multiplier & mask ^ chunk
    if length > whole:
        value ^= int.from_bytes(key[whole:], "little")
        value = value * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return (value ^ value >> 15) & 0x7FFFFFFF
