"""Lines from a child's pipe."""

import os

from infra.supervisor.pipes import LinePipe


async def test_lines_come_whole_and_the_last_without_its_end_too() -> None:
    """Lines cut over several writes are put together, and what is left at the end is a line."""
    lines: list[bytes] = []
    pipe = LinePipe(lines.append)
    for piece in (b"one\ntw", b"o\nthr", b"ee"):
        os.write(pipe.write_end, piece)
    pipe.handed_over()
    await pipe.drain(patience_s=10)
    assert lines == [b"one", b"two", b"three"]


async def test_a_pipe_that_somebody_holds_is_not_waited_for() -> None:
    """When a grandchild keeps the pipe open, what was written is read and the pipe closed all the same."""
    lines: list[bytes] = []
    pipe = LinePipe(lines.append)
    held = os.dup(pipe.write_end)
    os.write(pipe.write_end, b"one\ntwo")
    pipe.handed_over()
    await pipe.drain(patience_s=0.01)
    os.close(held)
    assert lines == [b"one", b"two"]


async def test_an_endless_line_comes_in_pieces() -> None:
    """A line without end does not fill our memory: it is passed on piece by piece."""
    lines: list[bytes] = []
    pipe = LinePipe(lines.append)
    os.set_blocking(pipe.write_end, False)
    total = 0
    while total < 1_000_000:
        try:
            total += os.write(pipe.write_end, b"x" * 65536)
        except BlockingIOError:
            pipe._read()
    pipe.handed_over()
    await pipe.drain(patience_s=10)
    assert len(lines) > 1
    assert sum(map(len, lines)) == total
    assert max(map(len, lines)) < 400_000
