"""infra.kafka.group_log on a real broker: what a group has to read next, and which record stands where."""

from collections import Counter
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from infra.kafka.admin import create_topics
from infra.kafka.group_log import GroupLog
from infra.kafka.producer import Producer
from infra.retries import AwayError
from infra.settings import Settings
from schemas.topics import RAW
from tests.topic_settings import forget_before


@pytest.mark.servers
async def test_it_says_what_the_broker_has(settings: Settings) -> None:
    """Nothing committed is the beginning; then it is what was committed last, also by others; records are found from an offset on."""
    await create_topics(settings)
    group, source = f"{settings.topic_prefix}streams", TopicPartition(RAW.named(settings.topic_prefix), 3)
    producer = Producer(settings, client_id="test")
    await producer.start()
    member = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=group, enable_auto_commit=False)
    await member.start()
    log = GroupLog(settings, group="streams")
    try:
        for _ in range(4):
            await producer.send(RAW.name, key=b"key", value=b"{}", partition=3)
        assert await log.next_to_read(RAW.name, 3) == 0
        member.assign([source])
        await member.commit({source: 2})
        assert (await log.next_to_read(RAW.name, 3), await log.next_to_read(RAW.name, 4), await log.first_at(RAW.name, 3, 1)) == (2, 0, 1)
    finally:
        await log.close()
        await member.stop()
        await producer.stop()


@pytest.mark.servers
async def test_what_is_no_more_and_what_is_not_yet(settings: Settings) -> None:
    """Where the log begins higher, that is the next to read and the first; behind its end there is none yet."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    log = GroupLog(settings, group="streams")
    try:
        for _ in range(3):
            await producer.send(RAW.name, key=b"key", value=b"{}", partition=5)
        await forget_before(settings, RAW.name, 5, 2)
        assert (await log.next_to_read(RAW.name, 5), await log.first_at(RAW.name, 5, 0)) == (2, 2)
        assert await log.ends(RAW.name, (4, 5)) == {4: 0, 5: 3}
        with pytest.raises(AwayError, match="from offset 3 on"):
            await log.first_at(RAW.name, 5, 3)
    finally:
        await log.close()
        await producer.stop()


@pytest.mark.servers
async def test_where_the_log_ends_is_one_request(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every streams worker asks each second: nothing is fetched for it, and nothing asked of each partition."""
    await create_topics(settings)
    asked: Counter[str] = Counter()
    send = AIOKafkaClient.send

    async def counted(client: Any, node: int, request: Any, **options: Any) -> Any:
        asked[type(request).__name__] += 1
        return await send(client, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", counted)
    log = GroupLog(settings, group="streams")
    try:
        for _ in range(3):
            assert await log.ends(RAW.name, range(8)) == dict.fromkeys(range(8), 0)
    finally:
        await log.close()
    assert asked == {"OffsetRequest": 3}
