"""What history looks like when it is read: the shapes of the HTTP contract, and how a row becomes one of them."""

from collections.abc import Sequence

import msgspec

from infra.cassandra.ladder import highest, rank
from infra.cassandra.session import Row
from infra.clock import iso


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands in the log."""

    topic: str
    partition: int
    offset: int


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One status the platform told; `participant` is who of a group."""

    status: str
    at: str
    participant: str = ""
    error_code: int = 0
    error: str = ""


class Hop(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a message's way: when, in which record, and how long it waited for its turn and was worked on, in milliseconds."""

    name: str
    at: str
    record: Position | None = None
    waited_ms: int | None = None
    worked_ms: int | None = None
    detail: str = ""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform told about who wrote."""

    name: str
    phone: str
    user_id: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message with all its statuses; times are UTC in ISO 8601 with milliseconds.

    `platform_ids` are all that answers and statuses ever named for it: more than one means that it was sent twice. `settled` says that a
    status told what the lost answer of an unknown send did not. `status` is the highest of all; in a group `participants` has that of
    each participant that the platform told one of.
    """

    id: str
    direction: str
    at: str
    type: str
    text: str
    platform_id: str
    status: str
    statuses: list[Status]
    raw: Position | None
    kind: str
    conversation: str
    tenant: str
    platform_at: str | None
    sender: Person | None
    decision: str
    reason: str
    replies: list[str]
    agent: str
    cause: str
    step: str
    priority: str
    attempts: int
    http_status: int
    error_code: int
    error: str
    hops: list[Hop]
    platform_ids: list[str]
    settled: bool
    participants: dict[str, str] = {}


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation of a list, with its newest message."""

    conversation: str
    tenant: str
    at: str
    direction: str
    type: str
    text: str


def message_of(row: Row, statuses: Sequence[Row], platform_ids: Sequence[str]) -> Message:
    """Return the message in a row of `messages` and its rows of `statuses`; `platform_ids` are all that it is known by, the row's first."""
    settled = row["outcome"] == "unknown" and bool(platform_ids)
    told = sorted(statuses, key=lambda each: (each["at_ms"], rank(each["status"]), each["participant"]))
    return Message(
        id=row["id"],
        direction=row["direction"] or "out",
        at=iso(row["time_ms"]),
        type=row["type"] or "",
        text=row["text"] or "",
        platform_id=platform_ids[0] if platform_ids else "",
        status=_status(row, told, taken=bool(platform_ids)),
        statuses=[_told(each) for each in told],
        raw=_position(row, "raw") or _position(row, "log"),
        kind=row["kind"] or "",
        conversation=row["conversation"],
        tenant=row["tenant"],
        platform_at=None if row["platform_time_ms"] is None else iso(row["platform_time_ms"]),
        sender=_sender(row),
        decision=row["decision"] or "",
        reason=row["reason"] or "",
        replies=list(row["replies"] or ()),
        agent=row["agent"] or "",
        cause=row["cause"] or "",
        step=row["step"] or "",
        priority=row["priority"] or "",
        attempts=row["attempts"] or 0,
        http_status=row["http_status"] or 0,
        error_code=row["error_code"] or 0,
        error=row["error"] or "",
        hops=[*_hops(row), *(_arrival(each) for each in told)],
        platform_ids=list(platform_ids),
        settled=settled,
        participants={name: _status(row, each, taken=True) for name, each in _by_participant(told).items()},
    )


def conversation_of(row: Row) -> Conversation:
    """Return the entry of a list for the conversation whose newest row of `messages` this is."""
    return Conversation(
        conversation=row["conversation"],
        tenant=row["tenant"],
        at=iso(row["time_ms"]),
        direction=row["direction"] or "out",
        type=row["type"] or "",
        text=row["text"] or "",
    )


def _status(row: Row, told: Sequence[Row], *, taken: bool) -> str:
    if row["direction"] == "in":
        return "received"
    # Whatever has an id of the platform was taken by it, also where our record of that is late, lost or of another try.
    base = "accepted" if taken or row["kind"] != "send" else row["outcome"] or "queued"
    return highest(base, (each["status"] for each in told))


def _by_participant(told: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the statuses of each participant of a group; none of a message to one person."""
    found: dict[str, list[Row]] = {}
    for each in told:
        if each["participant"]:
            found.setdefault(each["participant"], []).append(each)
    return found


def _told(row: Row) -> Status:
    return Status(
        status=row["status"],
        at=iso(row["at_ms"]),
        participant=row["participant"],
        error_code=row["error_code"] or 0,
        error=row["error"] or "",
    )


def _sender(row: Row) -> Person | None:
    if row["direction"] != "in":
        return None
    return Person(name=row["person_name"] or "", phone=row["person_phone"] or "", user_id=row["person_user_id"] or "")


def _hops(row: Row) -> list[Hop]:
    if row["kind"] == "send":
        return _send_hops(row)
    hops = [Hop(name="received", at=iso(row["received_at_ms"]), record=_position(row, "raw"))]
    if row["decided_at_ms"] is not None:
        hops.append(
            Hop(
                name="decided",
                at=iso(row["decided_at_ms"]),
                record=_position(row, "log"),
                waited_ms=row["waited_ms"],
                worked_ms=row["worked_ms"],
                detail=" ".join(part for part in (row["decision"], row["reason"]) if part),
            )
        )
    return hops


def _send_hops(row: Row) -> list[Hop]:
    hops = [Hop(name="outbound", at=iso(row["time_ms"]), record=_position(row, "log"), detail=row["priority"] or "")]
    if row["sent_at_ms"] is not None:
        hops.append(
            Hop(
                name="sent",
                at=iso(row["sent_at_ms"]),
                record=Position(topic="sent", partition=row["sent_partition"], offset=row["sent_offset"]),
                waited_ms=row["sent_waited_ms"],
                worked_ms=row["sent_worked_ms"],
                detail=" ".join(part for part in (row["outcome"], row["error"]) if part),
            )
        )
    return hops


def _arrival(row: Row) -> Hop:
    # The name of the platform's own `sent` must not be taken for ours.
    name = f"platform {row['status']}" if row["status"] == "sent" else row["status"]
    return Hop(name=name, at=iso(row["at_ms"]), record=_position(row, "raw"), detail=row["participant"])


def _position(row: Row, prefix: str) -> Position | None:
    if row[f"{prefix}_offset"] is None:
        return None
    return Position(topic=row[f"{prefix}_topic"], partition=row[f"{prefix}_partition"], offset=row[f"{prefix}_offset"])
