"""Long lanes: of a conversation of which much waits, the next records are held in memory and the others are left in the log.

Else one that writes faster than it is answered (a loop of two machines, an attack) would fill all the room there is, and nobody else would
be answered. What is left in the log is passed over, and its place is held in the watermark. When its lane has room again the next records
are read from there, until the conversation has caught up. Its order stays: while something of it is left in the log, so is what comes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
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
"""But so many always: where a worker catches up with what everybody wrote meanwhile, reading that once more would take longer than waiting
for room."""
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

    def _next(self) -> tuple[S, Watermark] | None:
        """Return whose turn it is: the partition of the conversation that has waited longest of those whose lane is half empty."""
        for (source, lane), known in list(self._long.items()):
            if not self._owns(source, known.mark):
                del self._long[source, lane]
            elif self._wants(source, lane, known.mark):
                return source, known.mark
        return None

    def _wants(self, source: S, lane: Hashable, mark: Watermark) -> bool:
        return self._lanes.inside(lane) <= self._lane_max(source, mark) // 2 and self._has_room(lane)

    async def _read_on(self) -> None:
        try:
            while (found := self._next()) is not None:
                try:
                    await self._fill(*found)
                except (AwayError, OttlaError, KafkaError) as error:
                    log.warning("what is left in the log cannot be read yet", error=str(error))
                    await asyncio.sleep(_AGAIN_S)
        except Exception as error:  # noqa: BLE001  # whatever it is, the conversation stands still: that must not pass unseen
            self._failed(error)
        finally:
            if self._reading is asyncio.current_task():
                self._reading = None

    async def _fill(self, source: S, mark: Watermark) -> None:
        """Go through what is left of a partition once, from where the first lane goes on that wants records, until those it met are full.

        All that had been left when it began is read at most. Who goes on further above has a run that begins there.
        """
        run = self._begin_run(source, mark)
        async with aclosing(self._read(source, run.start, run.end)) as batches:
            async for records in batches:
                if not self._owns(source, mark) or self._is_enough(run, records):
                    return
        if self._owns(source, mark):
            self._passed(run, run.end)

    def _begin_run(self, source: S, mark: Watermark) -> "_Run[S]":
        places: dict[Hashable, int] = {}
        for (each, lane), known in self._long.items():
            if each == source and known.mark is mark:
                if (offset := mark.held(lane)) is None:
                    raise RuntimeError(f"nothing says where a conversation of {source} goes on")
                places[lane] = offset
        wanting = {lane for lane in places if self._wants(source, lane, mark)}
        for lane in wanting:  # others have their turn next
            self._long[source, lane] = self._long.pop((source, lane))
        start = min(places[lane] for lane in wanting)
        # Of one that stands further back not the next records would come.
        taken_up_to = {lane: offset for lane, offset in places.items() if offset >= start}
        end = max(self._long[source, lane].newest for lane in taken_up_to) + 1
        return _Run(source=source, mark=mark, start=start, end=end, wanting=wanting, taken_up_to=taken_up_to)

    def _is_enough(self, run: "_Run[S]", records: Sequence[Record]) -> bool:
        """Put records into their lanes, and hold the places behind; tell whether no lane wants more of what follows."""
        source, mark, taken_up_to = run.source, run.mark, run.taken_up_to
        for record in records:
            lane = self._lane(record)
            if record.offset < taken_up_to.get(lane, record.offset + 1):
                continue
            if self._lanes.inside(lane) >= self._lane_max(source, mark) or not self._has_room(lane):
                # From here on nothing more of it is taken in this run: the next one begins with this record.
                mark.hold(lane, record.offset)
                del taken_up_to[lane]
                run.wanting.discard(lane)
                if run.has_filled_all_it_met(record.offset):
                    self._passed(run, record.offset)
                    return True
                continue
            mark.begin_late(record.offset)
            self._put(source, mark, record)
        if not records:
            return False
        position = records[-1].offset + 1
        self._passed(run, position)
        return run.has_filled_all_it_met(position)

    def _passed(self, run: "_Run[S]", position: int) -> None:
        """Hold the places at `position`, but for those of whom nothing is left there: what comes of them goes into their lanes again."""
        for lane in [lane for lane in run.taken_up_to if self._long[run.source, lane].newest < position]:
            run.mark.release(lane)
            del run.taken_up_to[lane], self._long[run.source, lane]
            run.wanting.discard(lane)
        run.hold(position)


@dataclass(slots=True, kw_only=True)
class _Run(Generic[S]):
    """One way through what is left of a partition, from offset `start` up to, not including, `end`."""

    source: S
    mark: Watermark
    start: int
    end: int
    wanting: set[Hashable]
    """Lanes that were half empty when it began, and are not full yet."""
    taken_up_to: dict[Hashable, int]
    """Lanes into which records are put, with the offset up to which nothing of theirs is left."""

    def hold(self, offset: int) -> None:
        """Hold the places of all lanes into which records are still put: of these nothing below `offset` is left."""
        for lane, taken in self.taken_up_to.items():
            if offset > taken:
                self.taken_up_to[lane] = offset
                self.mark.hold(lane, offset)

    def has_filled_all_it_met(self, offset: int) -> bool:
        """Tell whether no lane wants records that begins at or below `offset`."""
        return all(self.taken_up_to[lane] > offset for lane in self.wanting)
