"""Fills the changelog of a new installation with conversations of eight days: `python -m streams.filled_table CONVERSATIONS IDS BUSY`.

For `ottla bench ids`, which asks what remembering costs. Rows are made by `rows.advance`, as the stage makes them, and each is written
once, as compaction leaves them. In each conversation IDS messages came and were answered; in one more BUSY came, more than its row holds.
How far it is it prints as lines of JSON, the last of which is the whole. A changelog that has records is refused: rows of nobody would
stand among real ones. With `--count` before the numbers it needs no broker: the rows are made and counted, and written nowhere.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Mapping

import msgspec

from infra.bench.filled import Filled
from infra.demo.conversations import load_conversations
from infra.errors import RefusedError
from infra.kafka.bounded import bounded_reader
from infra.kafka.producer import Producer, settle
from infra.servers.address import resolve_servers
from infra.settings import Settings, load_settings
from schemas.codec import encode
from schemas.ids import conversation_key, key_hash
from schemas.topics import CONVERSATIONS_CHANGELOG
from streams.rows import REMEMBERED_MS, TURNS_MAX, ConversationRow, IdsRow, Turn, advance, is_known

_ACCOUNT = "106540352242922"
_FIRST_PHONE = 15_550_000_000
_BUSY_STEP = 16
_AT_ONCE = 1_000
_ID_BYTES = 8
_LOOK_UPS = 50


def key_of(number: int) -> bytes:
    """Return a conversation's key."""
    return conversation_key(channel="wa", account=_ACCOUNT, contact=str(_FIRST_PHONE + number)).encode()


def id_of(number: int, message: int) -> str:
    """Return the id of a conversation's message."""
    return f"wamid.filled.{number}.{message}"


def said() -> list[str]:
    """Return what real users wrote."""
    return [text for conversation in load_conversations() for burst in conversation.bursts for text in burst]


def conversation_row(number: int, ids: int, words: Iterator[str], *, now_ms: int) -> ConversationRow:
    """Return the row of a conversation after so many messages with an answer each, the last of them at `now_ms`."""
    names = [id_of(number, message) for message in range(ids)]
    return advance(ConversationRow(), key_of(number), done=number, item_ids=names, turns=_turns(words, ids), now_ms=now_ms).row


def busy_rows(number: int, ids: int, words: Iterator[str], *, now_ms: int) -> Iterator[tuple[bytes, IdsRow | ConversationRow]]:
    """Yield keys and rows of a conversation in which so many messages came over eight days up to `now_ms`: sealed ones, then its own."""
    key, row = key_of(number), ConversationRow()
    for first in range(0, ids, _BUSY_STEP):
        names = [id_of(number, message) for message in range(first, min(ids, first + _BUSY_STEP))]
        # The first ones came just within the eight days: else they were forgotten already.
        at_ms = now_ms - (REMEMBERED_MS - 1) * (ids - first - len(names)) // ids
        changes = advance(row, key, done=first, item_ids=names, turns=_turns(words, len(names)), now_ms=at_ms)
        yield from changes.seal
        row = changes.row
    yield key, row


def _turns(words: Iterator[str], messages: int) -> list[Turn]:
    kept = min(messages, TURNS_MAX // 2)
    return [turn for _ in range(kept) for turn in (Turn("user", next(words)), Turn("assistant", next(words)))]


def look_up_s(number: int, rows: Mapping[bytes, IdsRow | ConversationRow], *, now_ms: int) -> float:
    """Return the processor seconds it takes to tell that an id never came in the conversation of these rows."""
    key = key_of(number)
    stored = {name: encode(row) for name, row in rows.items()}
    own = msgspec.json.decode(stored[key], type=ConversationRow)
    begun = time.process_time()
    for message in range(_LOOK_UPS):
        is_known(own, key, f"wamid.new.{message}", now_ms=now_ms, sealed_row=stored.get)
    return (time.process_time() - begun) / _LOOK_UPS


def rows(
    conversations: int, ids: int, busy_ids: int, *, now_ms: int, filled: Filled
) -> Iterator[tuple[int, bytes, ConversationRow | IdsRow]]:
    """Yield all rows with the number of their conversation and their key; the last ones are of the busy one, whose look-up is measured."""
    words = itertools.cycle(said())
    for number in range(conversations):
        age_ms = (REMEMBERED_MS - 1) * number // conversations
        yield number, key_of(number), conversation_row(number, ids, words, now_ms=now_ms - age_ms)
    busy = dict(busy_rows(conversations, busy_ids, words, now_ms=now_ms))
    filled.busy_look_up_s = look_up_s(conversations, busy, now_ms=now_ms)
    for key, row in busy.items():
        yield conversations, key, row


def note(filled: Filled, key: bytes, row: ConversationRow | IdsRow) -> bytes:
    """Count a row and return it as it is written."""
    value = encode(row)
    size = len(key) + len(value)
    filled.records += 1
    if isinstance(row, IdsRow):
        filled.sealed_ids += len(row.ids) // _ID_BYTES
        filled.sealed_bytes += size
    elif row.sealed:
        filled.busy_row_bytes = size
    else:
        without_ids = msgspec.structs.replace(row, ids=b"", ids_newest_ms=0)
        filled.conversations += 1
        filled.ids += len(row.ids) // _ID_BYTES
        filled.row_bytes += size
        filled.id_bytes += len(value) - len(encode(without_ids))
        filled.turn_bytes += len(encode(without_ids)) - len(encode(msgspec.structs.replace(without_ids, turns=[])))
    return value


def count(*, conversations: int, ids: int, busy_ids: int) -> Filled:
    """Make all rows and return what would be written."""
    filled = Filled()
    for _, key, row in rows(conversations, ids, busy_ids, now_ms=int(time.time() * 1000), filled=filled):
        note(filled, key, row)
    return filled


async def fill(settings: Settings, *, conversations: int, ids: int, busy_ids: int) -> Filled:
    """Write all rows and return what was written. RefusedError if the changelog has records; ProduceError, KafkaUnreachableError."""
    async with bounded_reader(settings, group="filled-table") as reader:
        ends = await reader.ends(CONVERSATIONS_CHANGELOG.name)
    if any(ends.values()):
        raise RefusedError("The streams' table is not empty: rows that stand for nobody are only written into a new one.")
    filled = Filled()
    waiting: list[asyncio.Future[int]] = []
    producer = Producer(settings, client_id=f"{settings.worker}-filled-table")
    await producer.start()
    try:
        for number, key, row in rows(conversations, ids, busy_ids, now_ms=int(time.time() * 1000), filled=filled):
            value = note(filled, key, row)
            # A sealed row stands where its conversation's does, whatever its own key says.
            partition = key_hash(key_of(number)) % len(ends)
            waiting.append(producer.produce(CONVERSATIONS_CHANGELOG.name, key=key, value=value, partition=partition))
            if len(waiting) >= _AT_ONCE:
                await settle(waiting)
                waiting.clear()
                _say(filled)
        await settle(waiting)
    finally:
        await producer.stop()
    return filled


def _say(filled: Filled) -> None:
    sys.stdout.write(msgspec.json.encode(filled).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fill the installation that the environment names, with the three numbers on the command line; `--count` writes nothing."""
    words = sys.argv[1:]
    only_count = words[:1] == ["--count"]
    conversations, ids, busy_ids = map(int, words[only_count:])
    if only_count:
        _say(count(conversations=conversations, ids=ids, busy_ids=busy_ids))
    else:
        _say(asyncio.run(fill(resolve_servers(load_settings()), conversations=conversations, ids=ids, busy_ids=busy_ids)))


if __name__ == "__main__":
    main()
