"""What a message object that we send says, as lists and timelines show it."""

from typing import Any

import msgspec


def described(message: msgspec.Raw) -> tuple[str, str]:
    """Return the type and the words of a platform's message object; a name in brackets where it has no words."""
    try:
        decoded = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        decoded = None
    if not isinstance(decoded, dict):
        return "unknown", ""
    kind = decoded.get("type")
    kind = kind if isinstance(kind, str) and kind else "unknown"
    return kind, _storable(_words(kind, decoded.get(kind)))


def _words(kind: str, content: Any) -> str:
    if not isinstance(content, dict):
        return f"[{kind}]"
    body = content.get("body")
    found = body.get("text") if isinstance(body, dict) else body
    found = found or content.get("caption")
    if isinstance(found, str):
        return found
    name = content.get("name")
    return f"[{kind} {name}]" if isinstance(name, str) else f"[{kind}]"


def _storable(text: str) -> str:
    """Return the text as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
