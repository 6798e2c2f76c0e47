"""Canaries: one for each partition, through every stage and sink, and nothing else is any different for them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from infra.canaries import WAY, pass_on
from infra.kafka.producer import ProduceError
from infra.kafka.record import Record
from infra.settings import Settings
from infra.simulator.webhooks import text_body
from ingress.canary_to_raw import send_canaries
from schemas.channels import CHANNELS
from schemas.codec import decode, encode
from schemas.events.canary import CanaryEvent, canary_keys, is_canary
from schemas.ids import key_hash
from schemas.topics import RAW, TOPICS
from streams.canary_stage import WithCanaries
from tests.driver import ACCOUNT
from tests.history_events import NOON_MS
from tests.installation import Installation
from tests.reading import decided, records

KEY = canary_keys(8)[5]


@dataclass
class Log:
    """Takes records as a producer does, and tells the time."""

    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuses: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def produce(self, topic: str, **record: Any) -> asyncio.Future[int]:
        if self.refuses:
            self.refuses -= 1
            raise ProduceError("full")
        self.sent.append((topic, record))
        if len(self.sent) == 16:
            self.enough.set()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(len(self.sent))
        return future

    async def send(self, topic: str, **record: Any) -> int:
        return await self.produce(topic, **record)

    async def partitions(self, topic: str) -> int:
        assert topic == RAW.name
        return 8

    def now_ms(self) -> int:
        return NOON_MS + 2_000

    def monotonic(self) -> float:
        raise NotImplementedError


def record(topic: str, value: bytes = b"", key: str = KEY) -> Record:
    event = CanaryEvent(id="1", conversation=KEY, at=NOON_MS)
    return Record(topic, 5, 14, key.encode(), value or encode(event), [("ce_id", b"1")], NOON_MS)


@pytest.mark.parametrize("partitions", [1, 3, 8, 100])
def test_every_partition_has_a_key_of_its_own(partitions: int) -> None:
    """It is where Kafka's hash puts it, like every other key."""
    assert [key_hash(key.encode()) % partitions for key in canary_keys(partitions)] == list(range(partitions))
    assert all(is_canary(key.encode()) for key in canary_keys(partitions))
    assert not any(is_canary(f"{channel.prefix}:-:1".encode()) for channel in CHANNELS.values())


@pytest.mark.parametrize(("stage", "topic"), WAY)
async def test_it_goes_on_as_it_came(stage: str, topic: str) -> None:
    """Same key, bytes and partition, to the next topic of its way; how long it took and when it was here is told."""
    log: Any = Log()
    before = _told("ottla_canary_duration_seconds_sum", stage=stage) or 0
    await pass_on(record(topic), stage=stage, producer=log, clock=log)
    onward = WAY[stage, topic]
    came = record(topic)
    as_it_was = {"key": came.key, "value": came.value, "headers": came.headers, "partition": 5}
    assert log.sent == ([(onward.name, as_it_was)] if onward is not None else [])
    assert (_told("ottla_canary_duration_seconds_sum", stage=stage) or 0) - before == 2
    assert _told("ottla_canary_last_seen_timestamp_seconds", stage=stage, partition="5") == NOON_MS / 1000 + 2


def test_the_way_leads_through_every_message_topic_s_reader() -> None:
    """From [raw] to history, and only over topics whose table says that they hold canaries."""
    holds = {topic.name for topic in TOPICS if "CanaryEvent" in topic.event}
    assert {topic for _, topic in WAY} == holds
    assert all(onward is None or onward.name in holds for onward in WAY.values())


async def test_who_is_not_on_the_way_does_nothing() -> None:
    """History reads [outbound-high] too."""
    log: Any = Log()
    await pass_on(record("outbound-high"), stage="history", producer=log, clock=log)
    assert log.sent == []


async def test_a_canary_of_a_later_version_goes_on() -> None:
    """It is not this code's business what it says."""
    log: Any = Log()
    await pass_on(record("raw", b'{"v": 4}'), stage="streams", producer=log, clock=log)
    assert [topic for topic, _ in log.sent] == ["outbound-high"]


async def test_the_stage_itself_never_sees_one() -> None:
    """Everything else it does; what is owned by others by now is theirs."""
    log: Any = Log()
    seen = []

    class Stage:
        async def handle(self, record: Record, _: Any) -> None:
            seen.append(record.key)

    stage = WithCanaries(Stage(), producer=log, clock=log)
    await stage.handle(record("raw"), lambda: False)
    assert log.sent == []
    await stage.handle(record("raw"), lambda: True)
    await stage.handle(record("raw", key="wa:1:2"), lambda: True)
    assert ([topic for topic, _ in log.sent], seen) == (["outbound-high"], [b"wa:1:2"])


async def test_the_ingress_sends_one_to_each_partition() -> None:
    """Again and again, also after the log took none."""
    log: Any = Log(refuses=1)
    task = asyncio.create_task(send_canaries(log, log, interval_s=0.001, source="ingress-1"))
    await asyncio.wait_for(log.enough.wait(), 10)
    task.cancel()
    assert [sent["key"].decode() for _, sent in log.sent[:16]] == canary_keys(8) * 2
    assert {topic for topic, _ in log.sent} == {"raw"}
    assert {_told("ottla_canary_last_seen_timestamp_seconds", stage="ingress", partition=str(n)) for n in range(8)} == {NOON_MS / 1000 + 2}
    assert _told("ottla_canary_interval_seconds") == 0.001
    event = decode(log.sent[0][1]["value"], CanaryEvent)
    assert (event.at, event.conversation) == (NOON_MS + 2_000, canary_keys(8)[0])


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_the_whole_way(settings: Settings) -> None:
    """Through real roles, in every partition; nobody answers, nothing is shown, and messages are answered beside them."""
    async with Installation(settings, environment={"OTTLA_CANARY_INTERVAL": "0.5"}) as installation:
        body = text_body(account=ACCOUNT, phone="15550005551", texts=[("wamid.beside", "beside canaries")], at_s=1)
        assert await installation.post(body) == 200
        everywhere = set(range(8))
        async with asyncio.timeout(60):
            while await _seen(installation, "sinks", "history") != everywhere or not await _shown(installation):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        assert await _seen(installation, "streams", "streams") == await _seen(installation, "sinks", "sender") == everywhere
        assert len(installation.platform.books.accepted()) == 1
        assert [each["conversation"] for each in await _shown(installation)] == [f"wa:{ACCOUNT}:15550005551"]
    assert await records(settings, "dead-letters") == []
    assert len(decided(await records(settings, "inbound"))) == 1
    assert sum(not is_canary(each.key) for each in await records(settings, "sent")) == 1


async def _shown(installation: Installation) -> list[Any]:
    return list((await installation.get("/v1/conversations"))[1].get("conversations", []))


async def _seen(installation: Installation, role: str, stage: str) -> set[int]:
    """Return the partitions whose canaries came through a stage, as its process tells Prometheus."""
    async with installation.http.get(f"http://127.0.0.1:{installation.running[role].port}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    return {
        int(sample.labels["partition"])
        for family in families
        for sample in family.samples
        if sample.name == "ottla_canary_last_seen_timestamp_seconds" and sample.labels["stage"] == stage
    }


def _told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)
