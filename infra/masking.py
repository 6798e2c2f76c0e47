"""Takes secrets and personal data out of log lines: whatever is logged, by us or by a library, passes through here last.

Known secrets are hidden wherever they stand. Of what people are known by only the last characters stay, so that two lines of one person can
be told to be that. What people write has no shape: it is never logged on purpose, so what is hidden here are fields of such names and
quoted values in the text of errors. Numbers that are numbers (offsets, times, counts) stay as they are.
"""

import re
from collections.abc import Iterable, MutableMapping
from typing import Any

_MASK = "***"
_SECRET_LENGTH_MIN = 6
_SECRETS_MAX = 10_000
_DEPTH_MAX = 6
_ID_LENGTH_MIN = 16
_SHOWN_OF_ID = 6

_SECRET_FIELDS = frozenset(
    {
        "access_token",
        "admin_key",
        "ai_key",
        "api_key",
        "app_secret",
        "authorization",
        "cookie",
        "hub_verify_token",
        "password",
        "secret",
        "token",
        "verify_token",
    }
)
_PERSONAL_FIELDS = frozenset(
    {
        "answer",
        "body",
        "caption",
        "contact",
        "contacts",
        "email",
        "first_name",
        "from",
        "last_name",
        "message",
        "payload",
        "person",
        "phone",
        "profile",
        "prompt",
        "recipient",
        "reply",
        "text",
        "to",
        "user",
        "wa_id",
    }
)
_AS_THEY_ARE = frozenset({"exc_info", "level", "stack_info", "timestamp"})
_QUOTING_FIELDS = frozenset({"error", "exception", "reason", "stack", "what"})

_FOUND = re.compile(
    r"(?P<scheme>\b(?i:bearer|basic)\s+)[\w.~+/=-]+"
    r"|(?P<named>\b(?i:access_token|admin_key|api[_-]?key|app_secret|authorization|hub\.verify_token|password|secret|token)[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s\"'&,;}]+"
    r"|(?P<token>\b(?:EAA[A-Za-z0-9]{16,}|sk-[\w-]{16,}|sha256=[0-9a-f]{64})\b)"
    r"|(?P<message>\bwamid\.[\w+/=-]+)"
    r"|(?P<key>\b[a-z]{2,12}:(?:[0-9]+|-):)(?P<contact>[^\s\"',;)\]}]+)"
    r"|(?P<user>\b[A-Z]{2}\.(?:ENT\.)?)[A-Za-z0-9]{8,128}\b"
    r"|(?P<mail>\b[\w.+-]+@[\w-]+\.[\w.-]+)"
    r"|(?P<phone>\+\d[\d ().-]{5,18}\d|(?<![\w.])\d{9,15}(?!\w))"
)
_QUOTED = re.compile(r"(?<!\w)(['\"])((?:(?!\1).)*)\1")
_PLAIN = re.compile(r"[$\w.:/@\[\]<>=+-]*", re.ASCII)

_secrets: dict[str, None] = {}


def hide(secrets: Iterable[str]) -> None:
    """Hide these strings from now on wherever they are logged; the newest ten thousand are known."""
    for secret in secrets:
        if len(secret) >= _SECRET_LENGTH_MIN:
            _secrets.pop(secret, None)
            _secrets[secret] = None
    while len(_secrets) > _SECRETS_MAX:
        del _secrets[next(iter(_secrets))]


def masked(text: str) -> str:
    """Return the text without secrets and without what people are known by."""
    # The longest first: one may begin as another does.
    for secret in sorted([secret for secret in _secrets if secret in text], key=len, reverse=True):
        text = text.replace(secret, _MASK)
    return _FOUND.sub(_masked, text)


def masked_error(text: str) -> str:
    """Return an error's text, also without quoted values that are more than a name or a number: they may be what somebody wrote."""
    return masked("\n".join(line if line.startswith(" ") else _QUOTED.sub(_unquoted, line) for line in text.split("\n")))


def mask_event(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask all that is to be logged: a structlog processor, to stand right before the renderer."""
    is_foreign = event.get("_from_structlog") is False
    for name, value in event.items():
        if name == "event":
            event[name] = masked_error(str(value)) if is_foreign else masked(str(value))
        elif not name.startswith("_") and name not in _AS_THEY_ARE:
            event[name] = _value(name, value, 0)
    return event


def _value(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return _MASK if name in _PERSONAL_FIELDS and not isinstance(value, bool) and value is not None else value
    if (name in _SECRET_FIELDS or name in _PERSONAL_FIELDS) and value not in ("", b"", (), [], {}):
        return _MASK
    if depth >= _DEPTH_MAX:
        return _MASK
    if isinstance(value, dict):
        return {masked(str(key)): _value(str(key), each, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_value(name, each, depth + 1) for each in value]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return masked_error(text) if name in _QUOTING_FIELDS or isinstance(value, BaseException) else masked(text)


def _masked(found: re.Match[str]) -> str:
    kind, text = found.lastgroup, found.group()
    if kind in {"scheme", "named", "user"}:
        return found.group(kind) + _MASK
    if kind == "contact":
        contact = found.group("contact")
        # Without a contact, and a canary's, are nobody's.
        return text if contact == "-" else found.group("key") + _MASK + contact[-2:]
    if kind == "message":
        # The platform writes the phone number into the first part of its message ids.
        return f"wamid.{_MASK}{text[-_SHOWN_OF_ID:]}" if len(text) >= _ID_LENGTH_MIN + _SHOWN_OF_ID else f"wamid.{_MASK}"
    return _MASK + text[-2:] if kind == "phone" else _MASK


def _unquoted(found: re.Match[str]) -> str:
    quote, text = found.groups()
    return found.group() if _PLAIN.fullmatch(text) else f"{quote}{_MASK}{quote}"
