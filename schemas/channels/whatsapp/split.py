"""A webhook body into its parts; what cannot be read is kept whole, beside those of its items that can."""

from contextlib import suppress

import msgspec

from schemas.channels.base import BodyRefusedError, Part
from schemas.channels.whatsapp.json_text import UnreadableError, is_readable, plain_tree_of, text_of, tree_of
from schemas.channels.whatsapp.mend import mend
from schemas.channels.whatsapp.parts import PREFIX, OversizeError
from schemas.channels.whatsapp.usual import usual_part
from schemas.channels.whatsapp.walk import walk
from schemas.codec import DecodeError, decode
from schemas.events.routed_part import IN_RAW
from schemas.ids import conversation_key
from schemas.topics import RAW


def split(body: bytes, *, received_at_ms: int) -> list[Part]:
    """Return the parts of a body, at least one; BodyRefusedError if it is not JSON, or is what [raw] takes for an event of ours.

    A body of which our decoder refuses something is kept whole beside those of its items that can be read.
    """
    text = text_of(body)
    try:
        usual = usual_part(plain_tree_of(body), body, received_at_ms=received_at_ms)
        if usual is not None:
            return [usual]
        tree = tree_of(text)
        if isinstance(tree, dict):
            usual = usual_part(tree, body, received_at_ms=received_at_ms)
            return [usual] if usual is not None else walk(tree, msgspec.Raw(body)).close(received_at_ms=received_at_ms)
    except OversizeError:
        pass
    except (UnreadableError, msgspec.DecodeError, RecursionError):
        return [*_readable_parts(text, received_at_ms), _kept(body)]
    return [_kept(body)]


def _kept(body: bytes) -> Part:
    """Return the body as it is, for whoever reads the topic to dead-letter: it must be no event that can be decoded."""
    with suppress(DecodeError):
        decode(body, IN_RAW)
        raise BodyRefusedError("the body is an event of this log, not a webhook")
    return Part(topic=RAW.name, key=conversation_key(channel=PREFIX, account="", contact=""), value=body)


def _readable_parts(text: str, received_at_ms: int) -> list[Part]:
    mended = mend(text)
    if not is_readable(mended):
        return []
    tree = tree_of(mended)
    if not isinstance(tree, dict):
        return []
    try:
        return walk(tree, msgspec.Raw(mended.encode()), is_mended=True).close(received_at_ms=received_at_ms)
    except (OversizeError, msgspec.DecodeError, RecursionError):
        return []
