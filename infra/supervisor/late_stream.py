"""A stream whose reader may stand still: a terminal that was stopped with Ctrl-S, a pager on its first page.

Whoever waited for that reader would not see Ctrl-C or a role that died, and roles whose lines nobody takes would stand still with it.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

_SIZE_MAX = 4 << 20


class LateStream:
    """Takes text at once, and writes it from a thread of its own to what is behind `stream`.

    What is too much (over `size_max` characters wait) is dropped, and a line says how many lines that were once the reader goes on.
    `on_broken` is called, in that thread, when the reader has gone away.
    """

    def __init__(self, stream: TextIO, *, on_broken: Callable[[], None] = lambda: None, size_max: int = _SIZE_MAX) -> None:
        stream.flush()
        # Past Python's own buffer: its lock would be held by a thread that waits, and the process could not end.
        self._file, self._encoding = stream.fileno(), stream.encoding or "utf-8"
        self._on_broken, self._size_max = on_broken, size_max
        self._waiting: deque[str] = deque()
        self._size = self._dropped = 0
        self._is_writing = False
        self._moved = threading.Condition()
        threading.Thread(target=self._run, name="stream", daemon=True).start()

    def write(self, text: str) -> int:
        """Take text that ends with a line."""
        with self._moved:
            if self._size + len(text) <= self._size_max:
                self._waiting.append(text)
                self._size += len(text)
                self._moved.notify_all()
            else:
                self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: it is written as soon as somebody reads."""

    def drain(self, within_s: float) -> None:
        """Wait until all is written, but no longer than that."""
        until = time.monotonic() + within_s
        with self._moved:
            while (self._waiting or self._is_writing) and (left_s := until - time.monotonic()) > 0:
                self._moved.wait(left_s)

    def _run(self) -> None:
        while True:
            with self._moved:
                self._is_writing = False
                self._moved.notify_all()
                while not self._waiting:
                    self._moved.wait()
                texts = [*self._waiting]
                if self._dropped:
                    texts.append(f"({self._dropped} lines are left out: nobody read them)\n")
                self._waiting.clear()
                self._size, self._dropped, self._is_writing = 0, 0, True
            try:
                self._put("".join(texts).encode(self._encoding, "backslashreplace"))
            except OSError:
                with self._moved:
                    self._is_writing, self._size_max = False, 0
                    self._waiting.clear()
                    self._moved.notify_all()
                self._on_broken()
                return

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            with contextlib.suppress(BlockingIOError):  # somebody made the terminal non-blocking
                left = left[os.write(self._file, left[: 1 << 16]) :]
                continue
            time.sleep(0.01)
