"""infra.supervisor.late_stream: a reader that stands still, or has gone, holds up nobody."""

import os
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from infra.supervisor.late_stream import LateStream

LINE = "x" * 999 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Return both ends of a pipe, which takes some 64 KiB that nobody reads."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as stream:
        yield read_end, stream


def test_a_reader_that_stands_still_holds_up_nobody(pipe: tuple[int, TextIO]) -> None:
    """All is taken at once; once it reads on it gets the lines in order, and is told how many are left out."""
    read_end, stream = pipe
    late = LateStream(stream, size_max=50 * len(LINE))
    for _ in range(200):
        late.write(LINE)
        late.drain(0.001)
    late.write("the last one\n")
    read = bytearray()

    def everything() -> None:
        while b"left out" not in read:
            read.extend(os.read(read_end, 1 << 20))

    reading = threading.Thread(target=everything)
    reading.start()
    reading.join(20)
    late.drain(20)
    *lines, told = read.decode().splitlines()
    assert all(line + "\n" == LINE for line in lines)
    assert 50 <= len(lines) < 200
    assert told == f"({201 - len(lines)} lines are left out: nobody read them)"
    late.write("one more\n")
    late.drain(20)
    assert os.read(read_end, 100) == b"one more\n"
    os.close(read_end)


def test_a_reader_that_has_gone_is_told_of_once(pipe: tuple[int, TextIO]) -> None:
    """When the reader has gone away, somebody is told, once, and later lines are dropped."""
    read_end, stream = pipe
    os.close(read_end)
    gone = threading.Event()
    told: list[int] = []

    def broken() -> None:
        told.append(1)
        gone.set()

    late = LateStream(stream, on_broken=broken)
    late.write("one\n")
    assert gone.wait(20)
    late.write("two\n")
    late.drain(0.1)
    assert told == [1]
