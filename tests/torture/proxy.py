"""A TCP proxy on loopback that can be made slow: every piece of an answer comes later by so many seconds, in order."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

_PIECE_BYTES = 65_536
_WAITING_MAX = 1_000


class SlowProxy:
    """Passes connections on to `target_port`; `async with` listens and closes. `delay_s` may be changed at any time."""

    def __init__(self, target_port: int) -> None:
        self.delay_s = 0.0
        self.port = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        connections = dict(self._connections)
        for connection, writer in connections.items():
            connection.cancel()
            # A task that was cancelled before its first step never ran its `finally`.
            writer.transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass both ways until either side ends; an end is felt by the other side at once, as that of a process is."""
        ways: list[asyncio.Task[None]] = []
        writers = [writer]
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.append(target_writer)
            ways = [
                asyncio.create_task(_copy(reader, target_writer, lambda: 0.0)),
                asyncio.create_task(_copy(target_reader, writer, lambda: self.delay_s)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            return  # nobody listens there now
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in writers:
                each.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: Callable[[], float]) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_MAX)
    writing = asyncio.create_task(_write_when_due(waiting, writer))
    try:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                await waiting.put((loop.time() + delay_s(), piece))
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def _write_when_due(waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, piece = await waiting.get()
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        writer.write(piece)
        await writer.drain()
