"""streams.rows: what a conversation remembers is enough for eight days, bounded, and the same after any restart."""

import random

import pytest

from schemas.codec import decode, encode
from streams.rows import (
    OPEN_IDS_MAX,
    REMEMBERED_MS,
    TURNS_MAX,
    ConversationRow,
    Turn,
    advance,
    holds,
    id_hash,
    is_known,
    offset_done,
)

KEY = b"wa:1:2"
DAY_MS = 86_400_000


class Memory:
    """Rows as the table keeps them, driven event by event."""

    def __init__(self) -> None:
        self.row = ConversationRow()
        self.rows: dict[bytes, bytes] = {}
        self.bytes_written = 0

    def event(self, offset: int, *item_ids: str, now_ms: int) -> None:
        changes = advance(self.row, KEY, done=offset, item_ids=list(item_ids), turns=[], now_ms=now_ms)
        for key, sealed in changes.seal:
            assert key not in self.rows, "a sealed row is written once"
            self.rows[key] = encode(sealed)
            self.bytes_written += len(self.rows[key])
        for key in changes.drop:
            del self.rows[key]
        written = encode(changes.row)
        self.bytes_written += len(written)
        self.row = decode(written, ConversationRow)

    def knows(self, item_id: str, now_ms: int) -> bool:
        return is_known(self.row, KEY, item_id, now_ms=now_ms, sealed_row=self.rows.get)


def test_ids_are_known_for_eight_days_however_many_came() -> None:
    """Every id of the last eight days is known in a conversation of 10,000 messages, and one that never came is not."""
    memory = Memory()
    for number in range(10_000):
        memory.event(number, f"wamid.{number}", now_ms=number * 60_000)
    now_ms = 10_000 * 60_000
    assert now_ms < REMEMBERED_MS
    chance = random.Random(1)
    assert all(memory.knows(f"wamid.{chance.randrange(10_000)}", now_ms) for _ in range(500))
    assert not any(memory.knows(f"wamid.{number}", now_ms) for number in range(10_000, 10_500))


def test_rows_stay_small() -> None:
    """A busy conversation writes a bounded row with every message: sealed ids are never written again."""
    memory = Memory()
    for number in range(5_000):
        memory.event(number, f"wamid.{number}", now_ms=number)
    assert len(encode(memory.row)) < OPEN_IDS_MAX * 12 + 2_000
    assert memory.bytes_written / 5_000 < OPEN_IDS_MAX * 12


def test_old_ids_are_forgotten() -> None:
    """Ids of more than eight days ago are dropped with their rows, so a conversation does not grow for ever."""
    memory = Memory()
    for number in range(OPEN_IDS_MAX * 5):
        memory.event(number, f"old.{number}", now_ms=0)
    assert len(memory.rows) == 4
    for number in range(OPEN_IDS_MAX * 2):
        memory.event(10_000 + number, f"new.{number}", now_ms=REMEMBERED_MS + DAY_MS)
    assert all(memory.knows(f"new.{number}", REMEMBERED_MS + DAY_MS) for number in range(OPEN_IDS_MAX * 2))
    assert not memory.knows("old.0", REMEMBERED_MS + DAY_MS)
    assert len(memory.rows) <= 2


def test_turns_are_bounded() -> None:
    """The newest turns are kept, each cut to a bounded length."""
    row = ConversationRow()
    for number in range(100):
        row = advance(row, KEY, done=number, item_ids=[], turns=[Turn("user", f"{number} " + "x" * 10_000)], now_ms=0).row
    assert len(row.turns) == TURNS_MAX
    assert row.turns[-1].text.startswith("99 ")
    assert max(len(turn.text) for turn in row.turns) <= 2_000


def test_a_hash_is_found_only_where_one_begins() -> None:
    """Two neighbouring hashes never look like a third one that overlaps them."""
    chance = random.Random(2)
    hashes = [chance.randbytes(8) for _ in range(100)]
    row = b"".join(hashes)
    assert all(holds(row, each) for each in hashes)
    assert not any(holds(row, row[at : at + 8]) for at in range(len(row) - 8) if at % 8)


@pytest.mark.parametrize(("value", "done"), [(encode(ConversationRow(done=7)), 7), (b"{}", -1), (b"nonsense", -1), (b"", -1)])
def test_offset_done_of_any_bytes(value: bytes, done: int) -> None:
    """Recovery reads the offset done of any row, and of what is none it makes the oldest."""
    assert offset_done(value) == done


def test_hashes_do_not_depend_on_the_process() -> None:
    """The hash of an id is the same in every process and version: rows outlive both."""
    assert id_hash("wamid.ABC").hex() == "0e50a887ab6606ae"
