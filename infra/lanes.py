"""Lanes and watermark: order inside a conversation, thousands of conversations side by side, offsets committed only when safe.

A lane is one conversation's queue inside a process. Items of a lane are handled one wake-up after the other, lanes side by side.
A watermark is the offset of a partition below which everything is done; nothing above it may ever be committed.
Both know nothing of Kafka or Faust: `streams` hosts them under Faust, `sinks` and replay on aiokafka.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from infra.fault_points import without

T = TypeVar("T")
Handle = Callable[[Sequence[T]], Awaitable[None]]
_ENDED_KEPT = 1_000

Place = tuple[Hashable, int]
"""Where an item stands: in which sequence, and its number there."""


class OrderError(ValueError):
    """Offsets went back: what comes later must not be handled before what it follows."""


class Watermark:
    """Tracks one partition: offsets begin in order, end in any order, and `position` only ever moves over ended ones.

    Gaps between offsets (compaction, transaction markers) are no holes: only offsets that were begun are waited for. What is left in the
    log for later is held: `position` stays at or below it, and what is taken from there begins late. What has ended takes no memory,
    however long something below it takes.
    """

    def __init__(self) -> None:
        self._begun: deque[int] = deque()  # in order; the first one is always open
        self._open: set[int] = set()
        self._late: set[int] = set()
        self._holds: dict[Hashable, int] = {}
        self._lowest: int | None = None  # the position, were nothing held or late
        self.first: int | None = None
        self.newest = -1

    def begin(self, offset: int) -> None:
        """Note that the work on `offset` starts; OrderError if it is not above all before it: delivery went back."""
        self._comes(offset)
        self._begun.append(offset)
        self._open.add(offset)

    def _comes(self, offset: int) -> None:
        if offset <= self.newest:
            raise OrderError(f"offset {offset} after {self.newest}")
        self.newest = offset
        if self.first is None:
            self.first = offset

    def has_begun(self, offset: int) -> bool:
        """Tell whether `offset` lies between the first and the newest that were begun: it was among them, or is a gap."""
        return self.first is not None and self.first <= offset <= self.newest

    def end(self, offset: int) -> None:
        """Note that the work on `offset` is done."""
        if offset in self._late:
            self._late.discard(offset)
            return
        begun, opened = self._begun, self._open
        opened.discard(offset)
        if begun and begun[0] == offset:
            begun.popleft()
            while begun and begun[0] not in opened:
                begun.popleft()
            self._lowest = begun[0] if begun else self.newest + 1
        elif len(begun) > 2 * len(opened) + _ENDED_KEPT:
            self._begun = deque(each for each in begun if each in opened)
        if without("watermark"):
            self._lowest = self.newest + 1

    def pass_over(self, offset: int) -> None:
        """Note that `offset`, which comes next, is left in the log; a hold at or below it must say so."""
        self._comes(offset)
        if not self._begun:
            self._lowest = offset + 1

    def hold(self, name: Hashable, offset: int) -> None:
        """Keep `position` at `offset` or below; a hold has a name, and is moved by being set again."""
        self._holds[name] = offset

    def held(self, name: Hashable) -> int | None:
        """Return where a hold stands; None if there is none of this name."""
        return self._holds.get(name)

    def release(self, name: Hashable) -> None:
        """Forget a hold."""
        del self._holds[name]

    def begin_late(self, offset: int) -> None:
        """Note that the work on an `offset` starts that was left in the log; a hold at or below it is still there."""
        self._late.add(offset)

    @property
    def late(self) -> int:
        """How many of the offsets that are begun and not done had been left in the log."""
        return len(self._late)

    @property
    def position(self) -> int | None:
        """The next offset to commit: all below it is done. None before anything was."""
        return self._not_over_what_is_left(self._lowest)

    @property
    def floor(self) -> int | None:
        """The lowest offset that is not known to be done: what may be committed. None before the first one was begun."""
        return self._not_over_what_is_left(self._begun[0] if self._begun and not without("watermark") else self._lowest)

    def _not_over_what_is_left(self, lowest: int | None) -> int | None:
        if lowest is None or not (self._holds or self._late):
            return lowest
        return min(lowest, *self._holds.values(), *self._late)

    @property
    def span(self) -> int:
        """How many offsets are begun and not done."""
        return len(self._open) + len(self._late)


class _Lane(Generic[T]):
    __slots__ = ("inside", "is_dead", "newest", "queue", "task")

    def __init__(self) -> None:
        self.queue: deque[T] = deque()
        self.newest: dict[Hashable, int] = {}
        self.inside = 0
        self.is_dead = False
        self.task: asyncio.Task[None] | None = None


def _check_order(lane: _Lane[T], places: Iterable[Place]) -> None:
    """Note what the lane handles next; OrderError if that stands before what it handled."""
    for sequence, number in places:
        if number <= lane.newest.get(sequence, -1):
            raise OrderError(f"{number} after {lane.newest[sequence]} in a lane")
        lane.newest[sequence] = number


class Lanes(Generic[T]):
    """Runs `handle` over the items of each lane in order, over different lanes at once, with at most `limit` places taken.

    `handle` gets what had queued up in the lane, at most `batch_max` items. It must deal with its own errors: one that escapes is a defect
    of the process, so it stops the lane where it is and is given to `on_fatal`; nothing of that lane is handled after it.
    Where `place` says where an item stands, each lane checks its own sequence; an item that comes after a later one is such a defect.
    An item takes as many places as `weigh` says.
    """

    def __init__(
        self,
        handle: Handle[T],
        *,
        limit: int,
        on_fatal: Callable[[BaseException], None],
        batch_max: int = 1,
        place: Callable[[T], Place] | None = None,
        weigh: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._handle = handle
        self._weigh = weigh
        self._place = place
        self._limit = limit
        self._batch_max = batch_max
        self._on_fatal = on_fatal
        self._lanes: dict[Hashable, _Lane[T]] = {}
        self._inside = 0
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """How many places are taken by what is inside: queued or being handled."""
        return self._inside

    async def submit(self, key: Hashable, item: T) -> None:
        """Queue the item behind the others of its lane; waits while all places are taken."""
        await self.wait_for_room()
        self.put(key, item)

    def inside(self, key: Hashable) -> int:
        """Return how many places a lane takes."""
        lane = self._lanes.get(key)
        return lane.inside if lane is not None else 0

    @property
    def room(self) -> int:
        """How many places are left; below 0 where some items were put in past that."""
        return self._limit - self._inside

    @property
    def is_full(self) -> bool:
        """Whether all places are taken."""
        return self._inside >= self._limit

    async def wait_for_room(self) -> None:
        """Wait while all places are taken."""
        while self._inside >= self._limit:
            self._room.clear()
            await self._room.wait()

    def put(self, key: Hashable, item: T) -> None:
        """Queue the item behind the others of its lane, at once."""
        places = self._weigh(item)
        self._inside += places
        self._idle.clear()
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
            lane.task = asyncio.create_task(self._run(key, lane), name="lane")
        lane.queue.append(item)
        lane.inside += places

    async def _run(self, key: Hashable, lane: _Lane[T]) -> None:
        queue = lane.queue
        try:
            while queue:
                batch = [queue.popleft() for _ in range(min(len(queue), self._batch_max))]
                try:
                    if self._place is not None:
                        _check_order(lane, map(self._place, batch))
                    await self._handle(batch)
                finally:
                    self._leave(lane, sum(map(self._weigh, batch)))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever escapes a handler must stop the process, not vanish in a task
            lane.is_dead = True
            self._on_fatal(error)
        finally:
            self._leave(lane, lane.inside)
            queue.clear()
            # A dead one stays: what still comes must not be handled in a new lane, past what was not.
            if self._lanes.get(key) is lane and not lane.is_dead:
                del self._lanes[key]

    def _leave(self, lane: _Lane[T], count: int) -> None:
        lane.inside -= count
        self._inside -= count
        if self._inside < self._limit:
            self._room.set()
        if self._inside == 0:
            self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is inside; return whether that came true within `timeout_s` seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def retire(self, which: Callable[[Hashable], bool] = lambda _: True, *, timeout_s: float = 0.0) -> None:
        """Empty the lanes whose key `which` picks: forget what they queued, let running handlers end, cancel them after `timeout_s`."""
        lanes = [self._lanes.pop(key) for key in [key for key in self._lanes if which(key)]]
        tasks = [lane.task for lane in lanes if lane.task is not None]
        for lane in lanes:
            self._leave(lane, sum(map(self._weigh, lane.queue)))
            lane.queue.clear()
        if tasks and timeout_s > 0:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in lanes:
            # A task that was cancelled before its first step never ran its `finally`.
            self._leave(lane, lane.inside)
