"""Large webhook bodies are split in processes of their own, so that nobody else waits while a hostile one takes seconds.

A thread would not do: a decoder holds Python's interpreter for as long as a whole body takes it, and the bodies of all others stand still.
Bodies of the size of a real batch do not wait behind larger ones: they have a process for themselves. A process is started when it is
needed, takes one body after the other, and ends when there was none for a minute: what a hostile body made it take it would keep.

On the process's input: 4 bytes of length (big-endian), 8 bytes of the time it was received (ms), the body. On its output: 4 bytes of
length, an `_Answer` in MessagePack. It ends when its input does.
"""

import asyncio
import contextlib
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import msgspec

from schemas.channels import CHANNELS
from schemas.channels.base import BodyRefusedError, Part

BATCH_BYTES = 512 * 1024
"""What the platform's largest batch, 1,000 updates, needs."""

_ASKED = struct.Struct(">Iq")
_ANSWERED = struct.Struct(">I")
_IDLE_S = 60.0
# Whoever posts small bodies comes first on a machine that is busy.
_NICE = 10


class SplittingEndedError(Exception):
    """The process ended before it had answered."""


class _Answer(msgspec.Struct):
    """The parts of a body, or why it is refused."""

    parts: list[Part] = []
    refused: str | None = None


class Splitting:
    """Splits the large bodies of one channel; `close` ends its processes, and `idle_s` seconds without a body end each."""

    def __init__(self, channel: str, *, idle_s: float = _IDLE_S) -> None:
        self._batches = _SplittingProcess(channel, idle_s)
        self._larger = _SplittingProcess(channel, idle_s)

    async def split(self, body: bytes, *, received_at_ms: int) -> list[Part]:
        """Return the parts of a body, at least one; BodyRefusedError if it is not JSON, SplittingEndedError if nobody can tell."""
        process = self._batches if len(body) <= BATCH_BYTES else self._larger
        return await process.split(body, received_at_ms=received_at_ms)

    def close(self) -> None:
        """End the processes; bodies that they have are answered SplittingEndedError."""
        self._batches.close()
        self._larger.close()


class _SplittingProcess:
    """One process, started when it is needed, and again when it has ended."""

    def __init__(self, channel: str, idle_s: float) -> None:
        self._channel = channel
        self._idle_s = idle_s
        self._idle: asyncio.TimerHandle | None = None
        self._bodies = 0
        self._is_closed = False
        self._process: subprocess.Popen[bytes] | None = None
        # Its one thread waits for the process, and so do the bodies that come meanwhile.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="splitting")

    async def split(self, body: bytes, *, received_at_ms: int) -> list[Part]:
        loop = asyncio.get_running_loop()
        if self._idle is not None:
            self._idle.cancel()
        self._bodies += 1
        try:
            answer = await loop.run_in_executor(self._thread, self._ask, body, received_at_ms)
        finally:
            self._bodies -= 1
            if not (self._bodies or self._is_closed):
                # In the thread that asks it: never while it has a body.
                self._idle = loop.call_later(self._idle_s, self._thread.submit, self._rest)
        if answer.refused is not None:
            raise BodyRefusedError(answer.refused)
        return answer.parts

    def close(self) -> None:
        self._is_closed = True
        if self._idle is not None:
            self._idle.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._process is not None:
            self._process.kill()
        self._thread.shutdown()
        if self._process is not None:
            _end(self._process)

    def _rest(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _ask(self, body: bytes, received_at_ms: int) -> _Answer:
        process = self._process
        if process is not None and process.poll() is not None:
            _end(process)
            process = None
        if process is None:
            process = self._process = _start(self._channel)
        if process.stdin is None or process.stdout is None:
            raise SplittingEndedError
        try:
            process.stdin.write(_ASKED.pack(len(body), received_at_ms) + body)
            process.stdin.flush()
            (size,) = _ANSWERED.unpack(_exactly(process.stdout, _ANSWERED.size))
            return msgspec.msgpack.decode(_exactly(process.stdout, size), type=_Answer)
        except (OSError, EOFError):
            process.kill()
            process.wait()
            raise SplittingEndedError from None


def _start(channel: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", __name__, channel]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  # our own program


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what it was to be told
                stream.close()


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Return so many bytes; EOFError if the stream ends before."""
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _main() -> None:
    """Answer bodies until there are no more; end at once when the ingress has ended, also in the middle of a body."""
    os.nice(_NICE)
    # A Ctrl-C is meant for the ingress, which has bodies to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    split = CHANNELS[sys.argv[1]].split
    waiting: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(waiting,), daemon=True).start()
    while True:
        body, received_at_ms = waiting.get()
        try:
            answer = _Answer(parts=split(body, received_at_ms=received_at_ms))
        except BodyRefusedError as error:
            answer = _Answer(refused=str(error))
        data = msgspec.msgpack.encode(answer)
        sys.stdout.buffer.write(_ANSWERED.pack(len(data)) + data)
        sys.stdout.buffer.flush()


def _read(waiting: queue.SimpleQueue[tuple[bytes, int]]) -> None:
    stream = sys.stdin.buffer
    try:
        while True:
            size, received_at_ms = _ASKED.unpack(_exactly(stream, _ASKED.size))
            waiting.put((_exactly(stream, size), received_at_ms))
    except EOFError:
        os._exit(0)


if __name__ == "__main__":
    _main()
