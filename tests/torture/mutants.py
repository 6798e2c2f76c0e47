"""Webhook bodies as nobody should send them: the stored ones mutated, and made ones. Body `number` of a seed is always the same bytes.

Half of the mutations are of the tree (the body stays JSON and gets past the decoder), the others of its bytes.
"""

import json
import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import infra.simulator
from schemas.ids import callback_data
from schemas.topics import BODY_BYTES_MAX

PAYLOADS = Path(infra.simulator.__file__).parent / "payloads"
_USUAL_BYTES_MAX = 8_192
_LARGE_EVERY = 2_000
"""One body in so many has thousands of items, megabytes of text or endless nesting."""

_ARRAYS = ("messages", "statuses", "message_echoes", "history", "calls", "user_preferences", "errors", "contacts")
_KNOWN_TYPES = """
text image audio voice video document sticker location contacts interactive button order reaction system unsupported unknown edit revoke
request_welcome media_placeholder something_new
"""
_KNOWN_NAMES = """
object entry changes value field id time metadata phone_number_id contacts messages statuses message_echoes history threads calls errors
user_preferences from from_user_id to to_user_id group_id wa_id user_id recipient_id recipient_user_id recipient_type
recipient_participant_id biz_opaque_callback_data profile name type timestamp text body image caption filename location latitude interactive
button_reply nfm_reply response_json title reaction emoji edit message system error_data details code status direction event category
"""
_TYPES, _NAMES = tuple(_KNOWN_TYPES.split()), tuple(_KNOWN_NAMES.split())
_TEXTS = (
    "",
    " ",
    "-",
    "\u0000",
    "\x1b[2J",
    "\u202egnp.exe",
    "\U0001f642" * 50,
    "\ud800",
    "\udfff\ud800",
    "a\u0300" * 30,
    "../../etc/passwd",
    "wa:1:2",
    "%00",
    "'; DROP TABLE messages; --",
    "null",
    "NaN",
    "1699999999999999999999",
    "-5",
    "1e9",
    "+16505550001",
    "US.13491208655302741918",
    "group",
    "BUSINESS_INITIATED",
    '{"a":{"a":{"a":1}}}',
    "[" * 2_000,
    "x" * 3_000,
    callback_data(send="0" * 32, conversation="wa:106540352242922:16505550001"),
    "o1." + "0" * 32 + ".ffffffff",
)
_SCALARS = (None, True, False, 0, -1, 1, 1.5, -0.0, 1e300, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 253_402_300_800, 10**17)
_WRITTEN = (
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "NaN",
    "-Infinity",
    "1e400",
    "-0",
    "0.1e-400",
    "01",
    "1.",
    "+1",
    "tru",
    "undefined",
    "'text'",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '"\\x41"',
    '"\t"',
    '{"a":1,"a":2}',
    '{"id":"1","id":"2","type":"text"}',
    "{,}",
    "[1,]",
    "/* no */1",
    "9" * 5_000,
    "0." + "3" * 5_000,
    "[" * 200 + "]" * 200,
    '{"a":' * 150 + "1" + "}" * 150,
    "[" * 1_500 + "]" * 1_500,
    "[" * 3_000,
)
"""JSON, and what only looks like it, that no encoder writes."""
_MARK = "\u241fwritten\u241f"
_BYTES = (
    b"\x00",
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
)
_ID = re.compile(rb"wamid\.")
_MEMBER = re.compile(rb'"[a-z_]{2,20}":')

Chance = random.Random
Slot = tuple[Any, Any]


@cache
def stored() -> tuple[bytes, ...]:
    """Return the kept bodies of usual size, those that are broken already among them."""
    paths = sorted([*PAYLOADS.glob("*.json"), *PAYLOADS.glob("invalid/*.txt")])
    return tuple(body for path in paths if len(body := path.read_bytes()) <= _USUAL_BYTES_MAX)


@cache
def _trees() -> tuple[bytes, ...]:
    return tuple(body for body in stored() if _is_object(body))


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


def body_of(seed: int, number: int) -> bytes:
    """Return a body; some are whole, most are broken in one to four ways, one in 2,000 is very large."""
    chance = Chance(f"{seed}/{number}")
    if number % _LARGE_EVERY == _LARGE_EVERY - 1:
        return LARGE[number // _LARGE_EVERY % len(LARGE)](chance)
    draw = chance.random()
    if draw < 0.02:
        return chance.choice(WHOLE)(chance)
    if draw < 0.07:
        return _dumped(_grown(chance, 5), chance)
    body = _with_own_ids(chance.choice(_trees()), number, chance)
    if draw < 0.10:
        return body
    if draw < 0.62:
        body = _tree_mutated(body, chance)
    if draw > 0.52:
        for _ in range(chance.randint(1, 3)):
            body = chance.choice(BYTE_MUTATIONS)(body, chance)
    return body


def _with_own_ids(body: bytes, number: int, chance: Chance) -> bytes:
    """Let half of the bodies be about messages nobody has seen: the others would all be duplicates."""
    return _ID.sub(b"wamid.%d." % number, body) if chance.random() < 0.5 else body


def _tree_mutated(body: bytes, chance: Chance) -> bytes:
    tree = json.loads(body)
    for _ in range(chance.randint(1, 4)):
        slots = _slots(tree)
        if not slots:
            break
        chance.choice(TREE_MUTATIONS)(*chance.choice(slots), chance)
    return _dumped(tree, chance)


def _slots(tree: Any) -> list[Slot]:
    """Return every place of a tree: its container and its key or position in it."""
    found: list[Slot] = []
    waiting = [tree]
    while waiting:
        inner = waiting.pop()
        for key, value in inner.items() if isinstance(inner, dict) else enumerate(inner):
            found.append((inner, key))
            if isinstance(value, (dict, list)):
                waiting.append(value)
    return found


def _dumped(tree: Any, chance: Chance) -> bytes:
    separators = (",", ":") if chance.random() < 0.8 else chance.choice([(" , ", " :\n"), (",\t", ":\r\n")])
    text = json.dumps(tree, ensure_ascii=chance.random() < 0.7, separators=separators)
    while _quoted_mark(text):
        text = text.replace(_quoted_mark(text), chance.choice(_WRITTEN), 1)
    return text.encode("utf-8", "surrogatepass")


def _quoted_mark(text: str) -> str:
    return next((quoted for quoted in (f'"{_MARK}"', json.dumps(_MARK)) if quoted in text), "")


def _odd(chance: Chance) -> Any:
    draw = chance.random()
    if draw < 0.3:
        return _MARK
    if draw < 0.6:
        return chance.choice(_TEXTS)
    return chance.choice(_SCALARS) if draw < 0.9 else _grown(chance, 3)


def _grown(chance: Chance, depth: int) -> Any:
    """Return JSON of any shape made of the platform's own names."""
    draw = chance.random()
    if not depth or draw < 0.2:
        return chance.choice(_SCALARS) if chance.random() < 0.5 else chance.choice(_TEXTS + _TYPES)
    if draw < 0.5:
        return [_grown(chance, depth - 1) for _ in range(chance.randint(0, 4))]
    return {chance.choice(_NAMES): _grown(chance, depth - 1) for _ in range(chance.randint(0, 6))}


def _replace(inner: Any, key: Any, chance: Chance) -> None:
    inner[key] = _odd(chance)


def _remove(inner: Any, key: Any, _: Chance) -> None:
    del inner[key]


def _rename(inner: Any, key: Any, chance: Chance) -> None:
    if isinstance(inner, dict):
        inner[chance.choice((*_NAMES, *_ARRAYS, "", "x" * 500, "\ud800"))] = inner.pop(key)


def _wrap(inner: Any, key: Any, chance: Chance) -> None:
    inner[key] = [inner[key]] if chance.random() < 0.5 else {chance.choice(_NAMES): inner[key]}


def _unwrap(inner: Any, key: Any, _: Chance) -> None:
    value = inner[key]
    if isinstance(value, list) and value:
        inner[key] = value[0]
    elif isinstance(value, dict) and value:
        inner[key] = next(iter(value.values()))


def _restring(inner: Any, key: Any, chance: Chance) -> None:
    """Write a text as a number or a number as text, as platforms do from one version to the next."""
    value = inner[key]
    if isinstance(value, str):
        inner[key] = int(value) if value.isascii() and value.isdigit() else chance.choice([float("inf"), len(value), True])
    else:
        inner[key] = json.dumps(value)


def _repeat(inner: Any, key: Any, chance: Chance) -> None:
    if isinstance(inner, list):
        inner[key:key] = [inner[key]] * chance.choice([1, 1, 2, 30])
    else:
        inner[key] = [inner[key]] * chance.randint(1, 5)


def _graft(inner: Any, key: Any, chance: Chance) -> None:
    """Put a piece of another body here."""
    other, name = chance.choice(_slots(json.loads(chance.choice(_trees()))))
    if isinstance(inner, list):
        inner.insert(key, other[name])
    else:
        inner[key if chance.random() < 0.5 or not isinstance(name, str) else name] = other[name]


def _other_kind(inner: Any, key: Any, chance: Chance) -> None:
    """Give an item another type, or put an array of items under another name."""
    if isinstance(inner, dict):
        if "type" in inner:
            inner["type"] = chance.choice(_TYPES)
        else:
            inner[chance.choice(_ARRAYS)] = inner[key]


def _shuffle(inner: Any, _: Any, chance: Chance) -> None:
    if isinstance(inner, list):
        chance.shuffle(inner)
    else:
        members = list(inner.items())
        chance.shuffle(members)
        inner.clear()
        inner.update(members)


TREE_MUTATIONS: tuple[Callable[[Any, Any, Chance], None], ...] = (
    _replace,
    _replace,
    _replace,
    _remove,
    _remove,
    _rename,
    _wrap,
    _unwrap,
    _restring,
    _repeat,
    _graft,
    _other_kind,
    _shuffle,
)


def _flip(body: bytes, chance: Chance) -> bytes:
    if not body:
        return body
    changed = bytearray(body)
    for _ in range(chance.choice([1, 1, 2, 8])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _truncate(body: bytes, chance: Chance) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _cut_out(body: bytes, chance: Chance) -> bytes:
    start = chance.randrange(len(body) + 1)
    return body[:start] + body[start + chance.choice([1, 2, 10, 100]) :]


def _insert(body: bytes, chance: Chance) -> bytes:
    start = chance.randrange(len(body) + 1)
    return body[:start] + chance.choice(_BYTES) + body[start:]


def _splice(body: bytes, chance: Chance) -> bytes:
    other = chance.choice(stored())
    return body[: chance.randrange(len(body) + 1)] + other[chance.randrange(len(other) + 1) :]


def _double_key(body: bytes, chance: Chance) -> bytes:
    """Write a member twice, with another value the first time."""
    members = list(_MEMBER.finditer(body))
    if not members:
        return body
    member = chance.choice(members)
    return body[: member.start()] + member[0] + chance.choice([b"1,", b'"x",', b"[],", b"{},", b"null,"]) + body[member.start() :]


def _odd_value(body: bytes, chance: Chance) -> bytes:
    """Write something odd before a member's value, or in place of what follows it."""
    members = list(_MEMBER.finditer(body))
    if not members:
        return body
    end = chance.choice(members).end()
    return body[:end] + chance.choice(_WRITTEN).encode() + (body[end:] if chance.random() < 0.3 else b"}" * chance.randint(0, 6))


def _recode(body: bytes, chance: Chance) -> bytes:
    """Write it in an encoding that is not UTF-8, or with a byte-order mark."""
    encoding = chance.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "latin-1", "cp037"])
    return body.decode("utf-8", "replace").encode(encoding, "replace")


def _add_behind(body: bytes, chance: Chance) -> bytes:
    return body + chance.choice([b" ", b"\n\n", b"\x00", b"{}", b"]", b",", body[:50], b" " * 5_000])


BYTE_MUTATIONS: tuple[Callable[[bytes, Chance], bytes], ...] = (
    _flip,
    _truncate,
    _cut_out,
    _insert,
    _splice,
    _double_key,
    _double_key,
    _odd_value,
    _recode,
    _add_behind,
)

_EMPTY = (b"null", b"[]", b"{}", b"0", b'""', b"true", b" ", b"[{}]", b'{"entry":null}', b'{"entry":[]}', b'{"entry":[null]}')
WHOLE: tuple[Callable[[Chance], bytes], ...] = (
    lambda _: b"",
    lambda chance: chance.choice(_EMPTY),
    lambda chance: chance.choice(_WRITTEN).encode(),
    lambda chance: chance.randbytes(chance.randrange(400)),
    lambda chance: chance.choice(_BYTES) * chance.randrange(1, 300),
    lambda chance: b"<xml>" + chance.randbytes(20).hex().encode() + b"</xml>",
)


def _envelope(member: str, items: list[str]) -> bytes:
    value = '{"metadata":{"phone_number_id":"106540352242922"},"' + member + '":[' + ",".join(items) + "]}"
    return ('{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":' + value + "}]}]}").encode()


def _messages(chance: Chance, count: int, people: int) -> list[str]:
    serial = chance.getrandbits(60)
    return [
        f'{{"id":"wamid.{serial}.{number}","from":"1650{number % people:07}","timestamp":"1699999999","type":"text","text":{{"body":"m"}}}}'
        for number in range(count)
    ]


def _one_sender(chance: Chance) -> bytes:
    return _envelope("messages", _messages(chance, chance.randint(1_000, 4_000), 1))


def _many_senders(chance: Chance) -> bytes:
    count = chance.randint(1_000, 4_000)
    return _envelope("messages", _messages(chance, count, count))


def _many_statuses(chance: Chance) -> bytes:
    count = chance.randint(1_000, 4_000)
    words = ("sent", "delivered", "read", "failed", "odd")
    return _envelope(
        "statuses", [f'{{"id":"wamid.{number}","status":"{chance.choice(words)}","recipient_id":"1"}}' for number in range(count)]
    )


def _many_mixed(chance: Chance) -> bytes:
    """Thousands of items, every tenth of which cannot be read."""
    items = _messages(chance, 3_000, 50)
    items[::10] = [chance.choice(['{"a":1,"a":2}', '"\\ud800"', "null", "7", "[]", "{}", "1e999"]) for _ in items[::10]]
    return _envelope("messages", items)


def _many_entries(chance: Chance) -> bytes:
    return b'{"entry":[' + b",".join([b"{}", b"null", b"[1]", b'{"changes":[{}]}'] * chance.randint(500, 5_000)) + b"]}"


def _deep(chance: Chance) -> bytes:
    depth = chance.choice([900, 1_100, 20_000, 500_000])
    opened, closed = chance.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"entry":[', b"]}")])
    whole = opened * depth + b"0" + closed * depth
    return whole if chance.random() < 0.5 else b'{"entry":[{"changes":[{"value":{"messages":[{"id":"a"},' + whole + b',{"id":"b"}]}}]}]}'


def _long_text(chance: Chance) -> bytes:
    text = chance.choice(["a", "\u00e9", "\U0001f642", "\\u0000", "\\ud83d\\ude42"]) * chance.randint(50_000, 200_000)
    return _envelope("messages", [f'{{"id":"{chance.getrandbits(60)}","from":"1650","type":"text","text":{{"body":"{text}"}}}}'])


def _long_number(chance: Chance) -> bytes:
    digits = "9" * chance.randint(10_000, 1_000_000)
    return _envelope("messages", [f'{{"id":{digits},"from":{digits},"timestamp":{digits},"type":"text","text":{{"body":{digits}}}}}'])


def _long_key(chance: Chance) -> bytes:
    name = "k" * chance.randint(10_000, 500_000)
    return _envelope("messages", [f'{{"{name}":1}}', f'{{"from":"{name}","id":"{name}","type":"{name}"}}'])


def _too_large(chance: Chance) -> bytes:
    return b'{"entry":[' + b" " * (BODY_BYTES_MAX + chance.randrange(10)) + b"]}"


LARGE: tuple[Callable[[Chance], bytes], ...] = (
    _one_sender,
    _many_senders,
    _many_statuses,
    _many_mixed,
    _many_entries,
    _deep,
    _long_text,
    _long_number,
    _long_key,
    _too_large,
)
