"""What our decoder refuses although it is JSON: kept whole, beside those of its items that can be read; and bodies made to hurt."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.channels.base import BodyRefusedError, Part
from schemas.channels.whatsapp.json_text import is_json
from schemas.codec import DecodeError, decode
from schemas.events.webhook_part import WebhookPart
from schemas.topics import BODY_BYTES_MAX, RAW
from tests.schemas.channels.whatsapp.bodies import ACCOUNT, CHANNEL, RECEIVED_AT_MS, UNHURRIED, body, message, split, value

_GOOD = json.dumps(message()).encode()
_DEEP = b"[" * 100_000 + b"]" * 100_000
_BAD = {
    "lone surrogate": b'{"from":"2","text":{"body":"\\ud800"}}',
    "surrogates the wrong way round": b'{"from":"2","text":{"body":"\\udc00\\ud800"}}',
    "doubled key": b'{"from":"2","from":"3"}',
    "doubled key far inside": b'{"from":"2","a":[{"b":{"c":1,"c":2}}]}',
    "doubled key, escaped": b'{"from":"2","fr\\u006fm":"3"}',
    "deep": b'{"from":"2","a":' + _DEEP + b"}",
}


def _around(items: bytes, *, metadata: bytes = b'{"phone_number_id":"1"}', contacts: bytes = b"[]") -> bytes:
    return b'{"entry":[{"changes":[{"value":{"metadata":%b,"contacts":%b,"messages":[%b]},"field":"messages"}]}]}' % (
        metadata,
        contacts,
        items,
    )


def _is_kept_whole(part: Part, raw: bytes) -> bool:
    return (part.topic, part.key, part.value, part.partition_hash) == ("raw", "wa:-:-", raw, None)


@pytest.mark.parametrize("name", sorted(_BAD))
def test_one_bad_item_does_not_hold_up_its_siblings(name: str) -> None:
    """The items before and behind go on, in order; the body is kept whole for the dead letters."""
    raw = _around(b",".join([_GOOD, _BAD[name], _GOOD]))
    good, whole = split(raw)
    (change,) = decode(good.value, WebhookPart).changes
    assert (good.key, [bytes(item) for item in change.items]) == ("wa:1:16505550001", [_GOOD, _GOOD])
    assert _is_kept_whole(whole, raw)


@pytest.mark.parametrize("name", sorted(_BAD))
def test_bad_item_alone_is_kept_whole(name: str) -> None:
    """With nothing else in it, a body of which the decoder refuses something is one part: itself."""
    (whole,) = split(_around(_BAD[name]))
    assert _is_kept_whole(whole, _around(_BAD[name]))
    with pytest.raises(DecodeError):
        decode(whole.value, WebhookPart)


def test_bad_contact_costs_the_name_only() -> None:
    """A broken name, which people make themselves, does not keep their message from being read."""
    raw = _around(_GOOD, contacts=b'[{"wa_id":"16505550001","profile":{"name":"\\ud83d"}},{"wa_id":"2"}]')
    good, whole = split(raw)
    (change,) = decode(good.value, WebhookPart).changes
    assert ([bytes(item) for item in change.items], [bytes(contact) for contact in change.contacts]) == ([_GOOD], [b'{"wa_id":"2"}'])
    assert _is_kept_whole(whole, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"entry":[],"entry":[%b]}',
        b'{"entry":[{"changes":[],"changes":[%b]}]}',
        b'{"entry":[{"changes":[{"value":{"messages":[%b],"messages":[]}}]}]}',
        b'{"entry":[{"changes":[{"value":{"metadata":{"phone_number_id":"1","phone_number_id":"2"}}}],"x":"%b\\ud800"}]}',
        b'{"\\ud800":1,"entry":[%b]}',
    ],
)
def test_doubled_key_of_the_envelope_decides_nothing(raw: bytes) -> None:
    """Where nobody can say which of two arrays counts, neither is read: the body is kept whole."""
    raw = raw.replace(b"%b", b"1")
    (whole,) = split(raw)
    assert _is_kept_whole(whole, raw)


def test_bad_change_does_not_hold_up_the_next_one() -> None:
    """What is wrong with one change leaves the other ones alone."""
    bad = b'{"value":{"messages":[1]},"value":{},"field":"messages"}'
    good = b'{"value":{"messages":[%b]},"field":"messages"}' % _GOOD
    parts = split(b'{"entry":[{"changes":[%b,%b]}]}' % (bad, good))
    assert [part.key for part in parts] == ["wa:-:16505550001", "wa:-:-"]


def test_huge_numbers_are_only_numbers() -> None:
    """A number that no machine holds stays in its item, whose message is understood all the same."""
    raw = _around(
        b'{"from":"2","id":"wamid.1","type":"text","text":{"body":"hi"},"x":%b,"y":1e999,"timestamp":%b}' % (b"9" * 5_000, b"9" * 30)
    )
    (part,) = split(raw)
    (item,) = CHANNEL.parse(decode(part.value, WebhookPart))
    assert (part.key, item.text, item.answerable) == ("wa:1:2", "hi", True)


@pytest.mark.parametrize(
    "raw", [b"[]", b"5", b"null", b'"x"', b"true", b"1e999", b"9" * 5_000, _DEEP, b'[{"a":1,"a":2}]', b'"\\ud800"', b"[1] "]
)
def test_json_that_is_no_object_is_kept(raw: bytes) -> None:
    """An array, a number, a string, null: JSON, so kept."""
    (whole,) = split(raw)
    assert _is_kept_whole(whole, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"entry":[',
        b"{} {}",
        b"{'a':1}",
        b'{"a":1,}',
        b"[1,]",
        b"[01]",
        b"[1.]",
        b"[+1]",
        b"[-]",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b'["\n"]',
        b'["\\x"]',
        b'["\\u12"]',
        b"[tRue]",
        b"\x00",
        b"{}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        "{}".encode("utf-16"),
        b"entry=1&object=2",
        b'{"a":1,"a":2',
        b'[{"a":1,"a":2},',
        b'{"x":{"a":1,"a":2},"y":NaN}',
        b'{"a":1,"a":NaN}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 99_999,
        b"[" * 100_000 + b"}" * 100_000,
        b"[" * 2_000 + b"1,," + b"]" * 2_000,
    ],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    """Broken text is refused in a sentence, however deep it nests before it breaks and whatever it has twice."""
    with pytest.raises(BodyRefusedError, match=r"^The body .+\.$"):
        split(raw)


_PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        '"a"',
        '"b":',
        "1",
        "-0",
        "01",
        "1.5e3",
        "1.",
        "true",
        "nul",
        "null",
        " ",
        "\n",
        "\\",
        '\\"',
        "\\u00",
        "\\ud800",
        "é",
        "\x00",
        # What the check itself puts in the place of other things.
        ";",
        "#",
        "$",
        "(",
        "k",
        "x",
    ]
)


@UNHURRIED
@given(
    st.lists(_PIECES, max_size=12).map("".join)
    | st.recursive(
        st.none() | st.floats(allow_nan=False) | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ).map(json.dumps)
)
def test_check_without_recursion_agrees_with_a_parser(text: str) -> None:
    """The check that tells deep JSON from broken text says of everything else what Python's own decoder says."""
    try:
        json.loads(text, parse_constant=lambda _: 1 / 0)
        expected = True
    except (ValueError, ZeroDivisionError):
        expected = False
    assert is_json(text) is expected


@pytest.mark.parametrize("broken", [b"1;2", b"#", b"$", b"(]", b'{"a"k1}', b"[(1]", b"x"])
def test_a_key_twice_and_broken_behind_it_is_refused(broken: bytes) -> None:
    """The decoder stops at the key: that the rest is no JSON is found all the same, and nothing is made of it."""
    with pytest.raises(BodyRefusedError, match="not JSON"):
        CHANNEL.split(b'{"entry":[{"changes":[{"a":1,"a":2},' + broken + b"]}]}", received_at_ms=RECEIVED_AT_MS)


def _filled(before: bytes, unit: bytes, after: bytes) -> bytes:
    return before + b",".join([unit] * ((BODY_BYTES_MAX - len(before) - len(after)) // (len(unit) + 1))) + after


_VALUE = b'{"entry":[{"changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"1"},'
_HOSTILE = {
    "empty messages": _filled(_VALUE + b'"messages":[', b"{}", b"]}}]}]}"),
    "empty statuses": _filled(_VALUE + b'"statuses":[', b"{}", b"]}}]}]}"),
    "alternating kinds": _filled(_VALUE + b'"messages":[', b"{},1", b"]}}]}]}"),
    "empty entries": _filled(b'{"entry":[', b"{}", b"]}"),
    "empty changes": _filled(b'{"entry":[{"changes":[', b"{}", b"]}]}"),
    "empty values": _filled(b'{"entry":[{"changes":[', b'{"value":{}}', b"]}]}"),
    "one entry each": _filled(b'{"entry":[', b'{"changes":[{"value":{"messages":[{}]}}]}', b"]}"),
    "many people": _VALUE + b'"messages":[' + b",".join(b'{"from":"%d"}' % index for index in range(230_000)) + b"]}}]}]}",
    "one contact for many": _VALUE
    + b'"contacts":[{"wa_id":"5","x":"%b"}],"messages":[' % (b"x" * 1_000_000)
    + b",".join(b'{"from_user_id":"%d","from":"5"}' % index for index in range(60_000))
    + b"]}}]}]}",
    "one large contact for some": _VALUE
    + b'"contacts":[{"wa_id":"5","x":"%b"}],"messages":[' % (b"x" * 4_000_000)
    + b",".join(b'{"from_user_id":"%d","from":"5"}' % index for index in range(20))
    + b"]}}]}]}",
    "large metadata": b'{"entry":[{"changes":[{"value":{"metadata":{"x":"%b"},"messages":[' % (b"x" * 2_000_000)
    + b",".join(b'{"from":"%d"}' % index for index in range(100_000))
    + b"]}}]}]}",
    "deep": b"[" * (BODY_BYTES_MAX // 2) + b"]" * (BODY_BYTES_MAX // 2),
    "deep objects": b'{"a":' * (BODY_BYTES_MAX // 7) + b"1" + b"}" * (BODY_BYTES_MAX // 7),
    "surrogates": _filled(b"[", b'"\\ud800"', b"]"),
    "surrogates as messages": _filled(_VALUE + b'"messages":[', b'"\\ud800"', b"]}}]}]}"),
    "doubled keys": _filled(_VALUE + b'"messages":[', b'{"a":1,"a":1}', b"]}}]}]}"),
    "digits": b"1" * BODY_BYTES_MAX,
    "digits as a number": _VALUE + b'"messages":[{"from":' + b"1" * (BODY_BYTES_MAX - 200) + b"}]}}]}]}",
    "one text": _VALUE + b'"messages":[{"from":"1","type":"text","text":{"body":"' + b"\\u0000" * 690_000 + b'"}}]}}]}]}',
}


@pytest.mark.parametrize("name", sorted(_HOSTILE))
def test_four_megabytes_of_anything_are_split_or_kept(name: str) -> None:
    """However a body is made, each of its parts fits into a record, and together they repeat little more than they hold."""
    raw = _HOSTILE[name]
    assert len(raw) <= BODY_BYTES_MAX
    parts = split(raw)
    assert max(len(part.value) for part in parts) < RAW.record_bytes_max - 100_000
    assert sum(len(part.value) for part in parts) < 6 * BODY_BYTES_MAX


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * BODY_BYTES_MAX,
        b" " * BODY_BYTES_MAX,
        b'"' * BODY_BYTES_MAX,
        b"[" * 2_000 + b'"\\' * 2_000_000,
        b"[" * 2_000 + b"1." * 2_000_000,
    ],
)
def test_four_megabytes_of_broken_text_are_refused(raw: bytes) -> None:
    """Broken text is refused however long it is."""
    with pytest.raises(BodyRefusedError):
        split(raw)


def test_many_real_messages_are_split() -> None:
    """4 MiB of ordinary messages of different people are split into as many parts: the bound is for bodies made to hurt."""
    text = {"body": "hello " * 20}
    messages = [message(id=f"wamid.{index}", text=text, **{"from": str(index)}) for index in range(17_000)]
    raw = body(value(messages=messages))
    assert 3_800_000 < len(raw) <= BODY_BYTES_MAX
    assert [part.key for part in split(raw)] == [f"wa:{ACCOUNT}:{index}" for index in range(17_000)]
