"""Rows of history: pure functions of records."""

import pytest

from infra.cassandra.rows import PARTITION_KEYS, Row
from infra.kafka.record import Record
from schemas.codec import DecodeError, encode
from schemas.events.canary import CanaryEvent
from schemas.events.inbound import Person
from sinks.history_rows import INDEX_TABLES, WRITTEN_ONCE, history_rows
from tests.history_events import ACCOUNT, NOON_MS, Talk


def rows(record: Record, table: str) -> list[Row]:
    return [row for row in history_rows(record) if row.table == table]


def test_the_same_record_gives_the_same_rows() -> None:
    """Rows depend on nothing but the record, so that a replay writes what was there."""
    talk = Talk()
    for record in (
        talk.inbound("wamid.1", "hello", at_ms=NOON_MS),
        talk.outbound("cause", "hi", at_ms=NOON_MS),
        talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="wamid.2"),
        talk.status("wamid.2", "read", at_ms=NOON_MS, send="0" * 32),
    ):
        assert history_rows(record) == history_rows(record)


FROM_OTHER_RECORDS = {"processing_errors", "processing_errors_by_time", "processing_error_buckets"}


def test_every_row_has_its_whole_partition_key() -> None:
    """A row that lacks a part of its partition key cannot be written."""
    talk = Talk()
    written = [
        *history_rows(talk.inbound("wamid.1", "hello", at_ms=NOON_MS)),
        *history_rows(talk.outbound("cause", "hi", at_ms=NOON_MS)),
        *history_rows(talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="wamid.2")),
        *history_rows(talk.status("wamid.2", "read", at_ms=NOON_MS, send="0" * 32)),
        *history_rows(talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="", outcome="unknown")),
        *history_rows(talk.outbound("cause", "hi", at_ms=NOON_MS, step="resend")),
        *history_rows(talk.linked(Talk(), at_ms=NOON_MS)),
    ]
    assert {row.table for row in written} == set(PARTITION_KEYS) - FROM_OTHER_RECORDS
    assert all(row.partition for row in written)
    assert set(PARTITION_KEYS) > INDEX_TABLES
    assert set(PARTITION_KEYS) > WRITTEN_ONCE


def test_a_message_stands_at_the_time_it_was_received() -> None:
    """The platform's time has one second's resolution and may be days old, so order goes by ours; theirs is kept beside it."""
    (row,) = rows(Talk().inbound("wamid.1", "hello", at_ms=NOON_MS + 123, at=NOON_MS - 5_000), "messages")
    assert (row.columns["time_ms"], row.columns["platform_time_ms"]) == (NOON_MS + 123, NOON_MS - 5_000)
    assert row.columns["bucket"] == NOON_MS // 864_000_000


def test_old_messages_handed_over_in_bulk_stand_at_their_own_time() -> None:
    """A history webhook of months ago must not fill today's page."""
    (row,) = rows(Talk().inbound("wamid.1", "hello", at_ms=NOON_MS, kind="history", at=NOON_MS - 90 * 86_400_000), "messages")
    assert row.columns["time_ms"] == NOON_MS - 90 * 86_400_000


@pytest.mark.parametrize("at", [-5, 10**17, 2**63 - 1])
def test_a_mad_platform_time_becomes_a_date_that_can_be_shown(at: int) -> None:
    """What a platform claims as its time can neither be refused by the database nor break a page."""
    (row,) = rows(Talk().inbound("wamid.1", "hello", at_ms=NOON_MS, at=at, kind="history"), "messages")
    assert 0 <= int(str(row.columns["platform_time_ms"])) <= 253_402_300_799_999
    assert 0 <= int(str(row.columns["time_ms"])) <= NOON_MS


def test_no_column_is_null() -> None:
    """A null would be a tombstone: what is not known is left out or empty."""
    talk = Talk()
    records = [talk.inbound("wamid.1", "", at_ms=NOON_MS, person=Person()), talk.outbound("cause", "hi", at_ms=NOON_MS, raw=None)]
    for record in records:
        assert all(value is not None for row in history_rows(record) for value in row.columns.values())


def test_the_text_that_left_outdoes_the_plan_of_the_same_millisecond() -> None:
    """[sent] has the text that counts, whatever order the two records come in."""
    talk = Talk()
    (plan,) = rows(talk.outbound("cause", "plan", at_ms=NOON_MS), "messages")
    (left,) = rows(talk.sent("cause", "left", created_ms=NOON_MS, platform_id="wamid.2", at=NOON_MS), "messages")
    assert plan.partition == left.partition
    assert left.write_us > plan.write_us


def test_of_a_send_planned_twice_the_first_plan_counts() -> None:
    """A rerun may plan the same id later and with other words: the earlier record wins by its write timestamp."""
    talk = Talk()
    (first,) = rows(talk.outbound("cause", "one", at_ms=NOON_MS), "sends")
    (second,) = rows(talk.outbound("cause", "two", at_ms=NOON_MS + 9_000), "sends")
    assert first.columns["id"] == second.columns["id"]
    assert first.write_us > second.write_us


def test_of_an_item_decided_twice_the_later_decision_counts_as_a_whole() -> None:
    """A rerun's row replaces the first one with all its columns, never some of them."""
    talk = Talk()
    (first,) = rows(talk.inbound("wamid.1", "hello", at_ms=NOON_MS, decision="failed", reason="timeout"), "messages")
    (second,) = rows(talk.inbound("wamid.1", "hello", at_ms=NOON_MS, decided_at=NOON_MS + 99), "messages")
    assert set(first.columns) == set(second.columns)
    assert second.write_us > first.write_us


def test_a_conversation_is_found_by_phone_and_by_user_id() -> None:
    """A conversation keyed by a user id is found by the phone number the platform told, and the other way round."""
    talk = Talk(contact="US.123456")
    found = rows(talk.inbound("wamid.1", "hello", at_ms=NOON_MS, person=Person(phone="16505550001", user_id="US.123456")), "contacts")
    assert [row.columns["contact"] for row in found] == ["16505550001", "US.123456"]
    assert {row.columns["conversation"] for row in found} == {talk.key}


def test_nobody_is_no_contact() -> None:
    """What has no contact is not listed under `-`, where one partition would collect all of it."""
    assert rows(Talk(contact="").inbound("wamid.1", "hello", at_ms=NOON_MS, person=Person()), "contacts") == []


def test_a_status_names_its_send() -> None:
    """A status with our callback data says which platform id the send has, though [sent] may never say so."""
    talk = Talk()
    send = talk.send("cause")
    (named,) = rows(talk.status("wamid.2", "sent", at_ms=NOON_MS, send=send), "platform_ids")
    assert named.columns == {"account": ACCOUNT, "send": send, "platform_id": "wamid.2"}
    assert rows(talk.status("wamid.2", "sent", at_ms=NOON_MS), "platform_ids") == []


def test_an_answer_and_a_status_name_the_platform_id_alike() -> None:
    """What the platform answered and what a status told are one row, so that two ids of one send stand beside each other."""
    talk = Talk()
    send = talk.send("cause")
    (answered,) = rows(talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="wamid.2"), "platform_ids")
    (told,) = rows(talk.status("wamid.2", "sent", at_ms=NOON_MS + 5_000, send=send), "platform_ids")
    assert answered.columns == told.columns == {"account": ACCOUNT, "send": send, "platform_id": "wamid.2"}
    assert rows(talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="", outcome="unknown"), "platform_ids") == []


def test_only_unknown_sends_are_listed_and_under_the_day_of_their_record() -> None:
    """The list of unknown sends is an index by the day on which the outcome was recorded, for the tenant and for the administrator."""
    talk = Talk(tenant="acme")
    record = talk.sent("cause", "hi", created_ms=NOON_MS, at=NOON_MS + 86_400_000, platform_id="", outcome="unknown")
    day = NOON_MS // 86_400_000 + 1
    (listed,) = rows(record, "unknown_sends")
    assert listed.columns == {"tenant": "acme", "day": day, "at_ms": NOON_MS + 86_400_000, "id": talk.send("cause")}
    parts = {str(row.columns["part"]): (row.columns["day"], row.columns["tenant"]) for row in rows(record, "unknown_send_days")}
    assert parts == {"*": (day, "acme"), "acme": (day, "acme")}
    for outcome in ("accepted", "rejected"):
        other = talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="wamid.2", outcome=outcome)
        assert rows(other, "unknown_sends") == rows(other, "unknown_send_days") == []


def test_a_resend_is_noted_under_the_send_it_repeats() -> None:
    """The plan of a send with the step `resend` says of its cause that it was sent again; other plans say nothing of the kind."""
    talk = Talk()
    (noted,) = rows(talk.outbound("old-id", "hi", at_ms=NOON_MS, step="resend"), "resends")
    assert noted.columns == {"send": "old-id", "id": talk.send("old-id")}
    assert rows(talk.outbound("cause", "hi", at_ms=NOON_MS), "resends") == []


def test_an_endless_platform_id_is_cut() -> None:
    """The database takes keys of 64 KiB: a longer id must not make its status undeliverable."""
    (row,) = rows(Talk().status("w" * 70_000, "read", at_ms=NOON_MS), "statuses")
    assert 0 < len(str(row.columns["platform_id"])) <= 1_000


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("inbound", b"{"),
        ("inbound", b"{}"),
        ("outbound-high", b"\xff"),
        ("sent", b'{"v":99}'),
        ("status", b"[]"),
        ("status", b'{"v":1,"channel":"pigeon","account":"1","conversation":"p:1:2","received_at":1,"changes":[]}'),
        ("something-else", b"{}"),
    ],
)
def test_what_is_no_event_is_refused(topic: str, value: bytes) -> None:
    """Bytes that are not the topic's event are a DecodeError, which nobody tries again."""
    with pytest.raises(DecodeError):
        history_rows(Record(topic, 0, 0, b"key", value, [], 0))


@pytest.mark.parametrize("topic", ["outbound-high", "sent"])
def test_canaries_leave_no_trace(topic: str) -> None:
    """Also where history is written again from the log."""
    canary = CanaryEvent(id="1", conversation="canary:-:5", at=NOON_MS)
    assert history_rows(Record(topic, 0, 0, b"canary:-:5", encode(canary), [], 0)) == []
