"""What the platform refuses: the rules a send must keep, with the error it answers otherwise. Pure functions."""

import re
from collections.abc import Callable

from infra.simulator.graph_errors import GraphError, known_error

_TEXT_LENGTH_MAX = 4096
_CAPTION_LENGTH_MAX = 1024
_CALLBACK_LENGTH_MAX = 512
_ADDRESS = re.compile(r"^\+?[0-9][0-9 ()-]{2,30}$")
_GROUP = re.compile(r"^[A-Za-z0-9_.=@-]{1,256}$")
_USER_ID = re.compile(r"^[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}$")

Json = dict[str, object]


def check_send(message: object) -> GraphError | None:
    """Return why the platform would refuse this body of a POST to /messages; None if it would take it."""
    if not isinstance(message, dict):
        return _invalid("Invalid parameter: the body must be a JSON object.")
    if message.get("messaging_product") != "whatsapp":
        return _invalid("The parameter messaging_product is required.")
    if message.get("status") == "read":
        return None if _text(message, "message_id") else _missing("message_id")
    callback = message.get("biz_opaque_callback_data", "")
    if not isinstance(callback, str) or len(callback) > _CALLBACK_LENGTH_MAX:
        return _invalid(f"Param biz_opaque_callback_data must be at most {_CALLBACK_LENGTH_MAX} characters long.")
    return _check_address(message) or _check_content(message)


def _check_address(message: Json) -> GraphError | None:
    to, recipient = message.get("to"), message.get("recipient")
    if to:  # where both are given, `to` wins
        pattern = _GROUP if message.get("recipient_type") == "group" else _ADDRESS
        return None if isinstance(to, str) and pattern.match(to) else _wrong("to")
    if recipient:
        return None if isinstance(recipient, str) and _USER_ID.match(recipient) else _wrong("recipient")
    return _invalid("The parameter to is required.")


def _check_content(message: Json) -> GraphError | None:
    kind = message.get("type", "text")
    check = _CHECKS.get(kind) if isinstance(kind, str) else None
    if check is None:
        return _invalid(f"Param type must be one of {{{', '.join(_CHECKS).upper()}}} - got {kind!r}.")
    content = message.get(str(kind))
    if not content or not isinstance(content, list if kind == "contacts" else dict):
        return _missing(f"Parameter {kind} is mandatory for type {kind}.")
    return check(content if isinstance(content, dict) else {})


def _check_text(text: Json) -> GraphError | None:
    if not _text(text, "body"):
        return _missing("text.body")
    return _too_long("text['body']", text["body"], _TEXT_LENGTH_MAX)


def _check_media(media: Json) -> GraphError | None:
    if not (_text(media, "id") or _text(media, "link")):
        return _missing("Either id or link must be given.")
    return _too_long("caption", media.get("caption", ""), _CAPTION_LENGTH_MAX)


def _check_reaction(reaction: Json) -> GraphError | None:
    if not _text(reaction, "message_id"):
        return _missing("reaction.message_id")
    return None if isinstance(reaction.get("emoji", ""), str) else _wrong("reaction.emoji")


def _check_location(location: Json) -> GraphError | None:
    numbers = all(isinstance(location.get(name), int | float | str) for name in ("latitude", "longitude"))
    return None if numbers else _missing("location.latitude and location.longitude")


def _check_template(template: Json) -> GraphError | None:
    language = template.get("language")
    if not _text(template, "name"):
        return _missing("template.name")
    return None if isinstance(language, dict) and language.get("code") else _missing("template.language.code")


def _check_interactive(interactive: Json) -> GraphError | None:
    return None if _text(interactive, "type") and isinstance(interactive.get("action"), dict) else _missing("interactive.action")


def _take_any(_: Json) -> GraphError | None:
    return None


_CHECKS: dict[str, Callable[[Json], GraphError | None]] = {
    "text": _check_text,
    **dict.fromkeys(("image", "video", "audio", "document", "sticker"), _check_media),
    "reaction": _check_reaction,
    "location": _check_location,
    "template": _check_template,
    "interactive": _check_interactive,
    "contacts": _take_any,
}


def _text(values: Json, name: str) -> bool:
    value = values.get(name)
    return isinstance(value, str) and bool(value)


def _too_long(name: str, value: object, length_max: int) -> GraphError | None:
    return None if len(str(value)) <= length_max else _invalid(f"Param {name} must be at most {length_max} characters long.")


def _invalid(details: str) -> GraphError:
    return known_error(100, details=details)


def _missing(details: str) -> GraphError:
    return known_error(131008, details=details)


def _wrong(name: str) -> GraphError:
    return known_error(131009, details=f"The value of {name} is not valid.")
