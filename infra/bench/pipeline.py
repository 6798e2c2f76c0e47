"""What is measured: processes on the servers of a run, with a platform and users of their own, which are not counted."""

import time
from contextlib import AsyncExitStack
from typing import Self

from infra.bench.figures import Slice, used
from infra.bench.http_load import HttpLoad
from infra.bench.plan import Plan
from infra.bench.processes import Child, Meter
from infra.bench.users import Users
from infra.simulator.platform import SimulatedPlatform
from infra.simulator.statuses import StatusTimes

_TIMES = StatusTimes(sent_s=0.05, delivered_s=0.2, read_share=0.0)


class Pipeline:
    """Processes that take webhooks at `port`, signed with `secret`; an async context manager. `children` are what it has started."""

    def __init__(self, *, plan: Plan, secret: bytes, port: int) -> None:
        self.plan = plan
        self.secret = secret
        self.port = port
        self.meter = Meter()
        self.platform = SimulatedPlatform(webhook_url=f"http://127.0.0.1:{port}/webhooks/whatsapp", app_secret=secret, times=_TIMES)
        self.load = HttpLoad(port, connections=plan.connections)
        self.users = Users(self.platform, self.load, secret=secret)
        self.children: dict[str, Child] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            for each in (self.platform, self.load):
                await self._stack.enter_async_context(each)
            await self._begin()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _begin(self) -> None:
        """Start the processes, and see to it that `_stack` ends them."""
        raise NotImplementedError

    async def slice(self, seconds: float) -> tuple[Slice, list[float]]:
        """Have the users converse for so long, wait until all of it is in history; return what that took and the time of each reply."""
        before, begun = self.meter.cpu_s(), time.perf_counter()
        times = await self.users.converse_for(seconds, conversations=self.plan.conversations, patience_s=self.plan.patience_s)
        wall_s = time.perf_counter() - begun
        await self.settled()
        return Slice(cpu_s=used(before, self.meter.cpu_s()), count=len(times), wall_s=wall_s), times

    async def settled(self) -> None:
        """Wait until all statuses were posted and every group has handled all there is; OttlaError if that takes too long."""
        raise NotImplementedError
