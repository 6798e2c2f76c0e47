"""infra.lanes: order in a lane, lanes side by side, bounds, and a watermark that never passes unfinished work."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from infra.lanes import Lanes, OrderError, Watermark


def fail(error: BaseException) -> None:
    raise AssertionError(error)


class TestWatermark:
    def test_position_waits_for_the_oldest_unfinished_offset(self) -> None:
        """The position stays below an unfinished offset however much above it is done."""
        mark = Watermark()
        for offset in (5, 6, 7):
            mark.begin(offset)
        mark.end(7)
        mark.end(6)
        assert (mark.position, mark.floor) == (None, 5)
        assert mark.span == 1
        mark.end(5)
        assert mark.position == 8
        assert mark.span == 0

    def test_gaps_in_the_log_are_no_holes(self) -> None:
        """Offsets that were never delivered (compaction, markers) are not waited for."""
        mark = Watermark()
        for offset in (10, 13):
            mark.begin(offset)
        mark.end(10)
        assert mark.position == 13
        mark.end(13)
        assert mark.position == 14

    def test_going_back_is_refused(self) -> None:
        """A delivery that goes back in one assignment is a defect and is shown as one."""
        mark = Watermark()
        mark.begin(3)
        with pytest.raises(ValueError, match="offset 3 after 3"):
            mark.begin(3)

    def test_what_has_begun(self) -> None:
        """Between the first and the newest everything has begun or is a gap; below and above nothing has."""
        mark = Watermark()
        assert not mark.has_begun(0)
        for offset in (3, 5):
            mark.begin(offset)
        mark.end(3)
        assert [mark.has_begun(offset) for offset in (2, 3, 4, 5, 6)] == [False, True, True, True, False]

    @pytest.mark.parametrize("seed", range(20))
    def test_any_order_of_ends(self, seed: int) -> None:
        """Whatever the order of ends, the position is the lowest offset that did not end."""
        chance = random.Random(seed)
        offsets = sorted(chance.sample(range(1000), 200))
        mark = Watermark()
        for offset in offsets:
            mark.begin(offset)
        ended = set()
        for offset in chance.sample(offsets, len(offsets)):
            mark.end(offset)
            ended.add(offset)
            below = next((i for i, each in enumerate(offsets) if each not in ended), len(offsets))
            assert mark.position == ((*offsets, offsets[-1] + 1)[below] if below else None)
            assert mark.span == len(offsets) - len(ended)

    def test_what_has_ended_takes_no_memory(self) -> None:
        """However much ends above one that takes long; and it is passed at once when that ends."""
        mark = Watermark()
        mark.begin(0)
        for offset in range(1, 100_000):
            mark.begin(offset)
            mark.end(offset)
        assert len(mark._begun) + len(mark._open) < 2_000
        mark.begin(100_000)
        assert not mark.position
        mark.end(0)
        assert [mark.position, mark.span] == [100_000, 1]

    def test_what_is_left_in_the_log_is_waited_for(self) -> None:
        """The position stands at what is held, then at what was taken of it late, and passes both once they are done."""
        mark = Watermark()
        mark.begin(1)
        mark.hold("a", 2)
        for offset in (2, 3):
            mark.pass_over(offset)
        mark.begin(4)
        mark.end(1)
        assert (mark.position, mark.floor, mark.newest) == (2, 2, 4)
        mark.end(4)
        assert mark.position == 2
        mark.begin_late(2)
        mark.hold("a", 3)
        mark.end(2)
        assert (mark.position, mark.floor) == (3, 3)
        mark.begin_late(3)
        mark.release("a")
        assert (mark.position, mark.span, mark.held("a")) == (3, 1, None)
        mark.end(3)
        assert (mark.position, mark.floor, mark.span) == (5, 5, 0)


class TestLanes:
    @pytest.mark.parametrize(("seed", "batch_max"), [(1, 1), (2, 7)])
    async def test_order_inside_a_lane(self, seed: int, batch_max: int) -> None:
        """Items of a lane are handled in the order they came, whatever handlers wait for."""
        chance = random.Random(seed)
        seen: dict[str, list[int]] = {}

        async def handle(items: Sequence[tuple[str, int]]) -> None:
            for key, number in items:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                seen.setdefault(key, []).append(number)

        lanes = Lanes(handle, limit=50, batch_max=batch_max, on_fatal=fail)
        for number in range(2000):
            await lanes.submit(key := f"c{chance.randrange(40)}", (key, number))
        assert await lanes.drain(10)
        assert sum(map(len, seen.values())) == 2000
        assert all(numbers == sorted(numbers) for numbers in seen.values())

    async def test_a_slow_lane_holds_up_itself_only(self) -> None:
        """While one lane waits, all others go on."""
        gate, others_done = asyncio.Event(), asyncio.Event()
        done: list[str] = []

        async def handle(items: Sequence[str]) -> None:
            if items[0] == "slow":
                await gate.wait()
            done.extend(items)
            if len(done) == 500:
                others_done.set()

        lanes = Lanes(handle, limit=1000, on_fatal=fail)
        await lanes.submit("slow", "slow")
        for number in range(500):
            await lanes.submit(number % 100, str(number))
        await asyncio.wait_for(others_done.wait(), 5)
        assert "slow" not in done
        gate.set()
        assert await lanes.drain(5)
        assert done[-1] == "slow"

    async def test_nothing_is_handled_behind_what_failed(self) -> None:
        """A lane whose handler failed stands still, also for what comes later: the process stops, and begins there again."""
        handled: list[int] = []
        errors: list[BaseException] = []

        async def handle(items: Sequence[int]) -> None:
            if items[0] == 0:
                raise KeyError("a defect")
            handled.extend(items)

        lanes = Lanes(handle, limit=10, on_fatal=errors.append)
        for number in (0, 1):
            await lanes.submit("one", number)
        for _ in range(10):
            await asyncio.sleep(0)
        for number in (2, 3):
            await lanes.submit("one", number)
        await lanes.submit("other", 4)
        assert not await lanes.drain(0.05)
        await lanes.retire(timeout_s=1.0)
        assert (handled, len(lanes), len(errors)) == ([4], 0, 1)

    async def test_submit_waits_when_full(self) -> None:
        """No more than `limit` items are inside; the submitter waits, which is the backpressure."""
        gate = asyncio.Event()

        async def handle(_: Sequence[int]) -> None:
            await gate.wait()

        lanes = Lanes(handle, limit=3, on_fatal=fail)
        for number in range(3):
            await lanes.submit(number, number)
        blocked = asyncio.create_task(lanes.submit(9, 9))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not blocked.done()
        assert len(lanes) == 3
        gate.set()
        await asyncio.wait_for(blocked, 5)
        assert await lanes.drain(5)

    async def test_a_heavy_item_takes_the_places_of_several(self) -> None:
        """Of large ones fewer are held in memory; all places are free again when all is done, or was dropped."""
        gate = asyncio.Event()

        async def handle(_: Sequence[int]) -> None:
            await gate.wait()

        lanes = Lanes(handle, limit=10, on_fatal=fail, weigh=lambda item: item)
        for number in (1, 4, 4):
            await lanes.submit(number, number)
        assert (len(lanes), lanes.room, lanes.inside(4), lanes.is_full) == (9, 1, 8, False)
        await lanes.submit(7, 7)
        assert (len(lanes), lanes.is_full) == (16, True)
        gate.set()
        assert await lanes.drain(5)
        gate.clear()
        for number in (3, 3, 3):
            lanes.put(0, number)
        gate.set()
        await lanes.retire(timeout_s=5)
        assert (len(lanes), lanes.room) == (0, 10)

    async def test_a_batch_holds_what_had_queued_up(self) -> None:
        """A handler that can take several gets all that waited, in order, up to the bound."""
        gate = asyncio.Event()
        batches: list[list[int]] = []

        async def handle(items: Sequence[int]) -> None:
            await gate.wait()
            batches.append(list(items))

        lanes = Lanes(handle, limit=100, batch_max=4, on_fatal=fail)
        for number in range(10):
            await lanes.submit("one", number)
            await asyncio.sleep(0)
        gate.set()
        assert await lanes.drain(5)
        assert batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]

    async def test_an_escaped_error_stops_its_lane_and_is_told(self) -> None:
        """After an error that a handler let out, nothing of that lane is handled and the process hears of it."""
        told: list[BaseException] = []
        handled: list[int] = []

        async def handle(items: Sequence[int]) -> None:
            await asyncio.sleep(0)
            if items[0] == 1:
                raise RuntimeError("defect")
            handled.extend(items)

        lanes = Lanes(handle, limit=100, on_fatal=told.append)
        for number in range(4):
            await lanes.submit("one", number)
        assert await lanes.drain(5)
        assert handled == [0]
        assert [str(error) for error in told] == ["defect"]

    @pytest.mark.parametrize("batch_max", [1, 10])
    async def test_a_lane_checks_its_own_sequence(self, batch_max: int) -> None:
        """What comes after a later one of its sequence is not handled and the process hears of it; other sequences and lanes are others."""
        told: list[BaseException] = []
        handled: list[tuple[str, int]] = []

        async def handle(items: Sequence[tuple[str, int]]) -> None:
            await asyncio.sleep(0)
            handled.extend(items)

        lanes = Lanes(handle, limit=100, batch_max=batch_max, on_fatal=told.append, place=lambda item: item)
        for item in (("high", 7), ("bulk", 3), ("high", 9)):
            await lanes.submit("one", item)
            await lanes.submit("two", item)
        await asyncio.sleep(0)
        await lanes.submit("one", ("high", 8))
        assert await lanes.drain(5)
        assert [str(error) for error in told] == ["8 after 9 in a lane"]
        assert isinstance(told[0], OrderError)
        assert ("high", 8) not in handled
        assert handled.count(("high", 9)) == 2

    async def test_retire_stops_the_chosen_lanes(self) -> None:
        """Retiring picks lanes by key, ends their handlers, forgets their queues and leaves the others alone."""
        gate = asyncio.Event()
        done: list[int] = []

        async def handle(items: Sequence[int]) -> None:
            await gate.wait()
            done.extend(items)

        lanes = Lanes(handle, limit=100, on_fatal=fail)
        for number in range(6):
            await lanes.submit(number % 2, number)
        await lanes.retire(lambda key: key == 0)
        assert len(lanes) == 3
        gate.set()
        assert await lanes.drain(5)
        assert done == [1, 3, 5]

    async def test_retire_lets_a_running_handler_end(self) -> None:
        """With a timeout, what is being handled is finished and what is queued is not started."""
        started, gate = asyncio.Event(), asyncio.Event()
        done: list[int] = []

        async def handle(items: Sequence[int]) -> None:
            started.set()
            await gate.wait()
            done.extend(items)

        lanes = Lanes(handle, limit=100, on_fatal=fail)
        for number in range(3):
            await lanes.submit("one", number)
        await started.wait()
        retiring = asyncio.create_task(lanes.retire(timeout_s=5))
        await asyncio.sleep(0)
        gate.set()
        await retiring
        assert done == [0]
        assert len(lanes) == 0
