"""Canaries on their way: each host of a stage or sink hands them on here, and its handler never sees them.

So they wait in the same partitions and lanes as messages, are committed like them, and leave no trace: no row, no history, no call of the
platform, no count of messages.
"""

from infra.clock import Clock
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.metrics import CANARY_LAST_SEEN, CANARY_SECONDS
from schemas.codec import DecodeError, decode
from schemas.events.canary import CanaryEvent
from schemas.topics import OUTBOUND, RAW, SENT, Topic

WAY: dict[tuple[str, str], Topic | None] = {
    ("streams", RAW.name): OUTBOUND["high"],
    ("sender", OUTBOUND["high"].name): SENT,
    ("history", SENT.name): None,
}
"""Who takes a canary from which topic, and where it goes next (None: nowhere, that was the whole way)."""


async def pass_on(record: Record, *, stage: str, producer: Producer, clock: Clock) -> None:
    """Hand a canary on to where it goes next, acknowledged, and note that it was here; ProduceError if the log does not take it.

    A stage that reads the topic without being on the way does nothing with it.
    """
    if (stage, record.topic) not in WAY:
        return
    onward = WAY[stage, record.topic]
    if onward is not None:
        await producer.send(onward.name, key=record.key, value=record.value, headers=record.headers, partition=record.partition)
    try:
        event = decode(record.value, CanaryEvent)
    except DecodeError:
        return  # of a version that this code does not know: it goes on, and those behind may know it
    now_ms = clock.now_ms()
    CANARY_SECONDS.labels(stage).observe(max(0, now_ms - event.at) / 1000)
    CANARY_LAST_SEEN.labels(stage, str(record.partition)).set(now_ms / 1000)
