"""What a replay holds while it runs: one SQLite file, so that memory stays bounded whatever the log holds.

The rows of the stage, what was decided and sent then, what is decided now, and the answers another agent gave; these alone outlive a crash,
because they cost money. Everything else is read again.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from infra.errors import RefusedError
from schemas.events.inbound import InboundEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent

Side = Literal[0, 1]
WAS: Side = 0
"""What was decided then, by the log."""
NOW: Side = 1
"""What the replay decides."""

S = TypeVar("S", bound=msgspec.Struct)

_TABLES = """
CREATE TABLE IF NOT EXISTS rows (part INTEGER, key BLOB, value BLOB, PRIMARY KEY (part, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decided (side INTEGER, conversation TEXT, at INTEGER, part INTEGER, off INTEGER, cause TEXT, body BLOB);
CREATE INDEX IF NOT EXISTS decided_where ON decided (part, off, cause, side);
CREATE TABLE IF NOT EXISTS sends (side INTEGER, send TEXT, part INTEGER, off INTEGER, body BLOB, PRIMARY KEY (side, send, part, off));
CREATE TABLE IF NOT EXISTS sent (send TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS routed (id TEXT PRIMARY KEY, made INTEGER DEFAULT 0, found INTEGER DEFAULT 0, part INTEGER, off INTEGER);
CREATE INDEX IF NOT EXISTS routed_where ON routed (part, off);
CREATE TABLE IF NOT EXISTS answers (send TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
"""
_READ_AGAIN = ("rows", "decided", "sends", "sent", "routed")
_CACHE_KIB = 64 << 10
_LOCK_S = 0.5
_REMEMBERED_MAX = 1_000


class Decided(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decision about an item: `partition` and `offset` are where ingress wrote it, `send` is the first send it led to."""

    cause: str
    conversation: str
    tenant: str
    partition: int
    offset: int
    received_at: int
    decided_at: int
    decision: str
    reason: str = ""
    question: str = ""
    kind: str = ""
    send: str = ""
    worked_ms: int = 0


class Send(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A send that a decision led to."""

    id: str
    step: str
    text: str
    agent: str = ""


class Sent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a send, with the text that left."""

    text: str
    outcome: str


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What another agent said, or (`failure`) why it said nothing; `took_ms` is what that took."""

    text: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    took_ms: int = 0
    failure: str = ""


class Unit(msgspec.Struct, frozen=True):
    """What is compared: an item where ingress wrote it."""

    cause: str
    partition: int
    offset: int


class _Content(msgspec.Struct):
    body: str = ""


class _Message(msgspec.Struct):
    text: _Content | None = None


def text_of(message: msgspec.Raw) -> str:
    """Return the words of a platform's text message object; of any other its JSON."""
    try:
        text = msgspec.json.decode(message, type=_Message).text
    except msgspec.DecodeError:
        text = None
    return text.body if text is not None else bytes(message).decode("utf-8", "replace")


def decided_of(event: InboundEvent) -> Decided:
    """Return the decision that a record of [inbound] tells of."""
    return Decided(
        cause=event.id,
        conversation=event.conversation,
        tenant=event.tenant,
        partition=event.raw.partition,
        offset=event.raw.offset,
        received_at=event.received_at,
        decided_at=event.decided_at,
        decision=event.decision,
        reason=event.reason,
        question=event.text,
        kind=event.type,
        send=event.replies[0] if event.replies else "",
        worked_ms=event.worked_ms,
    )


class Store:
    """The file of one replay. It belongs to one event loop; `commit` now and then, `close` at the end.

    RefusedError if another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._was_decided: dict[tuple[int, int], tuple[Decided, ...]] = {}
        self._db = sqlite3.connect(path, isolation_level=None, timeout=_LOCK_S)
        try:
            # What a killed process has written stays; only a machine that loses power would lose it, and then it is read again.
            self._db.executescript(
                f"PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-{_CACHE_KIB};"
                + _TABLES
            )
            for name in _READ_AGAIN:
                self._db.execute(f"DELETE FROM {name}")  # noqa: S608  # names of our own
        except sqlite3.OperationalError:
            self._db.close()
            raise RefusedError("This replay is under way in another process: let that one end, or stop it.") from None
        self._db.execute("BEGIN")

    def commit(self) -> None:
        """Make what was noted outlive the process."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def close(self, *, remove: bool) -> None:
        """Commit and close; the file goes where `remove` says that nobody will need it."""
        self._db.execute("COMMIT")
        self._db.close()
        if remove:
            for name in (self._path, *(self._path.with_name(self._path.name + end) for end in ("-wal", "-shm"))):
                name.unlink(missing_ok=True)

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return a row of the stage's table."""
        found = self._db.execute("SELECT value FROM rows WHERE part = ? AND key = ?", (partition, key)).fetchone()
        return found[0] if found else None

    async def put(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Write a row of the stage's table, or forget it."""
        if value is None:
            self._db.execute("DELETE FROM rows WHERE part = ? AND key = ?", (partition, key))
        else:
            self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (partition, key, value))

    def row_keys(self) -> Iterator[tuple[int, bytes]]:
        """Yield partition and key of every row of the stage's table, in order."""
        yield from self._db.execute("SELECT part, key FROM rows ORDER BY part, key")

    def add_decided(self, side: Side, decided: Decided) -> None:
        """Note a decision."""
        self._was_decided.pop((decided.partition, decided.offset), None)
        where = (decided.conversation, decided.received_at, decided.partition, decided.offset, decided.cause)
        self._db.execute("INSERT INTO decided VALUES (?, ?, ?, ?, ?, ?, ?)", (side, *where, msgspec.json.encode(decided)))

    def add_send(self, side: Side, event: OutboundEvent) -> None:
        """Note a send of a decision; the first record of an id and place counts."""
        if event.raw is None:
            return
        send = Send(id=event.id, step=event.step, text=text_of(event.message), agent=event.agent)
        where = (side, send.id, event.raw.partition, event.raw.offset)
        self._db.execute("INSERT OR IGNORE INTO sends VALUES (?, ?, ?, ?, ?)", (*where, msgspec.json.encode(send)))

    def add_sent(self, event: SentEvent) -> None:
        """Note what became of a send."""
        sent = Sent(text=text_of(event.message), outcome=event.outcome)
        self._db.execute("INSERT OR REPLACE INTO sent VALUES (?, ?)", (event.id, msgspec.json.encode(sent)))

    def note_routed(self, name: str, *, made: bool, partition: int, offset: int) -> None:
        """Note a record that was keyed again: the replay made it, or the log has it; its item stood at `partition` and `offset`."""
        column = "made" if made else "found"
        insert = f"INSERT INTO routed (id, {column}, part, off) VALUES (?, 1, ?, ?) ON CONFLICT (id) DO UPDATE SET {column} = 1"  # noqa: S608
        self._db.execute(insert, (name, partition, offset))

    def note_answer(self, send: str, answered: Answered) -> None:
        """Note what another agent said."""
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (send, msgspec.json.encode(answered)))

    def answered(self, send: str) -> Answered | None:
        """Return what another agent said before."""
        return self._one(Answered, "SELECT body FROM answers WHERE send = ?", send)

    def send(self, side: Side, send: str) -> Send | None:
        """Return the first send of an id."""
        return self._one(Send, "SELECT body FROM sends WHERE side = ? AND send = ? ORDER BY rowid LIMIT 1", side, send)

    def send_at(self, side: Side, send: str, unit: Unit) -> Send | None:
        """Return the send of an id that a unit's decision led to."""
        query = "SELECT body FROM sends WHERE side = ? AND send = ? AND part = ? AND off = ?"
        return self._one(Send, query, side, send, unit.partition, unit.offset)

    def sent(self, send: str) -> Sent | None:
        """Return what became of a send."""
        return self._one(Sent, "SELECT body FROM sent WHERE send = ?", send)

    def was_decided_at(self, partition: int, offset: int) -> Sequence[Decided]:
        """Return what was decided then about the items that ingress wrote there, in the order of the log."""
        known = self._was_decided.get((partition, offset))
        if known is None:
            found = self._db.execute(
                "SELECT body FROM decided WHERE side = ? AND part = ? AND off = ? ORDER BY rowid", (WAS, partition, offset)
            )
            known = tuple(msgspec.json.decode(body, type=Decided) for (body,) in found)
            if len(self._was_decided) >= _REMEMBERED_MAX:
                self._was_decided.clear()
            # A record may hold a thousand items, and each of them asks.
            self._was_decided[partition, offset] = known
        return known

    def units(self) -> Iterator[Unit]:
        """Yield every item that either side decided about, conversation by conversation, each in the order of receipt."""
        query = "SELECT cause, part, off FROM decided GROUP BY cause, part, off ORDER BY min(conversation), min(at), part, off, min(rowid)"
        for cause, partition, offset in self._db.execute(query):
            yield Unit(cause, partition, offset)

    def decided(self, side: Side, unit: Unit) -> list[Decided]:
        """Return the decisions about a unit, in the order of the log."""
        query = "SELECT body FROM decided WHERE side = ? AND part = ? AND off = ? AND cause = ? ORDER BY rowid"
        found = self._db.execute(query, (side, unit.partition, unit.offset, unit.cause))
        return [msgspec.json.decode(body, type=Decided) for (body,) in found]

    def is_on_its_way(self, unit: Unit) -> bool:
        """Tell whether the replay keyed an item of this record again and the log, as far as it was read, does not have that."""
        return self._is_routed(unit, "made = 1 AND found = 0")

    def is_elsewhere(self, unit: Unit) -> bool:
        """Tell whether an item of this record was keyed again then, and not by the replay."""
        return self._is_routed(unit, "made = 0 AND found = 1")

    def _is_routed(self, unit: Unit, how: str) -> bool:
        query = f"SELECT 1 FROM routed WHERE part = ? AND off = ? AND {how} LIMIT 1"  # noqa: S608  # words of our own
        return self._db.execute(query, (unit.partition, unit.offset)).fetchone() is not None

    def _one(self, kind: type[S], query: str, *values: object) -> S | None:
        found = self._db.execute(query, values).fetchone()
        return msgspec.json.decode(found[0], type=kind) if found else None
