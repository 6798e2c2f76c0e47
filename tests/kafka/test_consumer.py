"""infra.kafka: on a real broker, records are placed as Java places them, and no rebalance, kill or pause loses or reorders one."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.admin import create_topics
from infra.kafka.commits import LostPartitionError
from infra.kafka.consumer import LaneConsumer, Taken
from infra.kafka.group_log import GroupLog
from infra.kafka.producer import ProduceError, Producer, settle
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.ids import key_hash
from schemas.topics import INBOUND, RAW
from tests.kafka.own_broker import own_broker
from tests.reading import committed

pytestmark = pytest.mark.servers


class Seen:
    """What consumers handled, and an event for each number of records."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, list[int]] = defaultdict(list)
        self.count = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []

    def add(self, records: Sequence[Record]) -> None:
        for record in records:
            self.by_key[record.key].append(int(record.value))
            self.count += 1
        for wanted, event in self._waiting:
            if self.count >= wanted:
                event.set()

    async def at_least(self, count: int) -> None:
        event = asyncio.Event()
        self._waiting.append((count, event))
        if self.count < count:
            await asyncio.wait_for(event.wait(), 60)

    def first_times(self) -> dict[bytes, list[int]]:
        """Each key's numbers without the repetitions that a takeover may bring."""
        return {key: list(dict.fromkeys(numbers)) for key, numbers in self.by_key.items()}


def fatal(error: BaseException) -> None:
    raise AssertionError(error)


def consumer(settings: Settings, seen: Seen, *, worker: str, batch_max: int = 10, unhurried: Sequence[str] = ()) -> LaneConsumer:
    async def handle(records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        seen.add(records)

    own = settings.model_copy(update={"worker": worker})
    return LaneConsumer(own, group="group", topics=[RAW, INBOUND], handle=handle, on_fatal=fatal, batch_max=batch_max, unhurried=unhurried)


async def fill(producer: Producer, numbers: range, keys: int = 50) -> None:
    await settle([producer.produce(RAW.name, key=b"key-%d" % (n % keys), value=b"%d" % n) for n in numbers])


async def test_records_are_placed_by_murmur2(settings: Settings) -> None:
    """The partition of a record is its key's hash modulo the partition count, as Java's producer has it."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    seen: dict[bytes, int] = {}
    done = asyncio.Event()

    async def handle(records: Sequence[Record]) -> None:
        seen.update({record.key: record.partition for record in records})
        if len(seen) == 200:
            done.set()

    reader = LaneConsumer(settings, group="group", topics=[RAW], handle=handle, on_fatal=fatal)
    try:
        await fill(producer, range(200), keys=200)
        await reader.start()
        await asyncio.wait_for(done.wait(), 60)
        partitions = await producer.partitions(RAW.name)
        assert partitions == settings.partitions
        assert seen == {key: key_hash(key) % partitions for key in seen}
    finally:
        await reader.stop()
        await producer.stop()


@pytest.mark.parametrize("unhurried", [(), (RAW.name, INBOUND.name)], ids=["hurried", "unhurried"])
async def test_a_second_member_takes_over_in_order(settings: Settings, unhurried: Sequence[str]) -> None:
    """While members come and go, every record is handled and each key's first times are in order."""
    await create_topics(settings)
    producer, seen = Producer(settings, client_id="test"), Seen()
    await producer.start()
    first = consumer(settings, seen, worker="one", unhurried=unhurried)
    second = consumer(settings, seen, worker="two", unhurried=unhurried)
    await first.start()
    try:
        await fill(producer, range(1000))
        await seen.at_least(500)
        await second.start()
        await fill(producer, range(1000, 2000))
        await asyncio.wait_for(second.ready.wait(), 30)
        await first.stop()
        await fill(producer, range(2000, 3000))
        await asyncio.wait_for(_all(seen, 3000), 60)
    finally:
        await second.stop()
        await producer.stop()
    for numbers in seen.first_times().values():
        assert numbers == sorted(numbers)
    assert sum(map(len, seen.first_times().values())) == 3000


async def _all(seen: Seen, count: int) -> None:
    while sum(map(len, seen.first_times().values())) < count:
        await seen.at_least(seen.count + 1)


async def test_nothing_unfinished_is_committed(settings: Settings) -> None:
    """A member that stops while a handler hangs commits only below it; the next one gets that record and those after it again."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    keys = [b"a", b"b"]
    partition = key_hash(keys[0]) % settings.partitions
    await settle([producer.produce(RAW.name, key=key, value=b"%d" % n, partition=partition) for n, key in enumerate(keys * 3)])
    handled: list[bytes] = []
    others_done = asyncio.Event()

    async def hang_on_a(records: Sequence[Record]) -> None:
        if records[0].key == b"a":
            await asyncio.Event().wait()
        handled.extend(record.value for record in records)
        if len(handled) == 3:
            others_done.set()

    first = LaneConsumer(settings, group="group", topics=[RAW], handle=hang_on_a, on_fatal=fatal)
    await first.start()
    await asyncio.wait_for(others_done.wait(), 60)
    await first.stop(timeout_s=0.1)
    seen = Seen()
    second = consumer(settings, seen, worker=settings.worker)
    await second.start()
    try:
        await seen.at_least(6)
        assert seen.by_key == {b"a": [0, 2, 4], b"b": [1, 3, 5]}
    finally:
        await second.stop()
        await producer.stop()


async def test_an_escaped_error_is_fatal_and_stays_uncommitted(settings: Settings) -> None:
    """When a handler lets an error out the process is told, and the record comes again to the next member."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    await producer.send(RAW.name, key=b"a", value=b"1")
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def fail(_: Sequence[Record]) -> None:
        raise RuntimeError("defect")

    first = LaneConsumer(settings, group="group", topics=[RAW], handle=fail, on_fatal=told.set_result)
    await first.start()
    assert str(await asyncio.wait_for(told, 60)) == "defect"
    await first.stop()
    seen = Seen()
    second = consumer(settings, seen, worker=settings.worker)
    await second.start()
    try:
        await seen.at_least(1)
    finally:
        await second.stop()
        await producer.stop()


async def test_partitions_are_known_before_their_records(settings: Settings) -> None:
    """What must be learnt of a taken partition is learnt before its first record is handled."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    await fill(producer, range(50))
    known: set[int] = set()
    strangers: list[int] = []
    seen = Seen()

    async def taken(partitions: Sequence[Taken]) -> None:
        await asyncio.sleep(0.05)
        known.update(each.partition for each in partitions)

    async def handle(records: Sequence[Record]) -> None:
        strangers.extend(record.partition for record in records if record.partition not in known)
        seen.add(records)

    reader = LaneConsumer(settings, group="group", topics=[RAW], handle=handle, on_fatal=fatal, taken=taken)
    await reader.start()
    try:
        await seen.at_least(50)
        assert strangers == []
    finally:
        await reader.stop()
        await producer.stop()


class Claiming:
    """Consumers on one partition that claim each record and end as its key says: done, returned, begun or not begun."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.found: list[set[int]] = []

    async def run(self, *, until: int, waiting: frozenset[bytes] = frozenset()) -> None:
        """Take the partition, handle records until so many were claimed (0: only take it), and go without ending what hangs.

        Records with a key that is `waiting` hang without a claim.
        """
        taken, enough = asyncio.Event(), asyncio.Event()
        claimed = 0

        async def learn(partitions: Sequence[Taken]) -> None:
            self.found += [set(each.claims) for each in partitions if each.partition == 3]
            taken.set()

        async def handle(records: Sequence[Record]) -> None:
            nonlocal claimed
            key = records[0].key
            if key in waiting or until == 0:
                await asyncio.Event().wait()
            assert await member.claim(records[0]) > 0
            if key != b"not begun":
                member.begins(records[0])
            if key == b"returned":
                member.unclaim(records[0])
            claimed += 1
            if claimed == until:
                enough.set()
            if key != b"done":
                await asyncio.Event().wait()

        member = LaneConsumer(self._settings, group="group", topics=[RAW], handle=handle, on_fatal=fatal, taken=learn)
        await member.start()
        await asyncio.wait_for((enough if until else taken).wait(), 60)
        await member.stop(timeout_s=0.1)


async def fill_in_order(settings: Settings, *keys: bytes) -> None:
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    await settle([producer.produce(RAW.name, key=key, value=b"0", partition=3) for key in keys])
    await producer.stop()


async def test_claims_are_found_by_the_next_owner(settings: Settings) -> None:
    """What was claimed and begun is told to whoever takes the partition; what was finished, given back or not begun is not."""
    await fill_in_order(settings, b"begun", b"done", b"returned", b"not begun")
    claiming = Claiming(settings)
    await claiming.run(until=4)
    await claiming.run(until=0)
    assert claiming.found == [set(), {0}]


async def test_without_the_file_every_claim_may_have_happened(settings: Settings) -> None:
    """On another machine nobody can know what began, so that all claims count."""
    await fill_in_order(settings, b"begun", b"not begun")
    here = Claiming(settings)
    await here.run(until=2)
    elsewhere = Claiming(settings.model_copy(update={"home": settings.home / "elsewhere"}))
    await elsewhere.run(until=0)
    assert elsewhere.found == [{0, 1}]


async def test_claims_stay_until_their_records_are_done(settings: Settings) -> None:
    """An owner that is killed while it waits for what became of an earlier owner's claim leaves that claim to the next one."""
    await fill_in_order(settings, b"waits", b"begun")
    claiming = Claiming(settings)
    await claiming.run(until=1, waiting=frozenset({b"waits"}))
    await fill_in_order(settings, b"not begun")
    await claiming.run(until=1, waiting=frozenset({b"waits", b"begun"}))
    await claiming.run(until=0)
    assert claiming.found == [set(), {1}, {1}]


async def test_a_replaced_worker_cannot_claim(settings: Settings) -> None:
    """When another process has taken a worker's identity, as after a restart, the old one's next claim is refused."""
    await create_topics(settings)
    producer, seen = Producer(settings, client_id="test"), Seen()
    await producer.start()
    started, go_on = asyncio.Event(), asyncio.Event()
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handle(records: Sequence[Record]) -> None:
        started.set()
        await go_on.wait()
        try:
            await first.claim(records[0])
        except LostPartitionError:
            outcome.set_result("refused")
            raise
        outcome.set_result("granted")

    first = LaneConsumer(settings, group="group", topics=[RAW], handle=handle, on_fatal=lambda _: None)
    await first.start()
    await producer.send(RAW.name, key=b"a", value=b"1")
    await asyncio.wait_for(started.wait(), 60)
    second = consumer(settings, seen, worker=settings.worker)
    await second.start()
    try:
        await seen.at_least(1)
        go_on.set()
        assert await asyncio.wait_for(outcome, 60) == "refused"
    finally:
        await second.stop()
        await first.stop(timeout_s=0.1)
        await producer.stop()


@pytest.mark.timeout(120)
async def test_stopping_without_a_broker(tmp_path: Path) -> None:
    """What cannot be committed any more does not hold up the end of the process; it is repeated by whoever has the partition next."""
    started, go_on, handled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(_: Sequence[Record]) -> None:
        started.set()
        await go_on.wait()
        handled.set()

    async with own_broker(tmp_path) as broker:
        own = Settings(kafka=broker.address, home=tmp_path / "home", partitions=2, worker="one")
        member = LaneConsumer(own, group="group", topics=[RAW], handle=handle, on_fatal=fatal)
        producer = Producer(own, client_id="test")
        try:
            await create_topics(own)
            await producer.start()
            await member.start()
            await producer.send(RAW.name, key=b"a", value=b"1")
            await asyncio.wait_for(started.wait(), 60)
            broker.kill()
            go_on.set()
            await asyncio.wait_for(handled.wait(), 10)
            await asyncio.wait_for(member.stop(), 10)
        finally:
            await producer.stop(timeout_s=0.1)


async def test_a_broker_that_does_not_answer_is_an_error_in_time(settings: Settings) -> None:
    """A record that nobody acknowledges fails within the delivery timeout instead of waiting for ever."""
    producer = Producer(settings.model_copy(update={"kafka": "127.0.0.1:9"}), client_id="test", delivery_timeout_s=1.0)
    await producer.start()
    try:
        with pytest.raises(ProduceError):
            await asyncio.wait_for(producer.send(RAW.name, key=b"a", value=b"1"), 30)
    finally:
        await producer.stop(timeout_s=0.1)


async def test_who_only_waits_leaves_its_record_at_a_rebalance(settings: Settings) -> None:
    """A handler that waits is told when its partition goes, so that a takeover does not wait for it; the record is handled after that."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    await producer.send(RAW.name, key=b"a", value=b"1")
    waiting, handled = asyncio.Event(), asyncio.Event()

    async def wait(_: Sequence[Record]) -> None:
        if waiting.is_set():
            handled.set()
            return
        waiting.set()
        await first.leaving.wait()
        raise LostPartitionError

    async def handle(_: Sequence[Record]) -> None:
        handled.set()

    first = LaneConsumer(settings.model_copy(update={"worker": "one"}), group="group", topics=[RAW], handle=wait, on_fatal=fatal)
    second = LaneConsumer(settings.model_copy(update={"worker": "two"}), group="group", topics=[RAW], handle=handle, on_fatal=fatal)
    await first.start()
    try:
        await asyncio.wait_for(waiting.wait(), 60)
        await second.start()
        await asyncio.wait_for(handled.wait(), 60)
        assert not first.leaving.is_set()
    finally:
        await asyncio.gather(first.stop(), second.stop())
        await producer.stop()


async def test_a_member_whose_group_routine_ended_says_so(settings: Settings) -> None:
    """Between an old assignment and the next one nothing is fetched, so nobody else would notice that no next one comes."""
    await create_topics(settings)
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def handle(_: Sequence[Record]) -> None:
        return

    member = LaneConsumer(settings, group="group", topics=[RAW], handle=handle, on_fatal=told.set_result)
    producer = Producer(settings, client_id="test")
    await producer.start()
    await member.start()
    await asyncio.wait_for(member.ready.wait(), 30)
    member._open.clear()  # as when partitions were taken away
    await fill(producer, range(100))
    coordinator = member._consumer._coordinator
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_exception(KafkaError("the routine ended"))
    running, coordinator._coordination_task = coordinator._coordination_task, ended
    error = await asyncio.wait_for(told, 30)
    assert "the routine ended" in str(error)
    coordinator._coordination_task = running
    await member.stop()
    await producer.stop()


async def test_a_claim_that_nobody_waits_for_any_more(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no broker answers, whoever wants a claim gives up, and the record is done some other way: the claim is not made after all."""
    await create_topics(settings)
    member: LaneConsumer
    given_up, done = asyncio.Event(), asyncio.Event()
    is_away = True

    async def handle(records: Sequence[Record]) -> None:
        if records[0].value == b"0":
            with suppress(TimeoutError):
                await asyncio.wait_for(member.claim(records[0]), 1)
            given_up.set()
        elif records[0].value == b"1":
            done.set()

    failures: list[BaseException] = []
    member = LaneConsumer(settings, group="group", topics=[RAW], handle=handle, on_fatal=failures.append)
    producer = Producer(settings, client_id="test")
    await producer.start()
    await member.start()
    await asyncio.wait_for(member.ready.wait(), 30)
    commit = member._consumer.commit

    async def perhaps(offsets: object) -> None:
        if is_away:
            raise KafkaError("no answer")
        await commit(offsets)

    monkeypatch.setattr(member._consumer, "commit", perhaps)
    for number in range(2):
        await producer.send(RAW.name, key=b"key", value=b"%d" % number)
    await asyncio.wait_for(given_up.wait(), 30)
    await asyncio.wait_for(done.wait(), 30)
    is_away = False
    log = GroupLog(settings, group="group")
    number = key_hash(b"key") % settings.partitions
    async with asyncio.timeout(30):
        while await log.committed(RAW.name, number) < 2:
            assert not failures
            await asyncio.sleep(0.05)
    assert not failures
    await log.close()
    await member.stop()
    await producer.stop()


async def test_what_is_taken_at_once_needs_no_lane(settings: Settings) -> None:
    """What is taken on its way to a lane is never handed over, and is committed like all that was."""
    await create_topics(settings)
    producer, seen = Producer(settings, client_id="test"), Seen()
    await producer.start()
    await fill(producer, range(200), keys=2)
    at_once: list[int] = []

    def take(record: Record) -> bool:
        if record.key == b"key-1":
            at_once.append(int(record.value))
        return record.key == b"key-1"

    async def handle(records: Sequence[Record]) -> None:
        seen.add(records)

    member = LaneConsumer(settings, group="group", topics=[RAW], handle=handle, on_fatal=fatal, at_once=take)
    await member.start()
    try:
        await seen.at_least(100)
        while not await committed(settings, "group", RAW.name):  # noqa: ASYNC110  # the broker tells nobody of a commit
            await asyncio.sleep(0.1)
        assert (seen.by_key, at_once) == ({b"key-0": [*range(0, 200, 2)]}, [*range(1, 200, 2)])
    finally:
        await member.stop()
        await producer.stop()


async def test_unhurried_topics_are_read_many_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked for a few times a second, in order and none twice; those of other topics come as they are written."""
    await create_topics(settings)
    producer, seen, came = Producer(settings, client_id="test"), Seen(), asyncio.Event()
    await producer.start()

    async def handle(records: Sequence[Record]) -> None:
        seen.add(records)
        if records[0].key == b"hurried":
            came.set()

    topics = [RAW, INBOUND]
    member = LaneConsumer(settings, group="group", topics=topics, handle=handle, on_fatal=fatal, unhurried=[INBOUND.name])
    await member.start()
    try:
        await asyncio.wait_for(member.ready.wait(), 30)
        fetched: list[set[str]] = []
        getmany = member._consumer.getmany

        async def noting(**options: int) -> dict[TopicPartition, list[object]]:
            found: dict[TopicPartition, list[object]] = await getmany(**options)
            fetched.append({each.topic.removeprefix(settings.topic_prefix) for each in found})
            return found

        monkeypatch.setattr(member._consumer, "getmany", noting)
        begun = time.monotonic()
        for number in range(0, 200, 2):
            await producer.send(INBOUND.name, key=b"unhurried", value=b"%d" % number)
            came.clear()
            await producer.send(RAW.name, key=b"hurried", value=b"%d" % (number + 1))
            await asyncio.wait_for(came.wait(), 30)
        await seen.at_least(200)
        most = 2 + (time.monotonic() - begun) / 0.25
        assert seen.by_key == {b"unhurried": [*range(0, 200, 2)], b"hurried": [*range(1, 200, 2)]}
        assert sum(INBOUND.name in each for each in fetched) <= most
    finally:
        await member.stop()
        await producer.stop()


async def test_a_claim_commits_its_partition_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in other partitions is committed a moment later with all the rest, however many claims are made meanwhile."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    others_done, claimed = asyncio.Event(), asyncio.Event()

    async def handle(records: Sequence[Record]) -> None:
        if records[0].partition == 3:
            await member.claim(records[0])
            claimed.set()
        elif records[0].value == b"9":
            others_done.set()

    member = LaneConsumer(settings, group="group", topics=[RAW], handle=handle, on_fatal=fatal)
    await member.start()
    try:
        await asyncio.wait_for(member.ready.wait(), 30)
        commits: list[set[int]] = []
        commit = member._consumer.commit

        async def noting(offsets: dict[TopicPartition, object]) -> None:
            commits.append({source.partition for source in offsets})
            await commit(offsets)

        member._commits._all_due_at = asyncio.get_running_loop().time() + 600
        await asyncio.sleep(0)
        monkeypatch.setattr(member._consumer, "commit", noting)
        for number in range(10):
            await producer.send(RAW.name, key=b"other", value=b"%d" % number, partition=5)
        await asyncio.wait_for(others_done.wait(), 30)
        commits.clear()
        await producer.send(RAW.name, key=b"claimed", value=b"0", partition=3)
        await asyncio.wait_for(claimed.wait(), 30)
        assert commits == [{3}]
        member._commits._all_due_at = 0.0
        await producer.send(RAW.name, key=b"claimed", value=b"1", partition=3)
        async with asyncio.timeout(30):
            while len(commits) < 2:  # noqa: ASYNC110  # nobody tells of a commit
                await asyncio.sleep(0.01)
        assert {3, 5} <= commits[1]
    finally:
        await member.stop()
        await producer.stop()
