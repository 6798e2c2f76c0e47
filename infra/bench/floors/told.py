"""How floors that are no servers are told what to do: a number on a line, answered by what was done, as a line of JSON."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
import uvloop

Work = Callable[[float], Awaitable[int]]
"""Does as much as the number says and returns how many things were done."""


class Done(msgspec.Struct, frozen=True):
    """What was done: how many things, in how many processor seconds of this process and in how many seconds of the clock."""

    count: int
    cpu_s: float
    wall_s: float


def do_as_told(open_work: Callable[[], Awaitable[Work]]) -> None:
    """Get ready, then obey one line after the other until there are no more."""
    uvloop.run(_obey(open_work))


async def _obey(open_work: Callable[[], Awaitable[Work]]) -> None:
    work = await open_work()
    _say(Done(count=0, cpu_s=0.0, wall_s=0.0))
    while line := await asyncio.to_thread(sys.stdin.readline):
        cpu_s, begun = time.process_time(), time.perf_counter()
        count = await work(float(line))
        _say(Done(count=count, cpu_s=time.process_time() - cpu_s, wall_s=time.perf_counter() - begun))


def _say(done: Done) -> None:
    sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
    sys.stdout.flush()
