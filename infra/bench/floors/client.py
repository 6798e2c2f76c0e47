"""Floor: an aiohttp client that posts a message and reads the answer, nothing else. The command line has the URL."""

import asyncio
import sys
import time

import aiohttp

from infra.bench.floors.told import Work, do_as_told

_AT_ONCE = 64
_MESSAGE = {
    "messaging_product": "whatsapp",
    "recipient_type": "individual",
    "to": "15550000000",
    "type": "text",
    "text": {"body": "echo: 1 " + "Is my order on its way? " * 4},
    "biz_opaque_callback_data": "o1.send_0123456789abcdef0123456789.0123456789ab",
}


async def _open() -> Work:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_AT_ONCE))
    headers = {"Authorization": "Bearer floor"}

    async def work(seconds: float) -> int:
        until = time.perf_counter() + seconds

        async def one_by_one() -> int:
            count = 0
            while time.perf_counter() < until:
                async with session.post(sys.argv[1], json=_MESSAGE, headers=headers) as answer:
                    await answer.read()
                count += 1
            return count

        return sum(await asyncio.gather(*(one_by_one() for _ in range(_AT_ONCE))))

    return work


if __name__ == "__main__":
    do_as_told(_open)
