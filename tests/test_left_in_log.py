"""infra.left_in_log over a log in memory: nothing is lost, doubled or reordered, the position never lies, and memory is bounded."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence

import pytest

from infra.kafka.record import Record
from infra.lanes import Lanes, Watermark
from infra.left_in_log import _LOOK_S, LANE_MAX, LeftInLog
from infra.retries import AwayError


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a log that is away again at once."""
    monkeypatch.setattr("infra.left_in_log._AGAIN_S", 0.0)


class Host:
    """Takes the records of one partition, as the hosts of the stage and of sinks do, at a speed of its own."""

    def __init__(self, chance: random.Random, *, limit: int = 100_000, slow: bytes = b"") -> None:
        self.slow = slow
        self.slow_may_go = asyncio.Event()
        self.done: set[int] = set()
        self.position = 0
        self.log: list[Record] = []
        self.chance = chance
        self.mark = Watermark()
        self.handled: list[int] = []
        self.errors: list[BaseException] = []
        self.most = 0
        self.away = 0.05
        self.reads = 0
        self.records_read = 0
        self.is_owned = True
        self.lanes: Lanes[Record] = Lanes(self._handle, limit=limit, on_fatal=self.errors.append, place=lambda each: (0, each.offset))
        self.left: LeftInLog[int] = LeftInLog(
            self.lanes,
            lane=lambda record: record.key,
            put=lambda _, __, record: self.lanes.put(record.key, record),
            read=self._read,
            owns=lambda _, mark: self.is_owned and mark is self.mark,
            failed=self.errors.append,
        )

    async def _handle(self, records: Sequence[Record]) -> None:
        for record in records:
            self.most = max(self.most, self.lanes.inside(record.key))
            if self.slow and record.key.startswith(self.slow):
                await self.slow_may_go.wait()
            for _ in range(self.chance.randrange(3)):
                await asyncio.sleep(0)
            self.handled.append(record.offset)
            self.done.add(record.offset)
            self.mark.end(record.offset)
            position = self.mark.position or 0
            assert self.done.issuperset(range(self.position, position)), position
            assert position >= self.position
            self.position = position
        self.left.look()

    async def _read(self, _: int, start: int, end: int) -> AsyncGenerator[Sequence[Record], None]:
        self.reads += 1
        while start < end:
            await asyncio.sleep(0)
            if self.chance.random() < self.away:
                raise AwayError("no answer")
            size = self.chance.randrange(1, 200)
            records = self.log[start : min(end, start + size)]
            self.records_read += len(records)
            yield records
            start += size

    def take(self, key: bytes) -> None:
        """Have one more record in the log, and take it."""
        record = Record("raw", 0, len(self.log), key, b"", [], 0)
        self.log.append(record)
        if not self.left.leaves(0, self.mark, key, record.offset):
            self.mark.begin(record.offset)
            self.lanes.put(key, record)

    async def until(self, true: Callable[[], bool]) -> None:
        """Return once it is true, or something failed."""
        async with asyncio.timeout(30):
            while not true() and not self.errors:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(20))
async def test_loud_and_quiet_conversations(seed: int) -> None:
    """Several write faster than they are answered, now and then, with others between them, and a log that is away at times."""
    chance = random.Random(seed)
    host = Host(chance)
    keys = [b"%d" % number for number in range(30)]
    for _ in range(chance.randrange(3, 8)):
        loud = chance.sample(keys, 2)
        for _ in range(chance.randrange(400, 1_200)):
            host.take(chance.choice(loud) if chance.random() < 0.8 else chance.choice(keys))
            if chance.random() < 0.05:
                await asyncio.sleep(0)
        for _ in range(chance.randrange(400)):
            await asyncio.sleep(0)
    await host.until(lambda: len(host.handled) == len(host.log))
    assert host.errors == []
    assert sorted(host.handled) == [*range(len(host.log))]
    for key in keys:
        own = [offset for offset in host.handled if host.log[offset].key == key]
        assert own == sorted(own)
    for _ in range(500):
        await asyncio.sleep(0)
    assert host.mark.position == len(host.log)
    assert len(host.left) == 0
    assert host.most <= LANE_MAX
    assert host.reads > 0


async def test_it_catches_up_while_others_write() -> None:
    """However many records of others come while it is read: once its own are done nothing is left, and several take turns."""
    host = Host(random.Random(4), slow=b"loud")
    for number in range(3_000):
        host.take(b"loud %d" % (number % 3))
    host.slow_may_go.set()
    quiet = 0
    async with asyncio.timeout(60):
        while len(host.left) and not host.errors:
            host.take(b"quiet %d" % (quiet % 50))
            quiet += 1
            await asyncio.sleep(0)
    assert (host.errors, host.reads < 300) == ([], True), host.reads
    await host.until(lambda: len(host.handled) == len(host.log))
    assert host.mark.position == len(host.log)


@pytest.mark.parametrize(("count", "together"), [(20, True), (100, True), (400, True), (20, False), (100, False)])
async def test_many_long_conversations_leave_room_for_the_others(count: int, together: bool) -> None:
    """A worker's room is not filled by many who flood either: the more they are, the fewer places has each."""
    host = Host(random.Random(5), limit=4_096, slow=b"loud")
    each = 20_000 // count
    for number in range(each * count):
        host.take(b"loud %d" % (number % count if together else number // each))
    assert len(host.left) == count
    assert host.lanes.room >= 50
    for number in range(50):
        host.take(b"quiet %d" % number)
    await host.until(lambda: len(host.handled) == 50)
    host.slow_may_go.set()
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, len(host.left), host.mark.position) == ([], 0, len(host.log))


async def test_looking_whose_turn_it_is_costs_little_where_many_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """While 300 conversations are stuck, what is done for others does not go through all of these each time."""
    host = Host(random.Random(9), limit=4_096, slow=b"loud")
    for number in range(16 * 300):
        host.take(b"loud %d" % (number % 300))
    assert len(host.left) == 300
    looked = 0
    next_of_all = host.left._next

    def counted() -> tuple[int, Hashable] | None:
        nonlocal looked
        looked += 1
        return next_of_all()

    monkeypatch.setattr(host.left, "_next", counted)
    began = asyncio.get_running_loop().time()
    for number in range(1_000):
        host.take(b"quiet %d" % number)
    await host.until(lambda: len(host.handled) == 1_000)
    assert looked <= 2 + 2 * (asyncio.get_running_loop().time() - began) / _LOOK_S
    host.slow_may_go.set()
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, len(host.left), host.mark.position) == ([], 0, len(host.log))


@pytest.mark.parametrize("each", [3, 8, 20])
async def test_catching_up_reads_hardly_anything_twice(each: int) -> None:
    """A worker that comes back to what a thousand conversations wrote meanwhile takes it in order, and waits for room."""
    host = Host(random.Random(8), limit=4_096)
    for number in range(1_000 * each):
        await host.lanes.wait_for_room()
        # Each writes all of its own in a row, or all write by turns.
        host.take(b"%d" % (number // each if each < 20 else number % 1_000))
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, host.mark.position) == ([], len(host.log))
    assert host.reads <= len(host.log) // 100, host.reads


@pytest.mark.parametrize(("count", "each"), [(60, 100), (250, 40), (400, 20)])
async def test_going_through_the_log_once_serves_all_that_are_long(count: int, each: int) -> None:
    """Where hundreds wrote much while nobody answered, reading on passes over their records a few times, not once for each of them."""
    host = Host(random.Random(10), limit=4_096, slow=b"loud")
    for number in range(count * each):
        host.take(b"loud %d" % (number % count))
    host.slow_may_go.set()
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, len(host.left), host.mark.position) == ([], 0, len(host.log))
    assert host.records_read <= 4 * len(host.log), host.records_read / len(host.log)


@pytest.mark.parametrize("count", [3, 6])
async def test_places_far_apart_are_served_each_on_its_own(count: int) -> None:
    """Nobody waits, and nothing is read, for what lies between the places of conversations that are long at different times."""
    host = Host(random.Random(11), limit=4_096, slow=b"loud")
    for number in range(count):
        for _ in range(1_000):
            host.take(b"loud %d" % number)
        for quiet in range(10_000):
            host.take(b"quiet %d" % quiet)
            if quiet % 500 == 0:
                await host.until(lambda: len(host.lanes) < 2_000)
    host.slow_may_go.set()
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, len(host.left), host.mark.position) == ([], 0, len(host.log))
    assert host.records_read <= len(host.log) // 2, host.records_read / len(host.log)


async def test_who_has_caught_up_lets_the_run_end() -> None:
    """The last few records of one conversation are no reason to go on to the end of another one that is stuck."""
    host = Host(random.Random(12), limit=4_096, slow=b"loud")
    go = host.slow_may_go
    for _ in range(LANE_MAX + 40):
        host.take(b"loud")
    for number in range(20_000):
        host.take(b"loud stuck" if number % 50 == 0 else b"quiet %d" % number)
        if number % 500 == 0:
            await host.until(lambda: len(host.lanes) < 2_000)
    assert len(host.left) == 2
    host.slow = b"loud stuck"
    go.set()
    host.slow_may_go = asyncio.Event()
    await host.until(lambda: len(host.left) == 1)
    assert host.records_read <= 1_000
    host.slow_may_go.set()
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, len(host.left), host.mark.position) == ([], 0, len(host.log))


@pytest.mark.parametrize("seed", range(10))
async def test_the_position_never_goes_back(seed: int) -> None:
    """Over a log that is away again and again, and conversations that are answered now and then: what may be committed only grows."""
    host = Host(random.Random(seed), slow=b"loud")
    chance = host.chance
    host.away = 0.3
    lowest = 0
    for number in range(6_000):
        host.take(b"loud %d" % chance.randrange(3) if chance.random() < 0.4 else b"quiet %d" % number)
        if chance.random() < 0.02:
            host.slow = b"loud %d" % chance.randrange(3)
            host.slow_may_go.set()
            host.slow_may_go = asyncio.Event()
        if chance.random() < 0.05:
            await asyncio.sleep(0)
        assert (host.mark.position or 0) >= lowest
        lowest = host.mark.position or 0
    host.slow = b""
    host.slow_may_go.set()
    host.away = 0.05
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, sorted(host.handled)) == ([], [*range(len(host.log))])


async def test_it_has_its_turn_while_others_fill_all_the_room() -> None:
    """More than there is room for comes all the time: a long conversation gets on as any other does."""
    host = Host(random.Random(6), limit=200)
    for _ in range(300):
        host.take(b"loud")
    quiet = 0

    def fill() -> bool:
        nonlocal quiet
        while not host.lanes.is_full:
            host.take(b"quiet %d" % quiet)
            quiet += 1
        return host.done.issuperset(range(300))

    await host.until(fill)
    assert host.errors == []
    await host.until(lambda: len(host.handled) == len(host.log))


async def test_one_lane_holds_its_part_of_a_small_share() -> None:
    """Where a partition may hold few records, several long conversations must not fill that between them."""
    host = Host(random.Random(7), slow=b"loud")
    host.left._most = lambda _, __: 10
    for number in range(300):
        host.take(b"loud %d" % (number % 3))
    assert (len(host.left), len(host.lanes)) == (3, 30)
    host.slow_may_go.set()
    await host.until(lambda: len(host.handled) == len(host.log))
    assert (host.errors, host.most, host.mark.position) == ([], 10, 300)


async def test_what_is_left_costs_no_memory_of_its_own() -> None:
    """A hundred thousand records of one conversation are one place."""
    host = Host(random.Random(1))
    for _ in range(100_000):
        host.take(b"loud")
    assert (len(host.left), len(host.lanes), host.mark.span, len(host.mark._begun)) == (1, LANE_MAX, LANE_MAX, LANE_MAX)
    await host.left.stop()
    await host.lanes.retire()


async def test_what_is_not_ours_any_more_is_left_alone() -> None:
    """A partition that went away while something of it was left, and while it is being read: nothing more of it is taken."""
    host = Host(random.Random(2))
    for _ in range(1_000):
        host.take(b"loud")
    await host.until(lambda: host.reads > 0)
    host.is_owned = False
    assert await host.lanes.drain(10)
    for _ in range(500):
        await asyncio.sleep(0)
    assert len(host.handled) <= 2 * LANE_MAX
    assert host.handled == [*range(len(host.handled))]
    host.left.look()
    assert (len(host.left), host.errors) == (0, [])


async def test_what_cannot_be_dealt_with_is_told() -> None:
    """An error that is none of the log's being away stands for a conversation that would wait for ever."""
    host = Host(random.Random(3))

    async def broken(_: int, __: int, ___: int) -> AsyncGenerator[Sequence[Record], None]:
        raise KeyError("what is this")
        yield []

    host.left._read = broken
    for _ in range(1_000):
        host.take(b"loud")
    await host.until(lambda: False)
    assert [type(error) for error in host.errors] == [KeyError]
