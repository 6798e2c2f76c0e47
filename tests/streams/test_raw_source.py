"""streams.raw_source: what Faust's own consumer commits is what the host says, whatever Faust thinks was acknowledged."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from faust.types import TP

from infra.settings import Settings
from streams.app import create_app
from streams.raw_source import Write


async def test_faust_commits_what_the_host_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer and its stop commit the host's positions and nothing of its own; what the broker refused is committed the next time."""
    app = create_app(Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", topic_prefix="t-", _env_file=None))
    positions = {0: 7, 3: 12}

    async def commit(write: Write) -> bool:
        return await write(positions)

    monkeypatch.setattr(app.host, "commit", commit)
    consumer = app.consumer
    written: list[Mapping[TP, int]] = []
    answers = [False, True]

    async def commit_offsets(offsets: Mapping[TP, int], **_: object) -> bool:
        written.append(offsets)
        return answers[len(written) - 1]

    monkeypatch.setattr(consumer, "_commit_offsets", commit_offsets)
    mine = TP("t-raw", 0)
    consumer._acked[mine].append(99)  # what Faust takes for acknowledged
    await consumer._add_gap(mine, 7, 98)
    assert not await consumer.commit()
    assert await consumer.commit()
    assert written == [{TP("t-raw", 0): 7, TP("t-raw", 3): 12}] * 2
