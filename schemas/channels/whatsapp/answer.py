"""What the platform's answer to a send means.

| answer | outcome |
|---|---|
| 2xx with a message id | ACCEPTED |
| the platform's own error body, whatever the status | its word that it took nothing: by code; of an unknown code by status |
| 2xx without a readable id, 303, 5xx without that body, anything odd | UNKNOWN: it may have been sent |
| 429 | RETRY, throttled: the app pauses unless the code says what else does |
| 401, 403, 407 and 3xx without that body | RETRY, throttled: a proxy or a wrong address took nothing; the messages wait |
| 413, 414, 431 without that body | REJECTED: it will not fit the next time either |
| any other 4xx without that body | RETRY, counted as a try: nothing was taken, and a page that is not the platform's says little |
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.channels.base import Answer, Outcome, Pause
from schemas.channels.whatsapp.errors import PlatformError, known_error
from schemas.channels.whatsapp.reading import objects, read_item, short, sub, text, whole

WAIT_S_MAX = 3_600.0
"""The longest wait that is honoured."""

_ERROR_LENGTH_MAX = 500
_TOO_MANY = 429
_SEE_OTHER = 303
_TOO_LARGE = frozenset({413, 414, 431})
_FOREIGN_WAIT_S = 60.0
_NOT_US = frozenset({401, 403, 407})


def read_answer(status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Return what an HTTP answer means; never raises, whatever the bytes."""
    tree = read_item(msgspec.Raw(body)) or {}
    error = sub(tree, "error")
    if _is_platforms(error):
        return _refused(status, error, headers)
    if 200 <= status < 300:  # noqa: PLR2004  # HTTP's own classes
        return _accepted(tree)
    return _foreign(status, body, headers)


def _accepted(tree: dict[str, Any]) -> Answer:
    messages, contacts = objects(tree, "messages"), objects(tree, "contacts")
    platform_id = next((found for message in messages if (found := text(message, "id"))), "")
    if not platform_id:
        return Answer(outcome=Outcome.UNKNOWN, error="the answer names no message")
    contact = contacts[0] if contacts else {}
    recipient = text(contact, "wa_id") or text(contact, "user_id") or text(contact, "input")
    return Answer(outcome=Outcome.ACCEPTED, platform_id=platform_id, recipient=short(recipient))


def _is_platforms(error: dict[str, Any]) -> bool:
    """Tell whether an `error` object is the platform's own: it has a code, or at least a trace id."""
    return whole(error.get("code")) is not None or bool(text(error, "fbtrace_id"))


def _refused(status: int, error: dict[str, Any], headers: Mapping[str, str]) -> Answer:
    code = whole(error.get("code"))
    known = known_error(code) if code is not None else None
    if known is None:
        known = _unknown_error(status, is_transient=error.get("is_transient") is True)
    elif status == _TOO_MANY and not known.throttled and known.outcome is Outcome.RETRY:
        known = PlatformError(known.meaning, Outcome.RETRY, Pause.APP, throttled=True, wait_s=_FOREIGN_WAIT_S)
    return Answer(
        outcome=known.outcome,
        error_code=code or 0,
        error=_words(error) or known.meaning,
        pause=known.pause,
        throttled=known.throttled,
        retry_after_s=_wait_s(known, headers),
    )


def _unknown_error(status: int, *, is_transient: bool) -> PlatformError:
    if status == _TOO_MANY:
        return PlatformError("too many requests", Outcome.RETRY, Pause.APP, throttled=True, wait_s=_FOREIGN_WAIT_S)
    if is_transient or status >= 500:  # noqa: PLR2004  # HTTP's own classes
        return PlatformError("an error that nobody knows, of the platform", Outcome.RETRY)
    return PlatformError("an error that nobody knows, of the request", Outcome.REJECTED)


def _foreign(status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Return what an answer means that carries no word of the platform: a proxy's page, a cut-off body, an empty one."""
    meaning = _foreign_meaning(status)
    said = " ".join(body[:200].decode("utf-8", "replace").split())
    return Answer(
        outcome=meaning.outcome,
        error=short(f"HTTP {status}, {meaning.meaning}" + (f": {said}" if said else ""), _ERROR_LENGTH_MAX),
        pause=meaning.pause,
        throttled=meaning.throttled,
        retry_after_s=_wait_s(meaning, headers),
    )


def _foreign_meaning(status: int) -> PlatformError:
    if status == _TOO_MANY:
        return PlatformError("too many requests", Outcome.RETRY, Pause.APP, throttled=True, wait_s=_FOREIGN_WAIT_S)
    if status in _NOT_US or (300 <= status < 400 and status != _SEE_OTHER):  # noqa: PLR2004  # HTTP's own classes
        return PlatformError("not the platform's answer", Outcome.RETRY, Pause.APP, throttled=True, wait_s=_FOREIGN_WAIT_S)
    if status in _TOO_LARGE:
        return PlatformError("too large", Outcome.REJECTED)
    if 400 <= status < 500:  # noqa: PLR2004  # HTTP's own classes
        return PlatformError("not the platform's answer", Outcome.RETRY)
    return PlatformError("it may have been sent", Outcome.UNKNOWN)


def _words(error: dict[str, Any]) -> str:
    message = text(error, "message")
    details = text(sub(error, "error_data"), "details") or text(error, "error_data")
    return short(": ".join(word for word in (message, details) if word), _ERROR_LENGTH_MAX)


def _wait_s(known: PlatformError, headers: Mapping[str, str]) -> float:
    """Return how long to wait: what the answer says, at least for as long as we know of ourselves; bounded."""
    if known.outcome is not Outcome.RETRY:
        return 0.0
    lowered = {name.lower(): value for name, value in headers.items()}
    said = max(_retry_after_s(lowered.get("retry-after", "")), _regain_s(lowered.get("x-business-use-case-usage", "")))
    return min(said or known.wait_s, WAIT_S_MAX)


def _retry_after_s(value: str) -> float:
    seconds = whole(value)
    return float(max(0, seconds)) if seconds is not None else 0.0


def _regain_s(value: str) -> float:
    """Return the longest `estimated_time_to_regain_access` of any account in the header; it counts minutes."""
    if not value:
        return 0.0
    tree = read_item(msgspec.Raw(value.encode("utf-8", "replace"))) or {}
    minutes = (whole(usage.get("estimated_time_to_regain_access")) or 0 for account in tree for usage in objects(tree, account))
    return float(max(0, *minutes, 0)) * 60.0
