"""streams.faust_host: what is handled and committed, and when."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from infra.kafka.commits import LostPartitionError
from infra.kafka.record import Record
from infra.left_in_log import LANE_MAX
from infra.retries import AwayError
from streams.faust_host import FaustHost


class Stage:
    """Handles a record when it is allowed to."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.owned_by_all = False

    async def handle(self, record: Record, owned: Callable[[], bool]) -> None:
        if record.offset in self.gates:
            await self.gates[record.offset].wait()
        if not (owned() or self.owned_by_all):
            raise LostPartitionError
        self.handled.append(record.offset)


def _own_key(offset: int) -> bytes:
    return str(offset).encode()


def _record(offset: int, key: bytes) -> Any:
    return SimpleNamespace(partition=0, offset=offset, key=key, value=b"", headers=(), timestamp=0)


class Delivery:
    """Events as Faust delivers them, and what of them would be committed."""

    def __init__(self, committed: int = 1, *, there: Sequence[int] = tuple(range(10)), keys: Callable[[int], bytes] = _own_key) -> None:
        self.keys = keys
        self.committed = committed
        self.there = there
        self.is_away = 0
        self.has_no_ends = False
        self.generation = 1
        self.errors: list[str] = []
        self.back: list[int] = []
        self.end = 0
        self.ended: Exception | None = None

    async def next_to_read(self, _: int) -> int:
        if self.is_away:
            self.is_away -= 1
            raise AwayError("no answer")
        return self.committed

    async def first_at(self, _: int, offset: int) -> int:
        return min(each for each in self.there if each >= offset)

    async def read(self, partition: int, start: int, end: int) -> AsyncGenerator[list[Record], None]:
        yield [Record("raw", partition, offset, self.keys(offset), b"", [], 0) for offset in self.there if start <= offset < end]

    async def go_back(self, _: int, offset: int) -> None:
        self.back.append(offset)

    async def ends(self, _: Collection[int]) -> dict[int, int]:
        if self.has_no_ends:
            raise AwayError("no answer")
        return {0: self.end}

    def check(self) -> None:
        if self.ended is not None:
            raise self.ended

    async def give(self, host: FaustHost, *offsets: int, generation: int = 1) -> None:
        """Have the host take records of partition 0, as the consumer gives them."""
        await host.take({0: [_record(offset, self.keys(offset)) for offset in offsets]}, generation)

    def host(self, stage: Stage) -> FaustHost:
        def fatal(error: BaseException) -> None:
            self.errors.append(str(error))

        return FaustHost(stage, topic="raw", source=self, generation=lambda: self.generation, on_fatal=fatal, name="test")


async def _commit(host: FaustHost, *, is_done: bool = True) -> int | None:
    """Return the position that is committed of partition 0; None if none is."""
    written: dict[int, int] = {}

    async def write(offsets: Mapping[int, int]) -> bool:
        written.update(offsets)
        return is_done

    assert await host.commit(write) is (bool(written) and is_done)
    return written.get(0)


async def _idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def _handled(stage: Stage, count: int) -> None:
    """Return once so many were handled and nothing more happens."""
    async with asyncio.timeout(10):
        while len(stage.handled) < count:  # noqa: ASYNC110  # the host tells nobody
            await asyncio.sleep(0)
    await _idle()


async def test_committed_in_the_order_of_offsets() -> None:
    """What is done before something earlier is done waits for it."""
    stage, delivery = Stage(), Delivery()
    stage.gates[2] = asyncio.Event()
    host = delivery.host(stage)
    await delivery.give(host, 1, 2, 3, 4)
    await _idle()
    assert (stage.handled, await _commit(host)) == ([1, 3, 4], 2)
    assert await _commit(host) is None
    stage.gates[2].set()
    await _idle()
    assert await _commit(host) == 5


async def test_what_could_not_be_committed_is_committed_later() -> None:
    """A commit that failed, as in a rebalance or while the broker was paused, comes again with nothing new handled."""
    stage, delivery = Stage(), Delivery()
    host = delivery.host(stage)
    await delivery.give(host, 1, 2)
    await _idle()
    assert await _commit(host, is_done=False) == 3
    assert await _commit(host) == 3
    assert await _commit(host) is None


async def test_what_is_handled_after_a_revocation_is_not_committed() -> None:
    """The next owner begins at the committed offset: what was forgotten, or ends under another generation, moves it no more."""
    stage, delivery = Stage(), Delivery()
    host = delivery.host(stage)
    await delivery.give(host, 1)
    await _idle()
    await host.forget()
    assert await _commit(host) is None
    stage.gates[2] = asyncio.Event()
    delivery.committed = 2
    await delivery.give(host, 2)
    await _idle()
    delivery.generation = 2
    stage.owned_by_all = True
    stage.gates[2].set()
    await _idle()
    assert (stage.handled, await _commit(host)) == ([1, 2], None)


async def test_a_broker_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the broker can say whether a record is the next one, nothing is guessed, and the process need not end."""
    monkeypatch.setattr("streams.faust_host._WATCH_S", 0)
    stage, delivery = Stage(), Delivery()
    delivery.is_away = 3
    await delivery.give(delivery.host(stage), 1, 2)
    await _idle()
    assert (stage.handled, delivery.errors, delivery.is_away) == ([1, 2], [], 0)


async def test_a_record_of_another_generation_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rebalance it is delivered again."""
    monkeypatch.setattr("streams.faust_host._WATCH_S", 0)
    stage, delivery = Stage(), Delivery()
    delivery.is_away = 1_000_000
    consuming = asyncio.create_task(delivery.give(delivery.host(stage), 1))
    await _idle()
    assert not consuming.done()
    delivery.generation = 2
    await consuming
    assert (stage.handled, delivery.errors) == ([], [])


async def test_what_is_delivered_twice_is_handled_once() -> None:
    """A repeat of what is under way, as Faust's seek after a start brings it, is passed over and commits nothing early."""
    stage, delivery = Stage(), Delivery()
    stage.gates[1] = asyncio.Event()
    host = delivery.host(stage)
    await delivery.give(host, 1, 2, 1, 2, 3)
    await _idle()
    assert (stage.handled, await _commit(host)) == ([2, 3], None)
    stage.gates[1].set()
    await _idle()
    assert (stage.handled, await _commit(host), delivery.errors) == ([2, 3, 1], 4, [])


async def test_what_is_done_is_not_done_again() -> None:
    """A repeat of what is done already is passed over as well."""
    stage, delivery = Stage(), Delivery(5)
    host = delivery.host(stage)
    await delivery.give(host, 5, 6)
    await _idle()
    await delivery.give(host, 5, 6, 7)
    await _idle()
    assert (stage.handled, await _commit(host), delivery.errors) == ([5, 6, 7], 8, [])


async def test_what_was_set_back_under_it_stops_the_process() -> None:
    """An offset below what was begun that is not committed either is a hole in the order: nothing after it is taken."""
    stage, delivery = Stage(), Delivery(2)
    host = delivery.host(stage)
    await delivery.give(host, 2)
    await _idle()
    delivery.committed = 0
    await delivery.give(host, 1, 3)
    await _idle()
    assert (delivery.errors, stage.handled) == (["offset 1 after 2"], [2])


@pytest.mark.parametrize(("offsets", "skipped", "handled", "committed"), [((2, 3), 1, [], None), ((1, 3), 2, [1], 2)])
async def test_what_was_skipped_is_gone_back_for(offsets: tuple[int, ...], skipped: int, handled: list[int], committed: int | None) -> None:
    """Records at the committed offset or later that were not given: nothing after them is taken before they are."""
    stage, delivery = Stage(), Delivery(1)
    host = delivery.host(stage)
    await delivery.give(host, *offsets)
    await _idle()
    assert (delivery.back, stage.handled, await _commit(host)) == ([skipped], handled, committed)
    await delivery.give(host, 1, 2, 3)
    await _idle()
    assert (delivery.back, stage.handled, await _commit(host), delivery.errors) == ([skipped], [1, 2, 3], 4, [])


async def test_what_is_in_the_log_is_gone_back_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that Faust fetched and dropped, with none after them to show the hole; the process ends if they never come."""
    monkeypatch.setattr("streams.faust_host._WATCH_S", 0)
    monkeypatch.setattr("streams.faust_host._GIVE_UP_AFTER", 20)
    stage, delivery = Stage(), Delivery(1)
    host = delivery.host(stage)
    await delivery.give(host, 1)
    delivery.end = 3
    watching = asyncio.create_task(host.watch(lambda: [0]))
    await _idle()
    while not delivery.errors:  # noqa: ASYNC110  # it looks again and again, and nobody tells
        await asyncio.sleep(0)
    assert delivery.back == [2] * 5
    assert delivery.errors[0] == "partition 0: offset 2 is not delivered"
    await delivery.give(host, 2)
    delivery.back.clear()
    delivery.errors.clear()
    delivery.end = 3
    await _idle()
    watching.cancel()
    assert (delivery.back, delivery.errors, stage.handled) == ([], [], [1, 2])


async def test_a_membership_that_ended_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """While partitions move nothing is fetched, so nobody else would notice that nothing comes any more."""
    monkeypatch.setattr("streams.faust_host._WATCH_S", 0)
    delivery = Delivery(1)
    watching = asyncio.create_task(delivery.host(Stage()).watch(list))
    await _idle()
    assert delivery.errors == []
    delivery.ended = RuntimeError("the routine ended")
    await asyncio.wait_for(watching, 5)
    assert delivery.errors == ["the routine ended"]


async def test_a_membership_that_gets_nowhere_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never comes to its partitions, and starting again would: not while it gets on, nor while no broker answers."""
    monkeypatch.setattr("streams.faust_host._WATCH_S", 0)
    monkeypatch.setattr("streams.faust_host._GIVE_UP_AFTER", 3)
    delivery, looks, states = Delivery(1), 0, list[object]([None])

    def unsettled() -> object:
        nonlocal looks
        looks += 1
        return looks if states[-1] == "gets on" else states[-1]

    async def looked(times: int) -> None:
        wanted = looks + times
        while looks < wanted and not delivery.errors:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)

    watching = asyncio.create_task(delivery.host(Stage()).watch(list, unsettled))
    await looked(20)
    states.append("gets on")
    await looked(20)
    delivery.has_no_ends = True
    states.append("waiting")
    await looked(20)
    assert delivery.errors == []
    delivery.has_no_ends = False
    await asyncio.wait_for(watching, 5)
    assert delivery.errors == ["no partitions yet after 4 looks, with waiting: it is time to start again"]


async def test_what_somebody_else_did_is_passed_over() -> None:
    """Faust of a process that was paused goes back to where it stood then: below what is committed by now nothing is to be done."""
    stage, delivery = Stage(), Delivery(5)
    host = delivery.host(stage)
    await delivery.give(host, 5, 3, 4, 5, 6)
    await _idle()
    assert (stage.handled, await _commit(host), delivery.errors) == ([5, 6], 7, [])


async def test_what_the_log_does_not_hold_is_no_hole() -> None:
    """Offsets that are not there, such as a transaction's marks, are gone on over."""
    stage, delivery = Stage(), Delivery(1, there=(2, 5))
    host = delivery.host(stage)
    await delivery.give(host, 2, 5)
    await _idle()
    assert (stage.handled, await _commit(host), delivery.errors) == ([2, 5], 6, [])


async def test_of_a_long_conversation_the_rest_is_left_in_the_log() -> None:
    """It fills its own lane and no more, and the others go on; the position waits for it; it comes to its end in order."""
    loud = range(3 * LANE_MAX)
    quiet = range(len(loud), len(loud) + 10)
    stage, delivery = Stage(), Delivery(0, there=[*loud, *quiet], keys=lambda offset: b"loud" if offset in loud else _own_key(offset))
    stage.gates[0] = asyncio.Event()
    host = delivery.host(stage)
    await delivery.give(host, *loud)
    await delivery.give(host, *quiet)
    await _idle()
    assert stage.handled == [*quiet]
    assert (len(host._lanes), await _commit(host)) == (LANE_MAX, None)
    stage.gates[LANE_MAX + 5] = asyncio.Event()
    stage.gates[0].set()
    await _handled(stage, LANE_MAX + 5 + len(quiet))
    assert await _commit(host) == LANE_MAX + 5
    stage.gates[LANE_MAX + 5].set()
    await _handled(stage, len(loud) + len(quiet))
    assert (stage.handled, await _commit(host), delivery.errors) == ([*quiet, *loud], quiet.stop, [])
    assert len(host._left) == 0


@pytest.mark.parametrize("is_stopping", [False, True])
@pytest.mark.parametrize("is_full", [False, True])
async def test_nothing_overtakes_what_is_dropped(monkeypatch: pytest.MonkeyPatch, *, is_stopping: bool, is_full: bool) -> None:
    """While partitions go away or the process stops, records that still come must not be handled before those that were dropped.

    The row of a conversation says how far it is: what is delivered again below that would count as done, and never be answered.
    """
    if is_full:
        monkeypatch.setattr("streams.faust_host._IN_FLIGHT_MAX", 1)
    stage, delivery = Stage(), Delivery(0, keys=lambda _: b"one")
    stage.gates[0] = asyncio.Event()
    host = delivery.host(stage)
    taking = asyncio.create_task(delivery.give(host, 0, 1))
    await _idle()
    assert taking.done() != is_full
    ending = asyncio.create_task(host.drain(5.0) if is_stopping else host.forget())
    await _idle()
    await delivery.give(host, 2, 3)
    await _idle()
    stage.gates[0].set()
    await ending
    await taking
    if is_stopping:
        await delivery.give(host, 4)
    await _idle()
    assert (stage.handled, delivery.errors) == ([0], [])
    if not is_stopping:
        delivery.generation, delivery.committed = 2, 1
        await delivery.give(host, 1, 2, 3, generation=2)
        await _idle()
        assert stage.handled == [0, 1, 2, 3]


async def test_what_is_begun_between_loss_and_next_generation_is_done_again() -> None:
    """Faust fetches on when partitions are revoked, and changes the generation later: what was dropped then is no work under way."""
    stage, delivery = Stage(), Delivery(1, keys=lambda _: b"one")
    host = delivery.host(stage)
    await host.forget()
    stage.gates[1] = asyncio.Event()
    await delivery.give(host, 1, 2, 3)
    await _idle()
    delivery.generation = 2
    stage.gates[1].set()
    await _idle()
    assert (stage.handled, delivery.errors) == ([], [])
    delivery.end = 4
    watching = asyncio.create_task(host.watch(lambda: [0]))
    await delivery.give(host, 1, 2, 3, generation=2)
    await _idle()
    assert (stage.handled, await _commit(host), delivery.errors) == ([1, 2, 3], 4, [])
    watching.cancel()


async def test_a_long_conversation_behind_what_was_begun_too_early_goes_on() -> None:
    """Its lane is full of what was begun before the next generation when it is delivered again: all goes to the log and comes back."""
    loud = range(2 * LANE_MAX)
    stage, delivery = Stage(), Delivery(0, there=loud, keys=lambda _: b"loud")
    host = delivery.host(stage)
    await host.forget()
    stage.gates[0] = asyncio.Event()
    await delivery.give(host, *range(LANE_MAX))
    await _idle()
    delivery.generation = 2
    await delivery.give(host, *loud, generation=2)
    stage.gates[0].set()
    await _handled(stage, len(loud))
    assert (stage.handled, await _commit(host), delivery.errors) == ([*loud], loud.stop, [])


async def test_what_the_next_generation_was_not_given_is_gone_back_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where as much was begun before it: that says nothing of what was delivered since."""
    monkeypatch.setattr("streams.faust_host._WATCH_S", 0.0)
    stage, delivery = Stage(), Delivery(1, keys=lambda _: b"one")
    host = delivery.host(stage)
    await host.forget()
    stage.gates[1] = asyncio.Event()
    await delivery.give(host, 1, 2, 3)
    delivery.generation, delivery.end = 2, 4
    stage.gates[1].set()
    watching = asyncio.create_task(host.watch(lambda: [0]))
    async with asyncio.timeout(5):
        while not delivery.back:  # noqa: ASYNC110  # the host tells nobody
            await asyncio.sleep(0)
    watching.cancel()
    assert delivery.back[0] == 1


async def test_what_waited_for_the_broker_while_partitions_went_is_not_taken() -> None:
    """Nor is what came with it in one fetch, from other partitions: all of it is delivered again."""
    stage, delivery = Stage(), Delivery(0)
    answer = asyncio.Event()

    async def next_to_read(_: int) -> int:
        await answer.wait()
        return 0

    delivery.next_to_read = next_to_read  # type: ignore[method-assign]
    host = delivery.host(stage)
    fetched = {number: [SimpleNamespace(**vars(_record(0, b"%d" % number)) | {"partition": number})] for number in (0, 1)}
    taking = asyncio.create_task(host.take(fetched, 1))
    await _idle()
    await host.forget()
    answer.set()
    await taking
    await _idle()
    assert (stage.handled, host._partitions, delivery.errors) == ([], {}, [])


async def test_what_was_left_is_forgotten_with_the_partitions() -> None:
    """Delivered again after a rebalance it is handled once, in order."""
    loud = range(2 * LANE_MAX)
    stage, delivery = Stage(), Delivery(0, there=loud, keys=lambda _: b"loud")
    stage.gates[0] = asyncio.Event()
    host = delivery.host(stage)
    await delivery.give(host, *loud)
    await _idle()
    forgetting = asyncio.create_task(host.forget())
    await asyncio.sleep(0)
    delivery.generation = 2
    stage.owned_by_all = True
    stage.gates.pop(0).set()
    await forgetting
    assert stage.handled in ([], [0])
    stage.handled.clear()
    await delivery.give(host, *loud, generation=2)
    await _handled(stage, len(loud))
    assert (stage.handled, await _commit(host), delivery.errors) == ([*loud], loud.stop, [])


@pytest.mark.parametrize("is_checked", [True, False])
async def test_what_was_fetched_before_a_rebalance_is_passed_over(monkeypatch: pytest.MonkeyPatch, *, is_checked: bool) -> None:
    """It is delivered again from the committed offset on; taken as it comes it would be a hole to go back over at each rebalance."""
    if not is_checked:
        monkeypatch.setattr("streams.faust_host.without", lambda name: name == "generation")
    stage, delivery = Stage(), Delivery(3)
    host = delivery.host(stage)
    await delivery.give(host, 5, generation=0)
    await delivery.give(host, 3, 4, 5)
    await _idle()
    assert (delivery.back == []) == is_checked
    assert stage.handled == [3, 4, 5]


async def test_what_fails_for_a_partition_that_went_is_no_defect() -> None:
    """While the broker is asked about a gap the partition goes elsewhere; of one that is still here it is never gone over."""
    for went in (True, False):
        stage, delivery = Stage(), Delivery()
        host, asked, answer = delivery.host(stage), asyncio.Event(), asyncio.Event()

        async def first_at(_: int, __: int, asked: asyncio.Event = asked, answer: asyncio.Event = answer) -> int:
            asked.set()
            await answer.wait()
            raise ValueError("nothing can be asked of it here")

        delivery.first_at = first_at  # type: ignore[assignment,method-assign]
        await delivery.give(host, 1)
        giving = asyncio.create_task(delivery.give(host, 3))
        await asked.wait()
        if went:
            await host.forget()
        answer.set()
        await giving
        assert delivery.errors == ([] if went else ["nothing can be asked of it here"])
        assert 3 not in stage.handled
