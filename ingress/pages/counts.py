"""How many failures are open and how many sends unknown, counted no more often than it is worth."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from infra.cassandra.dead_letters import OPEN, Filter, Group, read_groups
from infra.cassandra.sends import read_unknown_sends
from infra.cassandra.session import Cassandra

SENDS_COUNTED = 50
"""So many unknown sends are counted; then it is said that there are more."""

_LEAST_S = 1.0
_REST = 20.0
_TENANTS_MAX = 100
_PATIENCE_S = 1.0


class Counts(NamedTuple):
    """The open dead letters by stage and cause, and how many sends are unknown; `more_*`: and more than that."""

    groups: list[Group]
    more_letters: bool
    unknown_sends: int
    more_sends: bool

    @property
    def open_letters(self) -> int:
        """How many dead letters are open."""
        return sum(each.open for each in self.groups)


class Counter:
    """Counts for each tenant. A count is good for a second, or for twenty times as long as it took: many open pages count once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: dict[str, tuple[float, Counts]] = {}
        self._counting: dict[str, asyncio.Task[Counts]] = {}

    async def count(self, cassandra: Cassandra, tenant: str) -> Counts | None:
        """Return the counts of a tenant or of all with EVERY_TENANT; None if it takes long and there are none from before.

        CassandraAwayError when the database does not answer.
        """
        good_until, counts = self._counted.get(tenant, (float("-inf"), None))
        if counts is not None and self._clock() < good_until:
            return counts
        task = self._counting.get(tenant)
        if task is None:
            task = self._counting[tenant] = asyncio.create_task(self._count(cassandra, tenant), name="count failures")
            task.add_done_callback(lambda done: self._ended(done, tenant))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await asyncio.shield(task)
        except TimeoutError:
            return counts

    async def _count(self, cassandra: Cassandra, tenant: str) -> Counts:
        begun = self._clock()
        (groups, cursor), sends = await asyncio.gather(
            read_groups(cassandra, tenant=tenant, wanted=Filter(state=OPEN)),
            read_unknown_sends(cassandra, tenant=tenant, limit=SENDS_COUNTED),
        )
        counts = Counts(groups, cursor is not None, len(sends.sends), sends.before is not None)
        ended = self._clock()
        if len(self._counted) >= _TENANTS_MAX:
            self._counted.clear()
        self._counted[tenant] = ended + max(_LEAST_S, _REST * (ended - begun)), counts
        return counts

    def _ended(self, task: asyncio.Task[Counts], tenant: str) -> None:
        del self._counting[tenant]
        if not task.cancelled():
            # Whoever waited has it; where nobody did any more, it is not to be complained of.
            task.exception()
