"""A request leaves only while its claim is good: also when the process was paused between the broker's answer and the bytes."""

import time

import pytest

from infra.kafka.commits import LostPartitionError
from infra.post_client import ClosedError
from sinks.claimed_request import ClaimedRequest

REQUEST = b'POST / HTTP/1.1\r\nContent-Length: 15\r\n\r\n{"type":"text"}'


class Connection:
    """Collects what is written; a closed one takes nothing."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.written = b""
        self._is_closed = is_closed

    def write(self, request: bytes) -> None:
        if self._is_closed:
            raise ClosedError
        self.written += request


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

    request, connection = ClaimedRequest(REQUEST, claim=claim, begins=lambda: None), Connection()
    with pytest.raises(LostPartitionError):
        await request.leave(connection)
    assert (asked, connection.written, request.left) == (2, b"", False)


async def test_a_good_claim_lets_the_request_leave_once_it_is_noted() -> None:
    """Claimed, noted as begun, then written."""
    steps: list[str] = []

    async def claim() -> float:
        steps.append("claimed")
        return time.monotonic() + 60

    request, connection = ClaimedRequest(REQUEST, claim=claim, begins=lambda: steps.append("begun")), Connection()
    await request.leave(connection)
    assert (steps, connection.written, request.left) == (["claimed", "begun"], REQUEST, True)


async def test_nothing_leaves_over_a_closed_connection() -> None:
    """Closed while the claim was made: nothing was sent, and that is known."""

    async def claim() -> float:
        return time.monotonic() + 60

    request, connection = ClaimedRequest(REQUEST, claim=claim, begins=lambda: None), Connection(is_closed=True)
    with pytest.raises(ClosedError):
        await request.leave(connection)
    assert not request.left
