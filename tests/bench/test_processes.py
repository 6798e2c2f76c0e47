"""Processes of a run: what they use, that they end, and that one which ends by itself is noticed."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from infra.bench.processes import Child, Meter
from infra.errors import OttlaError

BUSY = "import time\nuntil = time.process_time() + 0.3\nwhile time.process_time() < until: pass\ntime.sleep(60)"


def child(tmp_path: Path, program: str) -> Child:
    """Return a child that runs a program."""
    return Child(name="it", words=("-c", program), environment=dict(os.environ), log=tmp_path / "it.log", port=1)


async def test_processor_time_is_counted_by_name(tmp_path: Path) -> None:
    one, meter = child(tmp_path, BUSY), Meter()
    one.start()
    try:
        meter.add("both", one.pid)
        meter.add("nothing", 2**22 + 1)
        until = time.monotonic() + 60
        while meter.cpu_s()["both"] < 0.3 and time.monotonic() < until:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)
        assert 0.3 <= meter.cpu_s()["both"] < 1.5
        assert meter.memory_mb()["both"] > 5
        assert meter.cpu_s()["nothing"] == 0
        meter.remove("both", one.pid)
        assert meter.cpu_s()["both"] == 0
    finally:
        await one.stop()
    one.check()  # it was stopped: that is no surprise
    assert one.process is not None
    assert one.process.poll() is not None


async def test_one_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    one = child(tmp_path, "import sys\nsys.exit('the port is taken')")
    one.start()
    with pytest.raises(OttlaError, match="ended by itself: the port is taken"):
        await one.ready(patience_s=60)


async def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    one = child(tmp_path, "import time\ntime.sleep(60)")
    one.start()
    try:
        with pytest.raises(OttlaError, match="was not ready within 0 s"):
            await one.ready(patience_s=0.2)
    finally:
        await one.stop()
