"""streams.raw_source: what ended the membership in the group is told."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaError

from infra.settings import Settings
from streams.app import create_app


async def test_a_membership_that_ended_is_told(tmp_path: Path) -> None:
    """The routine of aiokafka ended with an error: the source says it; before Faust has started there is nothing to say."""
    app = create_app(Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", topic_prefix="t-", _env_file=None))
    app.source.check()
    routine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    app.consumer._thread._consumer = SimpleNamespace(_coordinator=SimpleNamespace(_coordination_task=routine))
    app.source.check()
    routine.set_exception(KafkaError("the routine ended"))
    with pytest.raises(KafkaError, match="the routine ended"):
        app.source.check()
