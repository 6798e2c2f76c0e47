"""streams.filled_table: rows that the stage would have written, in a changelog that had none."""

import itertools
import time
from collections.abc import Iterator

import msgspec
import pytest

from infra.errors import RefusedError
from infra.kafka.admin import create_topics
from infra.settings import Settings
from schemas.codec import encode
from schemas.ids import key_hash
from streams.app import create_app
from streams.filled_table import busy_rows, conversation_row, count, fill, id_of, key_of
from streams.rows import REMEMBERED_MS, ConversationRow, IdsRow, is_known
from streams.table_restoring import Restorer

NOW_MS = 1_800_000_000_000


def words() -> Iterator[str]:
    return itertools.cycle(["hello", "hi"])


def test_a_row_knows_its_ids_and_its_last_turns() -> None:
    """It is what the stage would have after so many messages: all ids, the last 20 turns."""
    row = conversation_row(7, 12, words(), now_ms=NOW_MS)
    assert all(is_known(row, key_of(7), id_of(7, message), now_ms=NOW_MS, sealed_row=lambda _: None) for message in range(12))
    assert not is_known(row, key_of(7), id_of(7, 12), now_ms=NOW_MS, sealed_row=lambda _: None)
    assert [turn.role for turn in row.turns] == ["user", "assistant"] * 10


def test_of_a_busy_conversation_every_id_of_eight_days_is_known() -> None:
    """None has been forgotten yet, and the first ones are about to be."""
    rows = dict(busy_rows(1, 1_000, words(), now_ms=NOW_MS))
    own = rows[key_of(1)]
    assert isinstance(own, ConversationRow)
    assert len(rows) == 1 + len(own.sealed) == 4
    assert all(isinstance(row, IdsRow) for key, row in rows.items() if key != key_of(1))
    assert NOW_MS - REMEMBERED_MS < own.sealed[0].newest_ms < NOW_MS - REMEMBERED_MS // 2

    def stored(key: bytes) -> bytes:
        return encode(rows[key])

    assert all(is_known(own, key_of(1), id_of(1, message), now_ms=NOW_MS, sealed_row=stored) for message in range(1_000))


def test_what_is_counted_are_the_bytes_of_the_rows() -> None:
    """Of ids, 8 bytes in Base64 and the time of the newest; the busy conversation's rows stand apart."""
    filled = count(conversations=5, ids=10, busy_ids=600)
    assert (filled.records, filled.conversations, filled.ids, filled.sealed_ids) == (8, 5, 50, 512)
    field = len('"ids":"",') + len('"ids_newest_ms":1800000000000,')
    assert filled.id_bytes == 5 * (field + 108)  # 80 bytes are 108 characters
    assert filled.sealed_bytes > filled.sealed_ids * 8 * 4 // 3
    assert filled.busy_row_bytes > 88 * 8 * 4 // 3  # those that are not sealed yet
    assert filled.busy_look_up_s > 0


@pytest.mark.servers
async def test_a_worker_restores_what_was_filled(settings: Settings) -> None:
    """Each row is in its conversation's partition, sealed ones too; a second time is refused; what is told of it adds up."""
    await create_topics(settings)
    filled = await fill(settings, conversations=50, ids=10, busy_ids=600)
    table = create_app(settings).tables["conversations"]
    await Restorer(settings, table).restore(range(settings.partitions))
    found: dict[bytes, bytes] = {}
    for number in range(settings.partitions):
        rows = {key: value for key, value in table.data._db_for_partition(number).items() if key.startswith(b"wa:")}
        assert all(key_hash(key.partition(b"\x00")[0]) % settings.partitions == number for key in rows)
        found |= rows
    assert len(found) == filled.records == 50 + 1 + 2
    assert (filled.conversations, filled.ids, filled.sealed_ids) == (50, 500, 512)
    sizes = {key: len(key) + len(value) for key, value in found.items()}
    assert filled.busy_row_bytes == sizes[key_of(50)]
    assert filled.sealed_bytes == sum(size for key, size in sizes.items() if b"\x00" in key)
    assert filled.row_bytes == sum(sizes.values()) - filled.sealed_bytes - filled.busy_row_bytes
    assert filled.busy_look_up_s > 0
    assert 0 < filled.id_bytes + filled.turn_bytes < filled.row_bytes
    own = msgspec.json.decode(found[key_of(50)], type=ConversationRow)
    now_ms = int(time.time() * 1000)
    assert all(is_known(own, key_of(50), id_of(50, message), now_ms=now_ms, sealed_row=found.get) for message in range(600))
    with pytest.raises(RefusedError, match="not empty"):
        await fill(settings, conversations=1, ids=1, busy_ids=1)
