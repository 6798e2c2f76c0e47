"""Long lanes: of a conversation of which much waits, the next records are held in memory and the others are left in the log.

Else one that writes faster than it is answered (a loop of two machines, an attack) would fill all the room there is, and nobody else would
be answered. What is left in the log is passed over, and its place is held in the watermark. When its lane has room again the next records
are read from there, until the conversation has caught up. Its order stays: while something of it is left in the log, so is what comes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import structlog
from aiokafka.errors import KafkaError

from infra.errors import OttlaError
from infra.kafka.record import Record
from infra.lanes import Lanes, Watermark
from infra.retries import AwayError

log = structlog.get_logger()

LANE_MAX = 64
"""So many records of a lane are held before others are left in the log."""
_PART_OF_ROOM = 32
"""And no more than this part of the room that is left: the more conversations are long at once, the less each has, and others have some.
Dynamic thresholds: A. K. Choudhury, E. L. Hahne, Dynamic Queue Length Thresholds for Shared-Memory Packet Switches (1998)."""
LANE_MIN = 8
"""But so many always: where a worker catches up with what everybody wrote meanwhile, reading that once more, conversation by conversation,
would take longer than waiting for room."""
_AGAIN_S = 1.0
# Where so many are left, whose turn it is is not asked after each record that is done, but so often.
_MANY, _LOOK_S = 64, 0.01

S = TypeVar("S", bound=Hashable)
"""What names a partition."""


class _Long:
    """A conversation of which something is left: the watermark that has its place, and the newest offset that was left."""

    __slots__ = ("mark", "newest")

    def __init__(self, mark: Watermark, newest: int) -> None:
        self.mark = mark
        self.newest = newest


class LeftInLog(Generic[S]):
    """What is left in the log, and its way back into `lanes`.

    `lane` says in which one a record belongs, `put` puts it there. `read` yields the records of a partition from an offset up to, not
    including, another. `owns` tells whether a watermark is still that of its partition: what was left of one that is not is its next
    owner's. `failed` is told what nobody knows how to deal with. `most` says how many of a partition's
    records one lane may hold now: two at least, for one whose handling has just ended counts still when somebody looks.
    """

    def __init__(
        self,
        lanes: Lanes[Any],
        *,
        lane: Callable[[Record], Hashable],
        put: Callable[[S, Watermark, Record], None],
        read: Callable[[S, int, int], AsyncGenerator[Sequence[Record], None]],
        owns: Callable[[S, Watermark], bool],
        failed: Callable[[BaseException], None],
        most: Callable[[S, Watermark], int] = lambda _, __: LANE_MAX,
    ) -> None:
        self._lanes = lanes
        self._most = most
        self._lane = lane
        self._put = put
        self._read = read
        self._owns = owns
        self._failed = failed
        self._long: dict[tuple[S, Hashable], _Long] = {}
        self._reading: asyncio.Task[None] | None = None
        self._looking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many conversations have something that is left in the log."""
        return len(self._long)

    def leaves(self, source: S, mark: Watermark, lane: Hashable, offset: int) -> bool:
        """Tell whether the next record of a partition is left in the log; then it is passed over already."""
        if mark.held(lane) is None:
            if self._lanes.inside(lane) < self._lane_max(source, mark):
                return False
            log.info("much of one conversation waits: the others go on", source=str(source), offset=offset)
            mark.hold(lane, offset)
            self._long[source, lane] = _Long(mark, offset)
        elif (known := self._long.get((source, lane))) is not None:
            known.newest = offset
        mark.pass_over(offset)
        return True

    def look(self) -> None:
        """Read on where a lane has room again; to be called whenever something has left a lane."""
        if not self._long or self._reading is not None or self._looking is not None:
            return
        if self._next() is not None:
            self._reading = asyncio.create_task(self._read_on(), name="left in log")
        elif len(self._long) > _MANY:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self.look()

    async def stop(self) -> None:
        """Read no more, and forget what was left: it is somebody else's, or comes again."""
        reading, self._reading = self._reading, None
        self._long.clear()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _lane_max(self, source: S, mark: Watermark) -> int:
        of_all = max(LANE_MIN, min(LANE_MAX, self._lanes.room // _PART_OF_ROOM))
        return min(of_all, self._most(source, mark))

    def _has_room(self, lane: Hashable) -> bool:
        # While others fill all the room this one has its turn too: the next record while it has one at most.
        return not self._lanes.is_full or self._lanes.inside(lane) <= 1

    def _next(self) -> tuple[S, Hashable] | None:
        """Return whose turn it is: of those whose lane is half empty, the one that has waited longest for it."""
        for (source, lane), known in list(self._long.items()):
            if not self._owns(source, known.mark):
                del self._long[source, lane]
            elif self._lanes.inside(lane) <= self._lane_max(source, known.mark) // 2 and self._has_room(lane):
                return source, lane
        return None

    async def _read_on(self) -> None:
        try:
            while (found := self._next()) is not None:
                known = self._long[found] = self._long.pop(found)
                try:
                    await self._fill(*found, known)
                except (AwayError, OttlaError, KafkaError) as error:
                    log.warning("what is left in the log cannot be read yet", error=str(error))
                    await asyncio.sleep(_AGAIN_S)
        except Exception as error:  # noqa: BLE001  # whatever it is, the conversation stands still: that must not pass unseen
            self._failed(error)
        finally:
            if self._reading is asyncio.current_task():
                self._reading = None

    async def _fill(self, source: S, lane: Hashable, known: _Long) -> None:
        """Take what comes next of a conversation until its lane is full or all was read that had been left when it began."""
        mark, end = known.mark, known.newest + 1
        start = mark.held(lane)
        if start is None:
            raise RuntimeError(f"nothing says where a conversation of {source} goes on")
        async with aclosing(self._read(source, start, end)) as batches:
            async for records in batches:
                if not self._owns(source, mark) or self._is_full_after(source, lane, mark, records):
                    return
        if not self._owns(source, mark):
            return
        if known.newest + 1 == end:
            mark.release(lane)
            del self._long[source, lane]
        else:
            mark.hold(lane, end)

    def _is_full_after(self, source: S, lane: Hashable, mark: Watermark, records: Sequence[Record]) -> bool:
        """Put what belongs to a lane into it, and hold the place behind; tell whether it became full before the last one."""
        for record in records:
            if self._lane(record) != lane:
                continue
            if self._lanes.inside(lane) >= self._lane_max(source, mark) or not self._has_room(lane):
                mark.hold(lane, record.offset)
                return True
            mark.begin_late(record.offset)
            self._put(source, mark, record)
        if records:
            mark.hold(lane, records[-1].offset + 1)
        return False
