"""Whoever waits for a key is told when a record of it was written."""

import asyncio

import pytest

from infra.kafka.admin import create_topics
from infra.kafka.follower import Follower, Watch, places_of
from infra.kafka.producer import Producer
from infra.settings import Settings
from schemas.ids import key_hash
from schemas.topics import INBOUND, SENT


@pytest.mark.servers
async def test_who_waits_is_told(settings: Settings) -> None:
    """Of its topics and keys, and of nothing else; the task goes on for who comes next, and ends when it is stopped."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    follower = Follower(settings, (INBOUND, SENT))
    try:
        with follower.watching((INBOUND,), [b"a"]) as one, follower.watching((INBOUND, SENT)) as any_key:
            async with asyncio.timeout(30):
                # Everybody is told once that it begins.
                await asyncio.gather(one.written.wait(), any_key.written.wait())
                one.written.clear()
                any_key.written.clear()
                await producer.send("sent", key=b"a", value=b"{}")
                await any_key.written.wait()
                any_key.written.clear()
                await producer.send("inbound", key=b"b", value=b"{}")
                await any_key.written.wait()
                assert not one.written.is_set()
                await producer.send("inbound", key=b"a", value=b"{}")
                await one.written.wait()
        # Nobody is there for a moment; then somebody comes, and another one changes what is read: nobody misses anything.
        async with asyncio.timeout(30):
            await asyncio.sleep(0.3)
            with follower.watching((INBOUND,), [b"a"]) as one:
                await one.written.wait()
                with follower.watching((SENT,), [b"c"]) as late:
                    await late.written.wait()
                    one.written.clear()
                    late.written.clear()
                    await producer.send("sent", key=b"c", value=b"{}")
                    await late.written.wait()
                    assert not one.written.is_set()
                    await producer.send("inbound", key=b"a", value=b"{}")
                    await one.written.wait()
    finally:
        await follower.stop()
        await producer.stop()
    assert follower._task is not None
    assert follower._task.done()


async def test_without_a_broker_nobody_is_told_and_nothing_breaks() -> None:
    """It goes on trying for as long as somebody waits."""
    follower = Follower(Settings(kafka="127.0.0.1:1", _env_file=None), (INBOUND,))
    with follower.watching((INBOUND,)) as watch:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.written.wait(), 0.5)
        assert follower._task is not None
        assert not follower._task.done()
    await follower.stop()


def test_only_what_is_waited_for_is_read() -> None:
    """Of keys their partitions, else all of a topic; a topic that is not there is left out."""
    counts = {"inbound": 8, "sent": 8}
    keyed = Watch((INBOUND, SENT), [b"wa:1:2", b"wa:1:3"])
    found = places_of([keyed], counts)
    assert found == {(topic, key_hash(key) % 8) for topic in counts for key in (b"wa:1:2", b"wa:1:3")}
    assert places_of([keyed, Watch((SENT,), None)], counts) == found | {("sent", number) for number in range(8)}
    assert places_of([Watch((INBOUND,), None)], {"sent": 8}) == set()
    assert places_of([], counts) == set()
