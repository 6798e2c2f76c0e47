"""canaries -> [raw]: one for each partition, now and then. Nobody waits for them; where they come through is in the metrics."""

import asyncio

import structlog

from infra.clock import Clock
from infra.kafka.producer import ProduceError, Producer, settle
from infra.metrics import CANARY_INTERVAL, CANARY_LAST_SEEN
from schemas.codec import cloud_event_headers, encode
from schemas.events.canary import CanaryEvent, canary_keys
from schemas.ids import event_id
from schemas.topics import RAW

log = structlog.get_logger()


async def send_canaries(producer: Producer, clock: Clock, *, interval_s: float, source: str) -> None:
    """Produce a canary for each partition of [raw] every `interval_s` seconds, the first ones after that; runs until cancelled.

    `source` tells this process's canaries from those of others. What the log does not take is not tried again: its absence is what tells.
    """
    CANARY_INTERVAL.set(interval_s)
    while True:
        await asyncio.sleep(interval_s)
        try:
            keys = canary_keys(await producer.partitions(RAW.name))
            await settle([_produce(producer, key, source, clock.now_ms()) for key in keys])
        except ProduceError as error:
            log.warning("canaries were not stored", error=str(error))
            continue
        for number in range(len(keys)):
            CANARY_LAST_SEEN.labels("ingress", str(number)).set(clock.now_ms() / 1000)


def _produce(producer: Producer, key: str, source: str, now_ms: int) -> asyncio.Future[int]:
    event = CanaryEvent(id=event_id("canary", source, key, str(now_ms)), conversation=key, at=now_ms)
    headers = cloud_event_headers(event_id=event.id, event_type="ottla.canary", source="ingress", time_ms=now_ms)
    return producer.produce(RAW.name, key=key.encode(), value=encode(event), headers=headers)
