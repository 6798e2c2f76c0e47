"""infra.kafka.selection: words for a place in the log, and which partitions and records are meant."""

import pytest

from infra.errors import NotFoundError, UsageError
from infra.kafka.record import Record
from infra.kafka.selection import LAST_MAX, Selection, Start, read_start
from schemas.ids import callback_data, key_hash
from schemas.topics import ACCOUNTS, RAW, STATUS, TENANTS

NOON_MS = 1_795_262_400_000  # 2026-11-21 12:00:00 UTC
KEY = "wa:106540352242922:16505550001"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("beginning", Start(kind="beginning")),
        ("earliest", Start(kind="beginning")),
        ("END", Start(kind="end")),
        ("latest", Start(kind="end")),
        ("-10", Start(kind="last", number=10)),
        ("0", Start(kind="offset", number=0)),
        ("1234", Start(kind="offset", number=1234)),
        ("9999999999999999999", Start(kind="offset", number=(1 << 63) - 1)),
        ("15m", Start(kind="time", number=NOON_MS - 900_000)),
        ("-15m", Start(kind="time", number=NOON_MS - 900_000)),
        ("2d", Start(kind="time", number=NOON_MS - 172_800_000)),
        ("999999999d", Start(kind="time", number=0)),
        ("@1795262400000", Start(kind="time", number=NOON_MS)),
        ("2026-11-21", Start(kind="time", number=NOON_MS - 43_200_000)),
        ("2026-11-21T12:00", Start(kind="time", number=NOON_MS)),
        ("2026-11-21 12:00:00.250", Start(kind="time", number=NOON_MS + 250)),
        ("2026-11-21T13:00+01:00", Start(kind="time", number=NOON_MS)),
        ("2026-11-21T12:00Z", Start(kind="time", number=NOON_MS)),
        ("1900-01-01", Start(kind="time", number=0)),
    ],
)
def test_places_as_people_write_them(text: str, start: Start) -> None:
    """The words of kcat and rpk, and times as they stand in logs."""
    assert read_start(text, now_ms=NOON_MS) == start


@pytest.mark.parametrize("text", ["", "yesterday", "-0", f"-{LAST_MAX + 1}", "12x", "@", "2026-13-01", "٣"])
def test_no_place_is_said_to_be_none(text: str) -> None:
    """One sentence tells what can be said instead."""
    with pytest.raises(UsageError, match=r"--from .*\.$"):
        read_start(text, now_ms=NOON_MS)


def record(key: str) -> Record:
    return Record("raw", 0, 0, key.encode(), b"", [], 0)


def test_a_key_is_looked_for_where_kafka_put_it() -> None:
    """One partition is read, not all."""
    selection = Selection(topics=(RAW,), key=KEY)
    assert list(selection.partitions(RAW, 8)) == [key_hash(KEY.encode()) % 8]
    assert selection.wants(record(KEY), RAW)
    assert not selection.wants(record(KEY + "0"), RAW)


def test_canaries_are_not_in_the_way() -> None:
    """There are eight a minute, and nobody looks for them but who says so, or names one."""
    canary = record("canary:-:5")
    assert not Selection(topics=(RAW,)).wants(canary, RAW)
    assert Selection(topics=(RAW,), canaries=True).wants(canary, RAW)
    assert Selection(topics=(RAW,), key="canary:-:5").wants(canary, RAW)


def test_a_status_is_looked_for_everywhere() -> None:
    """It stands in the partition of its send, and its own key may be another: then its callback data tell."""
    selection = Selection(topics=(STATUS,), key=KEY)
    assert list(selection.partitions(STATUS, 8)) == list(range(8))
    for key, is_wanted in ((KEY, True), ("wa:2:16505550001", False)):
        data = callback_data(send="a" * 32, conversation=key).encode()
        status = Record("status", 0, 0, b"wa:106540352242922:US.1", b'{"biz_opaque_callback_data":"%b"}' % data, [], 0)
        assert selection.wants(status, STATUS) == is_wanted


def test_a_phone_number_alone_means_every_conversation_with_it() -> None:
    """People know numbers, not keys; which partition such a conversation is in nobody can tell."""
    selection = Selection(topics=(RAW,), key="16505550001")
    assert list(selection.partitions(RAW, 8)) == list(range(8))
    assert selection.wants(record(KEY), RAW)
    assert selection.wants(record("wa:2:16505550001"), RAW)
    assert not selection.wants(record("wa:16505550001:1"), RAW)


def test_what_is_configured_has_plain_ids() -> None:
    """In the compacted topics a key without a colon is the whole key."""
    selection = Selection(topics=(ACCOUNTS, TENANTS), key="shop")
    assert list(selection.partitions(ACCOUNTS, 1)) == [0]
    assert selection.wants(record("shop"), ACCOUNTS)
    assert not selection.wants(record("x:shop"), ACCOUNTS)


def test_one_partition_is_one_partition() -> None:
    """Also with a key that belongs elsewhere; one that is not there is said not to be."""
    selection = Selection(topics=(RAW,), partition=3, key=KEY)
    assert list(selection.partitions(RAW, 8)) == [3]
    with pytest.raises(NotFoundError, match=r"Topic raw has no partition 3: it has 2, counted from 0\."):
        selection.partitions(RAW, 2)
