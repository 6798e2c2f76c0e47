"""How the pages say things: times, durations, names, and text of strangers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from shlex import join
from urllib.parse import quote, unquote

from infra.terminal import harmless

TEXT_LENGTH_MAX = 4_000
"""Characters of a text that a page shows; the rest is in the raw record."""

_NUMBER_LENGTH_MIN = 5
_MINUTE_S, _HOUR_S, _DAY_S, _MONTH_S = 60, 3600, 86_400, 30 * 86_400
_NOW_S = 1.0


def lines_of(text: str, length_max: int = TEXT_LENGTH_MAX) -> list[str]:
    """Return the lines of a stranger's text, with what could hide or reverse words written as its number."""
    cut = text if len(text) <= length_max else f"{text[:length_max]}…"
    return [harmless(line) for line in cut.splitlines()]


def line_of(text: str, length_max: int = 160) -> str:
    """Return the beginning of a stranger's text as one line."""
    line = " ".join(text[: 4 * length_max].split())
    return harmless(line if len(line) <= length_max else f"{line[: length_max - 1]}…")


def contact_of(conversation: str) -> str:
    """Return with whom a conversation is: a phone number with its plus, or the id that the platform gave."""
    contact = unquote(conversation.split(":", 2)[-1])
    return f"+{contact}" if contact.isascii() and contact.isdigit() and len(contact) >= _NUMBER_LENGTH_MIN else harmless(contact)


def path_part(conversation: str) -> str:
    """Return a conversation's key as a part of a path: its own percent signs stay what they are."""
    return quote(conversation, safe=":")


def account_of(conversation: str) -> str:
    """Return the account of a conversation's key, empty if it has none."""
    parts = conversation.split(":", 2)
    return harmless(unquote(parts[1])) if len(parts) > 1 else ""


def moment(at: str | int) -> datetime:
    """Return a time, given in ISO 8601 or as milliseconds since 1970."""
    return datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at / 1000, UTC)


def milliseconds(at: str) -> int:
    """Return a time given in ISO 8601 as milliseconds since 1970."""
    return round(moment(at).timestamp() * 1000)


def exact(at: str | int) -> str:
    """Return a time to the millisecond."""
    time = moment(at)
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d} UTC"


def ago(at: str | int, now_ms: int) -> str:
    """Return how long ago a time was; `pages.js` says it alike as time goes by."""
    seconds = now_ms / 1000 - moment(at).timestamp()
    if seconds < _NOW_S:
        return "now"
    for unit, length, until in (("s", 1, _MINUTE_S), ("min", _MINUTE_S, _HOUR_S), ("h", _HOUR_S, _DAY_S), ("d", _DAY_S, _MONTH_S)):
        if seconds < until:
            return f"{int(seconds // length)} {unit} ago"
    return f"{moment(at):%Y-%m-%d}"


def took(ms: float) -> str:
    """Return a duration, given in milliseconds."""
    if ms < 1000:  # noqa: PLR2004
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), _MINUTE_S)
    if seconds < _HOUR_S:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if seconds < _DAY_S else f"{hours // 24} d {hours % 24} h"


def rate(per_s: float | None) -> str:
    """Return a rate with as many digits as say something; a question mark if it is not known."""
    if per_s is None:
        return "?"
    return f"{per_s:,.0f}" if per_s >= 100 or per_s == 0 else f"{per_s:.1f}" if per_s >= 0.95 else f"{per_s:.2f}"  # noqa: PLR2004


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as `1 conversation` or `1,234 conversations`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def shell(words: Sequence[str]) -> str:
    """Return a command as it is typed, each word quoted where a shell would change it."""
    return join(words)
