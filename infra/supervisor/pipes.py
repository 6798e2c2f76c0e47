"""Read the lines of a child from a pipe, without letting one endless line or one silent reader do harm."""

import asyncio
import os
from collections.abc import Callable

_CHUNK_BYTES = 65536
_LONGEST_LINE_BYTES = 256 * 1024


class LinePipe:
    """A pipe whose write end goes to a child and whose lines go to `on_line`; a longer line comes in pieces."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._rest = b""
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._read_end, self._read)

    def handed_over(self) -> None:
        """Close our copy of the write end: the child has its own, and the end of the lines is the end of the last copy."""
        os.close(self.write_end)

    async def drain(self, *, patience_s: float) -> None:
        """Wait until every line was read, but not for ever: a grandchild may hold the pipe open."""
        try:
            async with asyncio.timeout(patience_s):
                await self._ended.wait()
        except TimeoutError:
            self._read()
            self._close()

    def _read(self) -> None:
        if self._ended.is_set():
            return
        try:
            data = os.read(self._read_end, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._close()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._on_line(self._rest)
            self._rest = b""

    def _close(self) -> None:
        if self._ended.is_set():
            return
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)
        self._ended.set()
        if self._rest:
            self._on_line(self._rest)
            self._rest = b""
