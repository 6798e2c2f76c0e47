"""A body leaves only while its claim is good: also when the process was paused between the broker's answer and the bytes."""

import time

import pytest
from aiohttp.abc import AbstractStreamWriter

from infra.kafka.consumer import LostPartitionError
from sinks.claimed_body import ClaimedBody

BODY = b'{"type":"text"}'


class Connection(AbstractStreamWriter):
    """Collects what is written."""

    def __init__(self) -> None:
        self.written = b""

    async def write(self, chunk: bytes | bytearray | memoryview, *_: object, **__: object) -> None:
        self.written += bytes(chunk)

    async def write_eof(self, chunk: bytes = b"") -> None:
        self.written += chunk

    async def drain(self) -> None:
        """Nothing waits."""

    def enable_compression(self, *_: object, **__: object) -> None:
        raise NotImplementedError

    def enable_chunking(self) -> None:
        raise NotImplementedError

    async def write_headers(self, *_: object) -> None:
        raise NotImplementedError


async def test_a_claim_that_ran_out_during_a_pause_is_made_again() -> None:
    """Paused between asking for the claim and the bytes: the claim is asked for again, and refused if others went on meanwhile."""
    asked = 0

    async def claim() -> float:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise LostPartitionError
        until = time.monotonic() + 0.05
        time.sleep(0.1)  # noqa: ASYNC251  # the whole process stands still
        return until

    body, connection = ClaimedBody(BODY, claim=claim, begins=lambda: None), Connection()
    with pytest.raises(LostPartitionError):
        await body.write_with_length(connection, None)
    assert (asked, connection.written, body.left) == (2, b"", False)


async def test_a_good_claim_lets_the_body_leave_once_it_is_noted() -> None:
    """Claimed, noted as begun, then written."""
    steps: list[str] = []

    async def claim() -> float:
        steps.append("claimed")
        return time.monotonic() + 60

    body, connection = ClaimedBody(BODY, claim=claim, begins=lambda: steps.append("begun")), Connection()
    await body.write_with_length(connection, None)
    assert (steps, connection.written, body.left) == (["claimed", "begun"], BODY, True)
