"""A stage that hands canaries on and everything else, as a span of its trace, to the real one."""

from collections.abc import Callable

from infra.canaries import pass_on
from infra.clock import Clock
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.tracing import consumed
from schemas.events.canary import is_canary
from streams.faust_host import Stage
from streams.raw_to_outbound import STAGE


class WithCanaries:
    """What the host runs in a live worker; a replay runs the real stage alone."""

    def __init__(self, stage: Stage, *, producer: Producer, clock: Clock) -> None:
        self._stage = stage
        self._producer = producer
        self._clock = clock

    async def handle(self, record: Record, owned: Callable[[], bool]) -> None:
        """Deal with one record; a canary that comes a second time after a crash goes on a second time, which harms nothing."""
        if not is_canary(record.key):
            with consumed([record], group=STAGE):
                await self._stage.handle(record, owned)
        elif owned():
            await pass_on(record, stage=STAGE, producer=self._producer, clock=self._clock)
